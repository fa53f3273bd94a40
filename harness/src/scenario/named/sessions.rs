//! Sessions with HAProxy: commands, clients that leave, masters and workers, HTTP.

use super::super::session::{Session, SessionStep, Socket, ask};
use super::super::{Ending, Scenario};
use crate::run::Start;
use crate::stack::Stack;

/// What most run.
const PLAIN: &str = include_str!("../../../../fixtures/haproxy/plain.cfg");
/// Much to show, in small pieces: a handler stops after the same few calls each time, when nobody reads.
const SMALL: &str = include_str!("../../../../fixtures/haproxy/small.cfg");

/// With the harness's own service, which only its instrument provides.
const SERVICE: &str = include_str!("../../../../fixtures/haproxy/service.cfg");

/// Keywords whose answer may come in several calls.
const DUMPS: &[(&str, &str)] = &[
    ("stat", "show stat"),
    ("stat-json", "show stat json"),
    ("stat-typed", "show stat typed"),
    ("info", "show info desc"),
    ("info-json", "show info json"),
    ("schema", "show schema json"),
    ("servers-state", "show servers state"),
    ("servers-conn", "show servers conn"),
    ("backend", "show backend"),
    ("sessions", "show sess all"),
    ("table", "show table shop"),
    ("map", "show map {dir}/map"),
    ("acl", "show acl {dir}/acl"),
    ("pools", "show pools"),
    ("activity", "show activity"),
    ("fd", "show fd"),
    ("env", "show env"),
    ("tasks", "show tasks"),
    ("profiling", "show profiling"),
    ("threads", "show threads"),
    ("errors", "show errors"),
    ("resolvers", "show resolvers"),
    ("peers", "show peers"),
    ("cache", "show cache"),
    ("events", "show events ring"),
    ("trace", "show trace"),
    ("certificates", "show ssl cert"),
    ("libs", "show libs"),
    ("sockets", "show cli sockets"),
    ("clear-table", "clear table shop"),
    ("own-rounds", "layers rounds"),
];

fn session(name: impl Into<String>, about: &'static str, steps: Vec<SessionStep>) -> Scenario {
    let session = Session { configuration: PLAIN, arguments: &[], steps, dies: false };
    Scenario { session: Some(session), ..Scenario::new(name, about, Stack::reference(0)) }
}

/// With something else than the plain session has.
fn with(mut scenario: Scenario, change: impl FnOnce(&mut Session)) -> Scenario {
    if let Some(session) = &mut scenario.session {
        change(session);
    }
    scenario
}

fn send(client: u32, text: &str) -> SessionStep {
    SessionStep::Send(client, text.to_owned())
}

pub(super) fn all() -> Vec<Scenario> {
    [single(), sessions(), leaving(), own(), bad(), masters(), http(), endings(), memory()].concat()
}

fn single() -> Vec<Scenario> {
    let one = |name: &str, command: &str| {
        session(format!("cli/{name}"), "one command, and its whole answer", vec![ask(command)])
    };
    vec![
        one("plain", "layers plain"),
        one("info", "show info"),
        one("stat", "show stat"),
        one("unparsed", "layers released"),
        one("unknown", "no such command"),
        one("incomplete", "set server"),
        one("chain-of-two", "show info;layers reserve"),
        one("chain-of-three", "layers own-memory;show stat;layers reserve"),
        session(
            "cli/payload",
            "a command with a payload",
            vec![ask("add map {dir}/map <<\nkey value\nother value\n")],
        ),
        session(
            "cli/every-keyword",
            "every keyword, with sensible arguments",
            vec![SessionStep::EveryKeyword { complete: true }],
        )
        .unordered(),
        session(
            "cli/every-keyword/incomplete",
            "every keyword, without arguments",
            vec![SessionStep::EveryKeyword { complete: false }],
        )
        .unordered(),
    ]
}

