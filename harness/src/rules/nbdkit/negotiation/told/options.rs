//! What options do to those after them: structured replies, metadata contexts, STARTTLS.

use std::collections::BTreeMap;

use layers_trace::{Event, Field, Kind, Operation};

use super::names::texts;
use super::quoted;
use crate::rules::check::{Now, Report, Rule, Watch, at, by, notes, remembering};

/// The only metadata context that the server has.
const ALLOCATION: &[u8] = b"base:allocation";
/// Of that.
const NAMESPACE: &[u8] = b"base:";

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.meta_context.told",
        statement: "A client that sets metadata contexts, or asks which there are, is told base:allocation where it has named that, and no other.",
        clause: "nbdkit-protocol(1), Metadata Querying; the NBD protocol, NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT",
        antecedent: "an NBD_OPT_SET_META_CONTEXT or NBD_OPT_LIST_META_CONTEXT that is not refused",
        good: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" name="base:allocation" = 0 name="base:allocation""#,
        bad: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" = 0 name="base:allocation""#,
        fix: "answer with base:allocation when it is among the names, and with nothing else",
        check: by!(at(notes(Kind::Reply), contexts_told)),
        ..Rule::REQUIRED.since(1, 11, 8)
    },
    Rule {
        id: "nego.meta_context.holds",
        statement: "Block status is served only while a metadata context holds: of this export, and of the last NBD_OPT_SET_META_CONTEXT.",
        clause: "the NBD protocol, NBD_OPT_SET_META_CONTEXT and NBD_CMD_BLOCK_STATUS; nbdkit-protocol(1), Metadata Querying",
        antecedent: "an NBD_CMD_BLOCK_STATUS of a client whose negotiation is known",
        good: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" name="base:allocation" = 0 name="base:allocation" NBD_OPT_GO "a" NBD_CMD_BLOCK_STATUS"#,
        bad: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" name="base:allocation" = 0 name="base:allocation" NBD_OPT_GO "b" = 0 name="" NBD_CMD_BLOCK_STATUS"#,
        fix: "forget the contexts when they are set anew, also in vain, and when another export is chosen",
        check: by!(remembering(Options::WATCH, context_holds)),
        ..Rule::REQUIRED.since(1, 11, 8)
    },
];

/// What one client has negotiated on its connection, in options.
#[derive(Clone, Debug, Default)]
struct Negotiated {
    /// The reply to NBD_OPT_STRUCTURED_REPLY.
    structured: Option<Event>,
    /// The STARTTLS that has ended them.
    forgotten: Option<Event>,
    /// The STARTTLS that has ended the contexts.
    unset: Option<Event>,
    /// The export that base:allocation was set for, and the reply that says so.
    context: Option<(Vec<u8>, Event)>,
    /// The last reply about contexts.
    last: Option<Event>,
    /// base:allocation holds for the export that was chosen.
    holds: bool,
}

/// What all clients have negotiated.
#[derive(Debug, Default)]
pub(super) struct Options {
    clients: BTreeMap<u32, Negotiated>,
}

impl Options {
    /// What it needs to see.
    pub(super) const WATCH: Watch = notes(Kind::Reply);

    /// Notes what has been negotiated.
    pub(super) fn see(&mut self, now: &Now<'_>) {
        let (reply, client) = (now.event, now.event.handle);
        if reply.kind != Kind::Reply {
            return;
        }
        let ok = reply.result() == 0;
        match reply.operation() {
            Some(Operation::Connect) => {
                self.clients.insert(client, Negotiated::default());
            }
            Some(Operation::StartTls) if ok => {
                let before = self.clients.remove(&client).unwrap_or_default();
                let forgotten = before.structured.or(before.forgotten).map(|_| reply.clone());
                let unset = before.context.map(|(_, set)| set).or(before.unset).map(|_| reply.clone());
                self.clients.insert(client, Negotiated { forgotten, unset, ..Negotiated::default() });
            }
            Some(Operation::StructuredReply) if ok => {
                let negotiated = self.of(client);
                negotiated.structured = Some(reply.clone());
                negotiated.forgotten = None;
            }
            // Whatever becomes of it, it ends those that were set before.
            Some(Operation::SetMetaContext) => {
                let export = now.request().and_then(|request| request.event.text(Field::Export));
                let set = ok && texts(reply, Field::Name).contains(&ALLOCATION);
                let negotiated = self.of(client);
                negotiated.context =
                    export.filter(|_| set).map(|export| (export.bytes.clone(), reply.clone()));
                negotiated.last = Some(reply.clone());
                negotiated.unset = None;
            }
            Some(Operation::Go | Operation::ExportName) if ok => {
                let export = now.request().and_then(|request| request.event.text(Field::Export));
                // libnbd sets contexts itself, and says which ones hold.
                let of_libnbd = texts(reply, Field::Name).contains(&ALLOCATION);
                let negotiated = self.of(client);
                let set = negotiated.context.as_ref().zip(export);
                negotiated.holds = of_libnbd || set.is_some_and(|((name, _), chosen)| *name == chosen.bytes);
            }
            _ => {}
        }
    }

    fn of(&mut self, client: u32) -> &mut Negotiated {
        self.clients.entry(client).or_default()
    }

    /// The STARTTLS before which alone this client has negotiated structured replies.
    pub(super) fn forgotten(&self, client: u32) -> Option<&Event> {
        self.clients.get(&client)?.forgotten.as_ref()
    }

    /// The STARTTLS before which alone this client has set a context.
    pub(super) fn unset(&self, client: u32) -> Option<&Event> {
        self.clients.get(&client).filter(|known| !known.holds)?.unset.as_ref()
    }

    /// The reply by which this client has structured replies, where it has; `None` where nothing is known of it.
    pub(super) fn structured(&self, client: u32) -> Option<Option<&Event>> {
        self.clients.get(&client).map(|negotiated| negotiated.structured.as_ref())
    }
}

/// What is told is what was asked for.
fn contexts_told(now: &Now<'_>, report: &mut Report<'_>) {
    let reply = now.event;
    let lists = reply.operation() == Some(Operation::ListMetaContext);
    if !lists && reply.operation() != Some(Operation::SetMetaContext) || reply.result() != 0 {
        return;
    }
    let Some(request) = now.request() else { return };
    let asked = texts(&request.event, Field::Name);
    // In a question the namespace stands for all that is in it, and no name for all that there is.
    let has = |name: &&&[u8]| **name == ALLOCATION || lists && **name == NAMESPACE;
    let expected = match asked.as_slice() {
        [] if lists => vec![ALLOCATION],
        names => names.iter().filter(has).map(|_| ALLOCATION).collect(),
    };
    let actual = texts(reply, Field::Name);
    let said = |names: &[&[u8]]| match names {
        [] => "no context".to_owned(),
        names => names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
    };
    report.expect(expected == actual, [&request.event, reply], said(&expected), said(&actual));
}

/// Block status needs a context.
fn context_holds(options: &mut Options, now: &Now<'_>, report: &mut Report<'_>) {
    let reply = now.event;
    if reply.operation() != Some(Operation::BlockStatus) {
        options.see(now);
        return;
    }
    // What STARTTLS is to end is another rule.
    let known = options.clients.get(&reply.handle);
    let Some(negotiated) = known.filter(|known| known.unset.is_none() || known.holds) else { return };
    report.exercised();
    if reply.result() == 0 && !negotiated.holds {
        report.broken(
            negotiated.last.iter().chain([reply]),
            "block status is refused: no metadata context holds for this export",
            "it is served",
        );
    }
}
