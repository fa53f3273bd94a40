//! What the harness's clients complain of.

use layers_trace::{Breach, Event, Field, Kind, Operation, Speaker};

use super::reply::{is_option, is_silent};
use crate::rules::check::{Check, Now, Report, Rule, Watch, by, notes};

/// The rules of this topic.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "wire.message",
        statement: "What the server sends is one whole message after another: each begins with its magic number, and is as long as it says.",
        clause: "NBD protocol, Handshake, Option reply, Simple reply, Structured reply; nbdkit-protocol(1)",
        antecedent: "an answer that a client gets",
        good: "NBD_CMD_READ",
        bad: r#"NBD_CMD_READ { complaint.Message "0x67446699" }"#,
        fix: "write magic and length as the protocol has them",
        check: by!(Complaints {
            of: &[Breach::Message],
            expected: "a message of the protocol",
            is_case: |reply, _| reply.result() == 0,
        }),
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
        check: by!(Complaints {
            of: &[Breach::Option],
            expected: "a reply to the option that the client waits for, of a type that the option has",
            is_case: |reply, operation| is_option(operation) && !is_silent(reply),
        }),
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
        check: by!(Complaints {
            of: &[Breach::Cookie, Breach::Unasked],
            expected: "one reply for each request, and nothing else",
            is_case: |reply, _| reply.speaker().is_some(),
        }),
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
        check: by!(Complaints {
            of: &[Breach::Shape],
            expected: "a structured reply where it has been negotiated, and only there",
            is_case: |reply, operation| {
                reply.speaker().is_some() && matches!(operation, Operation::Read | Operation::BlockStatus)
            },
        }),
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
        check: by!(Complaints {
            of: &[Breach::Chunk],
            expected: "chunks that fit the request",
            is_case: |reply, operation| {
                let may_be = matches!(reply.speaker(), Some(Speaker::Structured | Speaker::Repeated));
                may_be && matches!(operation, Operation::Read | Operation::BlockStatus)
            },
        }),
        ..Rule::REQUIRED.since(1, 11, 8)
    },
];

/// No client complains of these.
struct Complaints {
    of: &'static [Breach],
    expected: &'static str,
    /// A reply to this operation is one that the rule speaks of.
    is_case: fn(&Event, Operation) -> bool,
}

impl Check for Complaints {
    fn watches(&self) -> Watch {
        notes(Kind::Reply).notes(Kind::Breach)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if let Some(operation) = now.event.operation() {
            report.exercised_if((self.is_case)(now.event, operation));
            return;
        }
        let Some(breach) = now.event.breach().filter(|breach| self.of.contains(breach)) else { return };
        let request = now.request();
        let said = now.event.text(Field::Message);
        // In quotation marks: one cause can be told in many words.
        let said = said.map(|text| String::from_utf8_lossy(&text.bytes).replace('"', "'"));
        let actual = said.map_or(format!("{breach:?}"), |said| format!("\"{said}\""));
        let events = request.map(|request| &request.event).into_iter().chain([now.event]);
        report.exercised();
        report.broken(events, self.expected, actual);
    }
}