fn sessions() -> Vec<Scenario> {
    let refused = "disable server shop/one;set weight shop/one 1;show info;layers reserve";
    vec![
        session(
            "cli/prompt",
            "several commands on one connection, one after the other",
            vec![
                SessionStep::Connect(1, Socket::Cli),
                send(1, "prompt\n"),
                SessionStep::ReadUntil(1, "> "),
                send(1, "layers dirty\n"),
                SessionStep::ReadUntil(1, "> "),
                send(1, "layers plain\n"),
                SessionStep::ReadUntil(1, "> "),
                send(1, "show stat\n"),
                SessionStep::ReadUntil(1, "> "),
                send(1, "layers own-memory;layers released\n"),
                SessionStep::ReadUntil(1, "> "),
                send(1, "quit\n"),
                SessionStep::ReadToEnd(1),
            ],
        )
        .unordered(),
        session(
            "cli/level",
            "commands that the level of the connection does not allow",
            vec![
                SessionStep::Ask(Socket::User, refused.to_owned()),
                SessionStep::Ask(Socket::Operator, refused.to_owned()),
            ],
        )
        .unordered(),
        session(
            "cli/half-close",
            "a client that sends nothing more while its command runs",
            vec![
                SessionStep::Connect(1, Socket::Cli),
                send(1, "show stat\n"),
                SessionStep::HalfClose(1),
                SessionStep::ReadToEnd(1),
            ],
        )
        .unordered(),
        session(
            "cli/many",
            "many clients at the same time, on several threads",
            vec![SessionStep::Crowd {
                clients: 16,
                commands: [
                    "show info",
                    "layers own-memory;show stat",
                    "layers dirty;layers plain",
                    "show pools",
                ]
                .map(str::to_owned)
                .into(),
            }],
        )
        .unordered(),
    ]
}

fn leaving() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = ["wait", "wait-own", "wait-null"].map(shut_down).into();
    all.extend(DUMPS.iter().map(|(name, command)| {
        let steps = vec![
            SessionStep::LeaveAtEveryCall((*command).to_owned()),
            SessionStep::LeaveAtEveryCall(format!("{command};layers reserve")),
        ];
        let about =
            "a client that leaves after each call of a handler, alone and with a second command waiting";
        with(session(format!("leave-cli/{name}"), about, steps), |session| session.configuration = SMALL)
            .unordered()
    }));
    all
}

/// A keyword of the harness's own that waits, and never looks at its client.
fn waiting(command: &str) -> Vec<SessionStep> {
    vec![
        SessionStep::Connect(1, Socket::Cli),
        send(1, &format!("{command}\n")),
        // One call is that of the first command of every run.
        SessionStep::Handled(2),
    ]
}

fn shut_down(name: &str) -> Scenario {
    let mut steps = waiting(&format!("layers {name}"));
    steps.extend([SessionStep::ShutDownSessions, SessionStep::Released, SessionStep::HangUp(1)]);
    session(format!("shut-down/{name}"), "a session that is shut down while its command waits", steps)
        .unordered()
}

fn own() -> Vec<Scenario> {
    const KEYWORDS: &[&str] = &[
        "reserve",
        "reserve-again",
        "reserve-most",
        "reserve-late",
        "dirty",
        "own-memory",
        "own-memory-fails",
        "print",
        "print-after-own",
        "failing",
        "no-handler",
    ];
    let about = "a keyword of the harness's own, alone and before another";
    let mut all: Vec<Scenario> = KEYWORDS
        .iter()
        .map(|name| {
            let steps = vec![ask(&format!("layers {name}")), ask(&format!("layers {name};layers plain"))];
            session(format!("own/{name}"), about, steps).unordered()
        })
        .collect();
    let dies = session(
        "own/reserve-too-much",
        "a context that does not fit: the server stops on purpose",
        vec![SessionStep::Perhaps(Socket::Cli, "layers reserve-too-much".to_owned())],
    );
    all.push(with(dies, |session| session.dies = true).unordered());
    all
}

/// Keywords of the harness's own that break a rule: each is noticed.
fn bad() -> Vec<Scenario> {
    const KEYWORDS: &[(&str, &[&str])] = &[
        ("bad-linked", &["release.no-linked-storage"]),
        ("bad-release-twice", &["release.at-most-once", "release.order"]),
        (
            "bad-after-release",
            &[
                "release.order",
                "release.at-most-once",
                "appctx.svcctx.null-at-first-io",
                "appctx.storage.zero-at-start",
            ],
        ),
        ("bad-release-after-failure", &["release.not-after-failed-parse"]),
        ("bad-context", &["appctx.svcctx.preserved"]),
    ];
    let about = "a keyword of the harness's own that breaks a rule";
    let one = |(name, breaks): &(&str, &'static [&'static str])| {
        session(format!("own/{name}"), about, vec![ask(&format!("layers {name}"))])
            .unordered()
            .breaking(breaks)
    };
    let mut all: Vec<Scenario> = KEYWORDS.iter().map(one).collect();
    let mut steps = waiting("layers bad-print");
    steps.push(SessionStep::HangUp(1));
    // What the server makes of it is not promised.
    let breaks = &[
        "appctx.print.terminal",
        "appctx.svcctx.preserved",
        "appctx.svcctx.preserved-to-release",
        "appctx.storage.bytes",
        "release.eventually",
        "release.order",
    ];
    all.push(session("own/bad-print", about, steps).unordered().breaking(breaks));
    let mut steps = waiting("layers wait");
    steps.push(SessionStep::HangUp(1));
    let about = "a handler that never looks whether its client has gone";
    all.push(session("own/deaf", about, steps).unordered().breaking(&["release.eventually"]));
    all
}

