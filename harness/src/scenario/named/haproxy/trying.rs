//! What is tried of every command of the server, beside asking for it.

use std::sync::LazyLock;

use layers_trace::Trial;

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Tried};
use super::{session, with};
use crate::version::Version;

/// More objects of each kind than fit into a buffer of 2 KiB.
const MANY: usize = 40;

/// The beginning of the configurations.
const BEGINNING: &str = include_str!("../../../../../fixtures/haproxy/much.cfg");

/// A configuration with many objects of each kind that `show` lists, but for those that have a scenario of their own.
static MUCH: LazyLock<String> = LazyLock::new(|| {
    let each = (1..=MANY).map(|n| {
        format!(
            "
global
    setenv LAYERS_{n} \"a variable of the environment with some text\"
ring ring{n}
    format short
    size 32764
    description \"a ring of many\"
frontend front{n}
    bind unix@{{dir}}/front{n}
    acl known path -f {{dir}}/acl{n}
    http-request set-header X-Map %[path,map({{dir}}/map{n})] if known
    default_backend shelf{n}
backend shelf{n}
    stick-table type ip size 1k expire 1h store gpc0
    server one 127.0.0.1:1 disabled
"
        )
    });
    let one = "\nresolvers names\n    nameserver one 127.0.0.1:1\n";
    format!("{BEGINNING}{}{one}", each.collect::<String>())
});

/// With more name servers than fit into one buffer.
static RESOLVERS: LazyLock<String> = LazyLock::new(|| {
    let each = (1..=MANY * 3).map(|n| format!("    nameserver number{n} 127.0.0.1:{n}\n"));
    format!("{BEGINNING}\nresolvers names\n{}", each.collect::<String>())
});

/// With more caches than fit into a small one.
static CACHES: LazyLock<String> = LazyLock::new(|| {
    let each = (1..=MANY).map(|n| format!("\ncache cache{n}\n    total-max-size 1\n"));
    format!("{BEGINNING}{}", each.collect::<String>())
});

/// What makes the buffers of a server small, and the room in the sockets of its clients.
const SMALL: &str = "tune.bufsize 2048\n    tune.maxrewrite 256\n    tune.sndbuf.client 4096";
/// Buffers as they are, and little room behind them.
const USUAL: &str = "tune.sndbuf.client 4096";

pub(super) fn all() -> Vec<Scenario> {
    let sweep = |name: &str, about: &'static str, configuration: &'static str, buffers, steps| {
        with(session(format!("sweep/{name}"), about, steps), |session| {
            session.configuration = configuration;
            session.buffers = buffers;
        })
        .unordered()
    };
    let whole = |tried| vec![SessionStep::Try(Trial::Whole, tried)];
    let plain = |name: &str, about: &'static str, trial: Trial| {
        sweep(name, about, BEGINNING, "", vec![SessionStep::Try(trial, Tried::Found)])
    };
    let mut all = vec![
        sweep(
            "whole",
            "every command that dumps, read at once and slowly, against buffers that hold its answer",
            &MUCH,
            USUAL,
            whole(Tried::Found),
        ),
        sweep("whole-small", "the same through small buffers", &MUCH, SMALL, whole(Tried::Found)),
        sweep(
            "resolvers",
            "the same of name servers, more than fit into one buffer",
            &RESOLVERS,
            USUAL,
            whole(Tried::Only("show resolvers")),
        ),
        sweep(
            "cached",
            "the same of pages in a cache, more than fit into a small buffer",
            BEGINNING,
            SMALL,
            whole(Tried::Only("show cache")),
        ),
        sweep(
            "caches",
            "the same of caches, more than fit into a small buffer",
            &CACHES,
            SMALL,
            whole(Tried::Only("show cache")),
        ),
        sweep(
            "changed",
            "every command that dumps, twice at once, while what it shows is changed",
            &MUCH,
            SMALL,
            vec![SessionStep::Try(Trial::Changed, Tried::Found)],
        ),
        with(
            sweep(
                "changed-uaf",
                "the same where memory that is used after it was freed ends the server",
                &MUCH,
                SMALL,
                vec![SessionStep::Try(Trial::Changed, Tried::Found)],
            ),
            |session| {
                session.arguments = &["-dMuaf"];
                session.since = USE_AFTER_FREE;
            },
        ),
        plain("waiting", "every command that changes something, while requests wait", Trial::Waiting),
        plain("refused", "every command again after arguments that are refused", Trial::AfterRefused),
        plain("rounds", "every command in rounds, complete and aborted", Trial::Counted),
        plain("restricted", "commands that the manual restricts, at lower levels", Trial::Restricted),
        plain("changing", "commands that change something, at level user", Trial::Changing),
    ];
    all.extend(own());
    all
}

/// What a command breaks that never ends, beside that its client cannot have it released.
const WAITS_CHANGED: &[&str] = &["answer.while-changed", "release.eventually"];
const WAITS_WAITING: &[&str] = &["answer.while-waiting", "release.eventually"];

/// The first version whose packages can tell memory that is used after it was freed.
const USE_AFTER_FREE: Version = Version(2, 8, 0);

/// Commands of the harness's own: some that do nothing wrong, and one that breaks each rule.
fn own() -> Vec<Scenario> {
    let one = |name: &str, about: &'static str, trials: &[(Trial, &'static str)]| {
        let steps = trials.iter().map(|(trial, command)| SessionStep::Try(*trial, Tried::Own(command)));
        let scenario = session(format!("own/{name}"), about, steps.collect());
        with(scenario, |session| {
            session.configuration = BEGINNING;
            session.buffers = SMALL;
        })
        .unordered()
    };
    let bad = |name: &str, trial: Trial, command: &'static str, breaks: &'static [&'static str]| {
        one(name, "a keyword of the harness's own that breaks a rule", &[(trial, command)]).breaking(breaks)
    };
    vec![
        one(
            "tried",
            "what is tried of every command, of a few that do nothing wrong",
            &[
                (Trial::Whole, "layers long"),
                (Trial::AfterRefused, "layers plain"),
                (Trial::Counted, "layers plain"),
                (Trial::Restricted, "show env"),
                (Trial::Changing, "disable health shop/one"),
                (Trial::Changed, "layers long"),
                (Trial::Waiting, "layers plain"),
            ],
        ),
        bad("bad-short", Trial::Whole, "layers bad-short", &["answer.whole"]),
        bad(
            "bad-refused",
            Trial::AfterRefused,
            "layers bad-refused",
            &["answer.after-refused", "release.eventually"],
        ),
        bad("bad-leak", Trial::Counted, "layers bad-leak", &["command.leaves-nothing"]),
        bad("bad-restricted", Trial::Restricted, "layers clear", &["level.restricted"]),
        bad("bad-while-changed", Trial::Changed, "layers wait", WAITS_CHANGED),
        bad("bad-while-waiting", Trial::Waiting, "layers wait", WAITS_WAITING),
        bad("bad-changing", Trial::Changing, "layers clear", &["level.changing"]),
    ]
}
