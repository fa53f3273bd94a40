//! What the harness's clients complain of.

use layers_trace::{Breach, Event, Field, Kind, Operation, Speaker};

use super::reply::{is_option, is_silent};
use crate::rules::check::{Check, Now, Report, Rule, at, by, notes};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "wire.message",
        statement: "What the server sends is one whole message after another: each begins with its magic number, and is as long as it says.",
        clause: "NBD protocol, Handshake, Option reply, Simple reply, Structured reply; nbdkit-protocol(1)",
        antecedent: "an answer that a client gets",
        good: "NBD_CMD_READ",
        bad: r#"NBD_CMD_READ { complaint.Message "0x67446699" }"#,
        fix: "write magic and length as the protocol has them",
        check: by!(
            uncomplained(&[Breach::Message], "a message of the protocol", |reply, _| reply.result() == 0)
        ),
        ..Rule::REQUIRED
    },
    Rule {
        id: "wire.option",
        statement: "A reply to an option names the option that the client has sent, and is of a type that this option has.",
        clause: "NBD protocol, Fixed newstyle negotiation, Option types; nbdkit-protocol(1)",
        antecedent: "a reply to an option",
        good: r#"NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { complaint.Option "NBD_REP_ACK for NBD_OPT_LIST" }"#,
        fix: "copy the number of the option into the reply",
        check: by!(uncomplained(
            &[Breach::Option],
            "a reply to the option that the client waits for, of a type that the option has",
            |reply, operation| is_option(operation) && !is_silent(reply)
        )),
        ..Rule::REQUIRED.since(1, 5, 3)
    },
    Rule {
        id: "wire.one-reply",
        statement: "Each request has one reply, with the request's cookie, and nothing comes that no request waits for.",
        clause: "NBD protocol, Transmission, Simple reply message; nbdkit-protocol(1)",
        antecedent: "a reply to a request",
        good: "NBD_CMD_WRITE",
        bad: r#"NBD_CMD_WRITE { complaint.Cookie "the same reply once more" }"#,
        fix: "send one reply, with the cookie of the request that it is for",
        check: by!(uncomplained(
            &[Breach::Cookie, Breach::Unasked],
            "one reply for each request, and nothing else",
            |reply, _| reply.speaker().is_some()
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "wire.structured",
        statement: "A read has a structured reply where structured replies have been negotiated, and a simple one elsewhere; so has a block status that succeeds.",
        clause: "NBD protocol, Simple reply message, Structured reply chunk message; nbdkit-protocol(1), Structured Replies",
        antecedent: "a reply to a read or to a block status",
        good: "NBD_CMD_READ",
        bad: r#"NBD_CMD_READ { complaint.Shape "a simple reply" }"#,
        fix: "choose the kind of reply by what has been negotiated on this connection",
        check: by!(uncomplained(
            &[Breach::Shape],
            "a structured reply where it has been negotiated, and only there",
            |reply, operation| {
                reply.speaker().is_some() && matches!(operation, Operation::Read | Operation::BlockStatus)
            }
        )),
        ..Rule::REQUIRED.since(1, 11, 8)
    },
    Rule {
        id: "wire.chunk",
        statement: "The chunks of a structured reply fit the request: each is of a type for it and as long as that type is, data lies inside the range and does not overlap, block status is of a context that was set, and all of it comes, or an error.",
        clause: "NBD protocol, Structured reply types; nbdkit-protocol(1), Structured Replies",
        antecedent: "a reply to a read or to a block status that may be structured",
        good: "NBD_CMD_READ",
        bad: r#"NBD_CMD_READ { complaint.Chunk "512 bytes from 512" }"#,
        fix: "send the range that was asked for, or an error chunk with an error number other than 0",
        check: by!(uncomplained(&[Breach::Chunk], "chunks that fit the request", |reply, operation| {
            let may_be = matches!(reply.speaker(), Some(Speaker::Structured | Speaker::Repeated));
            may_be && matches!(operation, Operation::Read | Operation::BlockStatus)
        })),
        ..Rule::REQUIRED.since(1, 11, 8)
    },
];

/// A reply to this operation is one that the rule speaks of.
type IsCase = fn(&Event, Operation) -> bool;

/// No client complains of these; `expected` says what a client gets when all is well.
fn uncomplained(of: &'static [Breach], expected: &'static str, is_case: IsCase) -> impl Check {
    at(notes(&[Kind::Reply, Kind::Breach]), move |now: &Now<'_>, report: &mut Report<'_>| {
        if let Some(operation) = now.event.operation() {
            return report.exercised_if(is_case(now.event, operation));
        }
        let breach = now.event.breach().filter(|breach| of.contains(breach))?;
        let said = now.event.text(Field::Message);
        // In quotation marks: one cause can be told in many words.
        let said = said.map(|text| String::from_utf8_lossy(&text.bytes).replace('"', "'"));
        let actual = said.map_or(format!("{breach:?}"), |said| format!("\"{said}\""));
        report.expect(false, now.request(), expected, actual)
    })
}