fn masters() -> Vec<Scenario> {
    let master = |scenario: Scenario| scenario.start(Start::MasterWorker).unordered();
    vec![
        master(session(
            "master/commands",
            "commands for the master, and through it for its worker",
            vec![
                ask("show info"),
                SessionStep::Ask(Socket::Master, "show proc".to_owned()),
                SessionStep::Ask(Socket::Master, "@1 show info;@1 layers own-memory".to_owned()),
                SessionStep::Ask(Socket::Master, "@master show version".to_owned()),
            ],
        )),
        with(
            master(session(
                "master/reload",
                "a new worker in the middle of a dump of the old one",
                vec![
                    SessionStep::Connect(1, Socket::Cli),
                    send(1, "show servers state\n"),
                    SessionStep::Handled(2),
                    SessionStep::Perhaps(Socket::Master, "reload".to_owned()),
                    SessionStep::ReadToEnd(1),
                ],
            )),
            |session| session.configuration = SMALL,
        ),
    ]
}

fn http() -> Vec<Scenario> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: layers\r\n\r\n");
    let last = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: layers\r\nConnection: close\r\n\r\n");
    let mut all = Vec::new();
    for (name, path) in [("stats", "/stats"), ("stats-csv", "/stats;csv"), ("metrics", "/metrics")] {
        all.push(session(
            format!("http/{name}/full"),
            "an applet's answer, read to its end",
            vec![
                SessionStep::Connect(1, Socket::Http),
                SessionStep::Send(1, last(path)),
                SessionStep::ReadToEnd(1),
            ],
        ));
        all.push(with(
            session(
                format!("http/{name}/early-close"),
                "an applet's answer, of which the client reads the beginning",
                vec![
                    SessionStep::Connect(1, Socket::Http),
                    SessionStep::Send(1, last(path)),
                    SessionStep::ReadBytes(1, 100),
                    SessionStep::HangUp(1),
                ],
            ),
            |session| session.configuration = SMALL,
        ));
        all.push(session(
            format!("http/{name}/pipelined"),
            "two requests at once",
            vec![
                SessionStep::Connect(1, Socket::Http),
                SessionStep::Send(1, get(path) + &last(path)),
                SessionStep::ReadToEnd(1),
            ],
        ));
    }
    let failing = session(
        "http/failing-init",
        "a service whose init fails",
        vec![
            SessionStep::Connect(1, Socket::Http),
            SessionStep::Send(1, last("/failing")),
            SessionStep::ReadToEnd(1),
        ],
    );
    all.push(with(failing, |session| session.configuration = SERVICE));
    all.into_iter().map(Scenario::unordered).collect()
}

fn endings() -> Vec<Scenario> {
    let dumping = || {
        vec![SessionStep::Connect(1, Socket::Cli), send(1, "show servers state\n"), SessionStep::Handled(2)]
    };
    let about = "SIGUSR1 in the middle of a dump: the server waits for its client, which leaves";
    let small = |session: &mut Session| session.configuration = SMALL;
    vec![
        with(session("stop/soft", about, dumping()).ending(Ending::Interrupt(libc::SIGUSR1)), small)
            .unordered(),
        with(session("stop/hard", "SIGTERM in the middle of a dump", dumping()), small)
            .ending(Ending::Cut(libc::SIGTERM))
            .unordered(),
        session("stop/hard-waiting", "SIGTERM while a command waits", waiting("layers wait-own"))
            .ending(Ending::Cut(libc::SIGTERM))
            .unordered(),
    ]
}

/// The same under the checks that the server has for its own memory, and with allocations that fail.
fn memory() -> Vec<Scenario> {
    let about = "every keyword, and clients that leave, under the server's checks of its memory";
    let steps = || {
        vec![
            ask("layers own-memory;layers dirty;show stat"),
            SessionStep::LeaveAtEveryCall("show servers state;layers reserve".to_owned()),
            SessionStep::EveryKeyword { complete: true },
        ]
    };
    vec![
        with(session("memory/integrity", about, steps()), |session| {
            session.arguments = &["-dMno-merge,integrity"];
            session.configuration = SMALL;
        })
        .unordered(),
        with(
            session(
                "memory/fail",
                "allocations that fail now and then",
                vec![ask("show info"), ask("layers own-memory")],
            ),
            |session| session.arguments = &["-dMfail"],
        )
        .unordered(),
    ]
}
