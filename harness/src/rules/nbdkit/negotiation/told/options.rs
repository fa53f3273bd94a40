//! What options do to those after them: structured replies, metadata contexts, STARTTLS.

use std::collections::BTreeMap;

use layers_trace::{Event, Field, Kind, Operation};

use super::names::texts;
use crate::rules::check::{Now, Report, Rule, Said, Watch, at, by, given, notes, quoted, remembering};

/// The only metadata context that the server has.
const ALLOCATION: &[u8] = b"base:allocation";
/// Of that.
const NAMESPACE: &[u8] = b"base:";

pub(in super::super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.meta_context.told",
        statement: "A client that sets metadata contexts, or asks which there are, is told base:allocation where it has named that, and no other.",
        clause: "nbdkit-protocol(1), Metadata Querying; the NBD protocol, NBD_OPT_SET_META_CONTEXT and NBD_OPT_LIST_META_CONTEXT",
        antecedent: "an NBD_OPT_SET_META_CONTEXT or NBD_OPT_LIST_META_CONTEXT that is not refused",
        good: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" name="base:allocation" = 0 name="base:allocation""#,
        bad: r#"NBD_OPT_STRUCTURED_REPLY NBD_OPT_SET_META_CONTEXT export="a" = 0 name="base:allocation""#,
        fix: "answer with base:allocation when it is among the names, and with nothing else",
        check: by!(at(notes(&[Kind::Reply]), contexts_told)),
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
    pub(super) const WATCH: Watch = notes(&[Kind::Reply]);

    /// Notes what has been negotiated.
    pub(super) fn see(&mut self, now: &Now<'_>) -> Said {
        let (reply, ok) = (now.event, now.event.result() == 0);
        given(reply.kind == Kind::Reply)?;
        let operation = reply.operation()?;
        use Operation::{Connect, ExportName, Go, SetMetaContext, StartTls, StructuredReply};
        let tells = matches!(operation, StartTls | StructuredReply | Go | ExportName) && ok;
        given(tells || matches!(operation, Connect | SetMetaContext))?;
        let export = || now.request()?.event.text(Field::Export);
        let allocation = || texts(reply, Field::Name).contains(&ALLOCATION);
        let negotiated = self.clients.entry(reply.handle).or_default();
        match operation {
            Connect => *negotiated = Negotiated::default(),
            StartTls => {
                let before = std::mem::take(negotiated);
                negotiated.forgotten = before.structured.or(before.forgotten).map(|_| reply.clone());
                let set = before.context.map(|(_, set)| set);
                negotiated.unset = set.or(before.unset).map(|_| reply.clone());
            }
            StructuredReply => {
                (negotiated.structured, negotiated.forgotten) = (Some(reply.clone()), None);
            }
            // Whatever becomes of it, it ends those that were set before.
            SetMetaContext => {
                let set = export().filter(|_| ok && allocation());
                negotiated.context = set.map(|export| (export.bytes.clone(), reply.clone()));
                (negotiated.last, negotiated.unset) = (Some(reply.clone()), None);
            }
            _ => {
                let set = negotiated.context.as_ref().zip(export());
                let same = set.is_some_and(|((name, _), chosen)| *name == chosen.bytes);
                // libnbd sets contexts itself, and says which ones hold.
                negotiated.holds = same || allocation();
            }
        }
        Some(())
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
fn contexts_told(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let lists = now.succeeds(Operation::ListMetaContext);
    given(lists || now.succeeds(Operation::SetMetaContext))?;
    let request = now.request()?;
    let asked = texts(&request.event, Field::Name);
    // In a question the namespace stands for all that is in it, and no name for all that there is.
    let has = |name: &&&[u8]| **name == ALLOCATION || lists && **name == NAMESPACE;
    let expected = match asked.as_slice() {
        [] if lists => vec![ALLOCATION],
        names => names.iter().filter(has).map(|_| ALLOCATION).collect(),
    };
    report.same(request, expected, texts(now.event, Field::Name), |names| match names.as_slice() {
        [] => "no context".to_owned(),
        names => names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
    })
}

/// Block status needs a context.
fn context_holds(options: &mut Options, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if !now.is_about(Operation::BlockStatus) {
        return options.see(now);
    }
    // What STARTTLS is to end is another rule.
    let known = options.clients.get(&now.event.handle);
    let negotiated = known.filter(|known| known.unset.is_none() || known.holds)?;
    let holds = now.event.result() != 0 || negotiated.holds;
    let expected = "block status is refused: no metadata context holds for this export";
    report.expect(holds, negotiated.last.as_ref(), expected, "it is served")
}
