//! Modules of nbdkit's own that refuse what others do, because that is what they are for: their pages say so, and a
//! refusal that goes away without them is nobody's fault.

use layers_trace::Operation::{self, Read, Trim, Write, Zero};

use crate::run::stack::{Layers, Stack};
use crate::validate::checks::check::CasePlan;
use crate::validate::play::played::Played;
use crate::validate::play::stop::{Asked, Stop};
use crate::validate::script::op::Op;

/// A module, as it is named on the command line, and what its page says that it refuses.
struct Refuser {
    name: &'static str,
    requests: &'static [Operation],
    /// It may refuse to open an export, or a connection.
    opens: bool,
    /// It may end the server.
    ends: bool,
    /// How its parameters begin.
    parameters: &'static [&'static str],
    what: &'static str,
}

const NOTHING: Refuser =
    Refuser { name: "", requests: &[], opens: false, ends: false, parameters: &[], what: "" };
const CHANGES: &[Operation] = &[Write, Zero, Trim];
const ALL: &[Operation] =
    &[Read, Write, Zero, Trim, Operation::Flush, Operation::Cache, Operation::BlockStatus];

const FILTERS: &[Refuser] = &[
    Refuser {
        name: "blocksize-policy",
        parameters: &["blocksize-"],
        requests: ALL,
        what: "requests against its policy",
        ..NOTHING
    },
    Refuser { name: "checkwrite", requests: CHANGES, what: "whatever would change the disk", ..NOTHING },
    Refuser {
        name: "ddrescue",
        parameters: &["ddrescue-"],
        requests: &[Read],
        what: "reads of bad sectors",
        ..NOTHING
    },
    Refuser { name: "error", parameters: &["error"], requests: ALL, what: "requests at random", ..NOTHING },
    Refuser { name: "exitlast", ends: true, what: "clients after the last one", ..NOTHING },
    Refuser {
        name: "exitwhen",
        parameters: &["exit-when-"],
        opens: true,
        ends: true,
        what: "clients after the event",
        ..NOTHING
    },
    Refuser {
        name: "ip",
        parameters: &["allow", "deny"],
        opens: true,
        what: "clients that are not allowed",
        ..NOTHING
    },
    Refuser {
        name: "limit",
        parameters: &["limit"],
        opens: true,
        what: "clients beyond its limit",
        ..NOTHING
    },
    Refuser {
        name: "protect",
        parameters: &["protect"],
        requests: CHANGES,
        what: "whatever would change protected bytes",
        ..NOTHING
    },
    Refuser {
        name: "truncate",
        parameters: &["truncate", "round-"],
        requests: CHANGES,
        what: "data beyond the end of the disk below",
        ..NOTHING
    },
    Refuser {
        name: "tls-fallback",
        parameters: &["tlsreadme"],
        requests: CHANGES,
        what: "clients without TLS",
        ..NOTHING
    },
];

const PLUGINS: &[Refuser] = &[
    Refuser { name: "full", requests: CHANGES, what: "all writes, with ENOSPC", ..NOTHING },
    Refuser {
        name: "ondemand",
        opens: true,
        what: "a second client of a filesystem that is in use",
        ..NOTHING
    },
    Refuser { name: "partitioning", requests: CHANGES, what: "writes to its partition tables", ..NOTHING },
    Refuser { name: "pattern", requests: CHANGES, what: "writes of anything but its pattern", ..NOTHING },
    Refuser { name: "random", requests: CHANGES, what: "writes of other bytes", ..NOTHING },
    Refuser { name: "sparse-random", requests: CHANGES, what: "writes of other bytes", ..NOTHING },
];

impl Refuser {
    fn refuses(&self, stop: &Stop) -> bool {
        match stop {
            Stop::Refused(refusal) => match refusal.asked {
                Asked::Open | Asked::List => self.opens,
                Asked::Request(operation) => self.requests.contains(&operation),
                Asked::Other => false,
            },
            Stop::Ended | Stop::Gone(_) => self.ends,
            _ => false,
        }
    }
}

/// What a case was refused, if that is all that is wrong with it.
fn refused(played: &Played) -> Option<&Stop> {
    let stop = &played.stop.as_ref().filter(|_| played.trouble.is_none())?.1;
    matches!(stop, Stop::Refused(_) | Stop::Ended | Stop::Gone(_)).then_some(stop)
}

/// Who may have refused it: the reason, and the stack of the control run without those who may. A plugin refuses in any
/// stack: there is no other one to ask.
pub(in crate::validate) fn excuse(stack: &Stack, played: &Played) -> Option<(String, Option<Stack>)> {
    let stop = refused(played)?;
    let says = |kind: &str, refuser: &Refuser| {
        let Refuser { name, what, .. } = refuser;
        format!("{stop}: the {name} {kind} refuses {what}, as nbdkit-{name}-{kind}(1) says")
    };
    let (filters, plugin) = match &stack.layers {
        Layers::Wrapped { filters, plugin } => (filters.clone(), Some(plugin)),
        Layers::Over { filters, .. } => (filters.clone(), None),
        Layers::Reference(_) => (stack.replaced.values().cloned().collect(), None),
    };
    let of = |table: &'static [Refuser], name: &str| {
        table.iter().find(|one| one.name == name && one.refuses(stop))
    };
    if let Some(refuser) = filters.iter().find_map(|name| of(FILTERS, name)) {
        let kept = filters.iter().filter(|name| of(FILTERS, name).is_none()).cloned().collect();
        let layers = match &stack.layers {
            Layers::Wrapped { plugin, .. } => Layers::Wrapped { filters: kept, plugin: plugin.clone() },
            Layers::Over { plugin, .. } => Layers::Over { filters: kept, plugin: plugin.clone() },
            Layers::Reference(_) => stack.layers.clone(),
        };
        let mut replaced = stack.replaced.clone();
        replaced.retain(|_, name| of(FILTERS, name).is_none());
        let gone = filters.iter().filter_map(|name| of(FILTERS, name)).flat_map(|one| one.parameters);
        let gone: Vec<&str> = gone.copied().collect();
        let is_gone = |key: &str| gone.iter().any(|start| key.starts_with(start));
        let parameters = stack.parameters.iter().filter(|one| !one.key.as_deref().is_some_and(is_gone));
        let parameters = parameters.cloned().collect();
        return Some((
            says("filter", refuser),
            Some(Stack { layers, replaced, parameters, ..stack.clone() }),
        ));
    }
    let refuser = plugin.and_then(|name| of(PLUGINS, name))?;
    Some((says("plugin", refuser), None))
}

/// The same case, without those who may refuse it, is refused as well.
pub(in crate::validate) fn is_refused(played: &Played) -> bool {
    played.stop.is_some() || played.trouble.is_some() || !played.served
}

/// What is refused lies behind the end of the smaller disk of the control run, which has nothing to say of it.
pub(in crate::validate) fn lies_behind(plan: &CasePlan, played: &Played, control: &Played) -> bool {
    let step = played.stop.as_ref().and_then(|(index, _)| plan.script.get(*index));
    let size_in = |case: &Played| case.answers.as_ref().map(|answers| answers.size);
    let size = size_in(control);
    let end = match step {
        // Its clients work far from one another, all over the disk.
        Some(Op::Load(_)) => size_in(played),
        step => step.and_then(Op::one).map(|request| request.offset + u64::from(request.count)),
    };
    end.zip(size).is_some_and(|(end, size)| end > size)
}
