//! Options that are refused for no reason.

use std::collections::BTreeSet;

use layers_trace::{Event, Field, Kind, Operation};

use super::blamed::Blamed;
use super::reply::is_silent;
use crate::history::{Client, History};
use crate::protocol::LONGEST_STRING;
use crate::rules::check::{Now, Report, Rule, Said, by, given, remembering};
use crate::run::Tls;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "wire.granted",
    statement: "An option that the server has is refused only if a layer has failed, TLS is missing, or the option came before its time, is not well-formed or is a second NBD_OPT_LIST.",
    clause: "nbdkit-protocol(1), on each option; NBD protocol, Option types; nbdkit-plugin(3), .list_exports, .open",
    antecedent: "an NBD_OPT_LIST, INFO, GO, STRUCTURED_REPLY, SET_META_CONTEXT or LIST_META_CONTEXT with no reason to refuse it",
    good: r#"NBD_OPT_GO "a""#,
    bad: r#"NBD_OPT_GO "a" { open prepare queries } = EINVAL"#,
    fix: "refuse an option only for a reason, and name that in the type of the reply",
    check: by!(remembering(Blamed::watches().notes(&[Kind::Reply]), Granted::see)),
    ..Rule::REQUIRED.since(1, 11, 8)
}];

/// The number of clients' records for a reply that was none of the protocol's.
const NO_MESSAGE: u32 = libc::EPROTO.cast_unsigned();

#[derive(Default)]
struct Granted {
    blamed: Blamed,
    /// Clients behind TLS.
    secure: BTreeSet<u32>,
    /// Clients that have had an answer to NBD_OPT_LIST: a server may take a second one for an attack.
    listed: BTreeSet<u32>,
}

/// The server has this option, on this connection and in this state of it.
fn is_had(history: &History, client: &Client, operation: Operation) -> bool {
    let structured = history.run().is_some_and(|run| !run.no_structured_replies);
    match operation {
        Operation::List | Operation::Info | Operation::Go | Operation::ListMetaContext => true,
        Operation::StructuredReply => structured && !client.structured,
        Operation::SetMetaContext => structured && client.structured,
        _ => false,
    }
}

/// Its data is whole, and its texts are not longer than those that the protocol has.
fn is_well_formed(request: &Event) -> bool {
    let short = |bytes: &[u8]| bytes.len() < LONGEST_STRING && !bytes.contains(&0);
    let texts = request.texts.iter().filter(|text| matches!(text.field, Field::Export | Field::Name));
    request.d == 0 && texts.into_iter().all(|text| !text.cut && short(&text.bytes))
}

impl Granted {
    fn answered(&self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (history, reply) = (now.history, now.event);
        let client = now.client().filter(|client| !client.pipelines)?;
        let request = now.request()?;
        let requires = history.run().is_none_or(|run| run.tls == Tls::Require);
        let again = request.operation == Operation::List && self.listed.contains(&reply.handle);
        let asked = is_had(history, client, request.operation)
            && !again
            && is_well_formed(&request.event)
            && (!requires || self.secure.contains(&reply.handle));
        let no_answer = is_silent(reply) || reply.errno() == NO_MESSAGE && reply.result() < 0;
        given(asked && !no_answer && !self.blamed.explains(history, reply.handle, request))?;
        // The server may be short of memory.
        let refused = reply.result() < 0 && reply.errno() != libc::ENOMEM.cast_unsigned();
        report.expect(!refused, request, "it is granted", "it is refused")
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if now.event.kind != Kind::Reply {
            return self.blamed.see(now);
        }
        match now.event.operation() {
            Some(Operation::Connect) => {
                self.secure.remove(&now.event.handle);
                self.listed.remove(&now.event.handle);
            }
            Some(Operation::StartTls) if now.event.result() == 0 => {
                self.secure.insert(now.event.handle);
            }
            _ => _ = self.answered(now, report),
        }
        given(now.is_about(Operation::List))?;
        self.listed.insert(now.event.handle);
        Some(())
    }
}
