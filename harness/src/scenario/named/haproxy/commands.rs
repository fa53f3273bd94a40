//! Commands of a client that reads every answer.

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Socket, ask};
use super::{SMALL, send, session, with};

pub(super) fn all() -> Vec<Scenario> {
    [classical(), single(), sessions()].concat()
}

/// The sessions whose calls are stored.
fn classical() -> Vec<Scenario> {
    let small = |scenario: Scenario| with(scenario, |session| session.configuration = SMALL);
    vec![
        session(
            "classical/dump",
            "a handler without a parse: it begins with NULL",
            vec![ask("show schema json"), ask("layers reserve-late"), ask("layers released")],
        ),
        session("classical/context", "a context that the keyword allocates", vec![ask("layers own-memory")]),
        session(
            "classical/chain",
            "three commands in a row, of which the second begins where the first has written",
            vec![ask("layers dirty;layers own-memory;layers reserve")],
        ),
        small(session(
            "classical/abort",
            "a client that leaves while a handler waits for room",
            vec![
                SessionStep::Connect(1, Socket::Cli),
                send(1, "show map {dir}/map\n"),
                SessionStep::Idle,
                SessionStep::HangUp(1),
                SessionStep::Released,
            ],
        )),
    ]
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
