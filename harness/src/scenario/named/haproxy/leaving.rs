//! Clients that leave while a command of theirs runs, and sessions that are shut down then.

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Socket, ask};
use super::{SMALL, session, waiting, with};

/// Keywords whose answer may come in several calls.
pub const DUMPS: &[(&str, &str)] = &[
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
    ("clear-map", "clear map {dir}/map"),
    ("clear-acl", "clear acl {dir}/acl"),
    ("commit-map", "prepare map {dir}/map;commit map @1 {dir}/map"),
    ("commit-acl", "prepare acl {dir}/acl;commit acl @1 {dir}/acl"),
    ("get-map", "get map {dir}/map one"),
    ("get-acl", "get acl {dir}/acl one"),
    ("set-table", "set table shop key 127.0.0.1 data.gpc0 1"),
    ("crt-list", "show ssl crt-list"),
    ("add-crt-list", "add ssl crt-list none none"),
    ("ca-file", "show ssl ca-file"),
    ("crl-file", "show ssl crl-file"),
    ("commit-cert", "commit ssl cert none"),
    ("commit-ca-file", "commit ssl ca-file none"),
    ("commit-crl-file", "commit ssl crl-file none"),
    ("dump-cert", "dump ssl cert none"),
    ("ocsp-response", "show ssl ocsp-response"),
    ("ocsp-updates", "show ssl ocsp-updates"),
    ("providers", "show ssl providers"),
    ("sni", "show ssl sni"),
    ("tls-keys", "show tls-keys"),
    ("quic", "show quic"),
    ("counters", "debug counters"),
    ("stats-file", "dump stats-file"),
    ("own-rounds", "layers rounds"),
];

/// Keywords with a handler that no client leaves in the middle of, and why. The others are in [`DUMPS`].
pub const NOT_SWEPT: &[(&str, &str)] = &[
    ("@<relative pid>", "a prefix of the master's command line, not a command"),
    ("_loadstatus", "the master's own, for its other self"),
    ("show proc", "the master's alone: see master/commands"),
    ("debug dev fd", "for experts alone: it lists what is wrong with descriptors"),
    ("debug dev sched", "for experts alone"),
    ("httpclient", "asks a server over TCP"),
    ("wait", "answers nothing until its time is over"),
    ("acme status", "experimental, and without a section of its own"),
    ("add server", "waits for a server to be ready, and there is none"),
];

pub(super) fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = ["wait", "wait-own", "wait-null"].map(shut_down).into();
    let about = "a client that leaves at each call of every other keyword with a handler that the server has";
    let steps = vec![SessionStep::LeaveOthersAtEveryCall];
    let others = session("leave-cli/others".to_owned(), about, steps);
    all.push(with(others, |session| session.configuration = SMALL).unordered());
    all.extend(DUMPS.iter().map(|(name, command)| {
        let steps = [(*command).to_owned(), format!("{command};layers reserve")]
            .map(|commands| SessionStep::LeaveAtEveryCall(Socket::Cli, commands));
        let steps = filled(name).into_iter().chain(steps).collect();
        let about =
            "a client that leaves at each call of a handler that waits, alone and with a second command waiting";
        with(session(format!("leave-cli/{name}"), about, steps), |session| session.configuration = SMALL)
            .unordered()
    }));
    all
}

/// What there must be for the command to have much to show.
fn filled(name: &str) -> Vec<SessionStep> {
    match name {
        "table" | "clear-table" => {
            (1..=120).map(|n| ask(&format!("set table shop key 10.0.0.{n} data.gpc0 {n}"))).collect()
        }
        "sessions" => (1..=12).map(|client| SessionStep::Connect(client, Socket::Http)).collect(),
        _ => Vec::new(),
    }
}

fn shut_down(name: &str) -> Scenario {
    let mut steps = waiting(&format!("layers {name}"));
    steps.extend([SessionStep::ShutDownSessions, SessionStep::Released, SessionStep::HangUp(1)]);
    session(format!("shut-down/{name}"), "a session that is shut down while its command waits", steps)
        .unordered()
}
