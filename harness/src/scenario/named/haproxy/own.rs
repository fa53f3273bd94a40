//! Keywords of the harness's own: those that do what built-in ones do not, and those that break a rule each.

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Socket, ask};
use super::{CONTEXTS, SERVICE, session, waiting, with};
use crate::client::http::get;

pub(super) fn all() -> Vec<Scenario> {
    [good(), bad()].concat()
}

fn good() -> Vec<Scenario> {
    const KEYWORDS: &[&str] = &[
        "reserve",
        "reserve-again",
        "reserve-most",
        "reserve-late",
        "dirty",
        "own-memory",
        "own-memory-fails",
        "print",
        "legacy",
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
    all.push(
        with(dies, |session| {
            session.dies = true;
            session.since = CONTEXTS;
        })
        .unordered(),
    );
    all
}

/// Keywords of the harness's own, each with the rules that it breaks: what is noticed on a server that is sound.
const BAD: &[(&str, &[&str])] = &[
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
    ("bad-context-first", &["appctx.svcctx.null-at-first-io"]),
    ("bad-context-release", &["appctx.svcctx.preserved-to-release"]),
    ("bad-bytes", &["appctx.storage.bytes"]),
    (
        "bad-parse-again",
        &[
            "appctx.svcctx.null-at-parse",
            "appctx.storage.zero-at-start",
            "appctx.st2.zero-at-start",
            "release.order",
        ],
    ),
    ("bad-reserve", &["appctx.reserve.returns-storage"]),
    ("bad-survivor", &["appctx.reserve.oversize-crashes"]),
    ("bad-own-memory", &["appctx.dynamic.left-alone"]),
    ("bad-print-context", &["appctx.print.resets-to-print-ctx"]),
    ("bad-legacy", &["appctx.legacy.ctx-cli-maps"]),
];

/// The same for services behind HTTP. Some servers release those that could not begin.
const BAD_SERVICES: &[(&str, &[&str])] = &[
    ("bad-context", &["appctx.applet.preserved"]),
    ("bad-begin", &["appctx.applet.null-at-init", "applet.release-not-after-failed-init"]),
    ("bad-thread", &["applet.one-thread", "applet.release-not-after-failed-init"]),
    ("bad-release", &["applet.release-not-after-failed-init", "applet.released-once"]),
    ("bad-release-again", &["applet.released-once", "applet.release-not-after-failed-init"]),
    ("bad-late", &["applet.no-call-after-release"]),
];

fn bad() -> Vec<Scenario> {
    let about = "a keyword of the harness's own that breaks a rule";
    let one = |(name, breaks): &(&str, &'static [&'static str])| {
        session(format!("own/{name}"), about, vec![ask(&format!("layers {name}"))]).breaking(breaks)
    };
    let mut all: Vec<Scenario> = BAD.iter().map(one).collect();
    all.extend(BAD_SERVICES.iter().map(service));
    all.extend([bad_print(), deaf(), lost_release()]);
    all.into_iter().map(Scenario::unordered).collect()
}

fn service((name, breaks): &(&str, &'static [&'static str])) -> Scenario {
    let steps = vec![
        SessionStep::Connect(1, Socket::Http),
        SessionStep::Send(1, get(&format!("/{name}"), true)),
        SessionStep::ReadToEnd(1),
    ];
    let about = "a service of the harness's own that breaks a rule";
    let scenario = session(format!("own/service-{name}"), about, steps).breaking(breaks);
    with(scenario, |session| session.configuration = SERVICE)
}

fn bad_print() -> Scenario {
    let mut steps = waiting("layers bad-print");
    steps.push(SessionStep::HangUp(1));
    let about = "a keyword of the harness's own that breaks a rule";
    // What the server makes of it is not promised.
    session("own/bad-print", about, steps).breaking(&[
        "appctx.print.terminal",
        "appctx.svcctx.preserved",
        "appctx.svcctx.preserved-to-release",
        "appctx.storage.bytes",
        "release.eventually",
        "release.order",
    ])
}

fn deaf() -> Scenario {
    let mut steps = waiting("layers wait");
    steps.push(SessionStep::HangUp(1));
    let about = "a handler that never looks whether its client has gone";
    session("own/deaf", about, steps).breaking(&["release.eventually"])
}

fn lost_release() -> Scenario {
    let mut steps = waiting("layers bad-lost-release");
    steps.extend([SessionStep::ShutDownSessions, SessionStep::Released, SessionStep::HangUp(1)]);
    let about = "a command that is forgotten when its session is shut down";
    session("own/bad-lost-release", about, steps).breaking(&["release.on-disconnect", "release.eventually"])
}
