//! nbdkit-filter(3), "NEXT PLUGIN": what a filter asks of `next` is what the layer below is asked, and what that answers is
//! what the filter is told. The server stands in between, and what happens there no argument shows; but of a filter that is
//! known to hand a callback on, and to answer what it is told, both ends can be compared.

use layers_trace::Callback::{
    self, BlockSize, Config, ConfigComplete, DefaultExport, ExportDescription, Extents, ListExports, Open,
    Preconnect, Zero,
};
use layers_trace::{Event, Field};

use super::negotiation::info::are_valid;
use crate::history::{Call, FUA, Handle, History, Way};
use crate::protocol::LONGEST_STRING;
use crate::rules::check::{Both, Check, Now, Party, Report, Said, Watch, at, given, unless};

/// Judges by this check, and compares what such filters are asked and answer in these calls.
pub(super) fn passed_through(calls: Watch, check: impl Check) -> impl Check {
    let pass_through = |now: &Now<'_>, report: &mut Report<'_>| {
        let call = now.call?;
        if now.is_enter() {
            let parent = now.parent().filter(|parent| hands_on(now.history, parent, call))?;
            return handed(now, parent, report);
        }
        given(now.history.hands_on(call.layer(), call.callback))?;
        told(now, call, report)
    };
    Both::new(check, at(calls, pass_through))
}

/// The filter of `parent` hands on what it is asked, and this is where it comes to.
fn hands_on(history: &History, parent: &Call, call: &Call) -> bool {
    parent.callback == call.callback
        && parent.layer() > call.layer()
        && history.hands_on(parent.layer(), call.callback)
}

/// The layer below is asked just what the filter was asked, and once.
fn handed(now: &Now<'_>, parent: &Call, report: &mut Report<'_>) -> Said {
    let enter = now.event;
    let (layer, callback) = (enter.layer, parent.callback);
    if parent.handed.times > 0 {
        let expected = format!("one call of L{layer}.{callback} for one of L{}", parent.layer());
        report.broken_by(Party::Server, parent, expected, "another one");
    }
    let same =
        same_question(&parent.enter, enter, callback) && (callback != Open || same_export(now, parent));
    unless(same)?;
    let expected = format!("L{layer}.{callback} is asked what L{} was asked, and handed on", parent.layer());
    report.broken_by(Party::Server, parent, expected, "something else")
}

fn same_question(outer: &Event, inner: &Event, callback: Callback) -> bool {
    match callback {
        Config => outer.texts == inner.texts,
        Preconnect => outer.d == inner.d,
        ListExports | DefaultExport | Open => (outer.c, outer.d) == (inner.c, inner.d),
        // Where FUA is emulated it goes no further.
        data if data.is_data() => (outer.a, outer.c, outer.d & !FUA) == (inner.a, inner.c, inner.d & !FUA),
        _ => true,
    }
}

/// The layer below opens the same export. An empty name stands for its default, where that is known.
fn same_export(now: &Now<'_>, outer: &Call) -> bool {
    let (inner, layer) = (export(now.event), now.event.layer);
    if inner == export(&outer.enter) {
        return true;
    }
    export(&outer.enter).is_empty() && default_of(now, outer, layer).is_some_and(|exit| export(exit) == inner)
}

/// What this layer, or the one that speaks for it, has called its default export.
fn default_of<'h>(now: &Now<'h>, outer: &Call, layer: u8) -> Option<&'h Event> {
    let namer = if now.history.records(layer, DefaultExport) {
        Some(layer)
    } else {
        now.history.inner(layer, DefaultExport)
    };
    let connection = outer.connection.and_then(|id| now.history.connection(id));
    connection?.named(namer?)
}

/// The default export is asked for, and the layer below has not named one: there is nothing to open.
fn is_nameless(now: &Now<'_>, call: &Call, inner: u8) -> bool {
    call.callback == Open && export(&call.enter).is_empty() && default_of(now, call, inner).is_none()
}

fn export(event: &Event) -> &[u8] {
    event.text(Field::Export).map(|text| text.bytes.as_slice()).unwrap_or_default()
}

/// The layer below was asked, and its answer is the one that the filter gives.
fn told(now: &Now<'_>, call: &Call, report: &mut Report<'_>) -> Said {
    let callback = call.callback;
    let inner = now.history.inner(call.layer(), callback)?;
    let (expected, agrees) = expectation(now, call)?;
    report.exercised();
    let (times, result) = (call.handed.times, now.event.result());
    let succeeds = if matches!(callback, Open | DefaultExport) { result != 0 } else { result >= 0 };
    let asked = match expected {
        Asked::Once => {
            times == 1 || !succeeds && times == 0 && (callback.is_data() || is_nameless(now, call, inner))
        }
        Asked::Before => true,
        Asked::Never => times == 0,
    };
    if !asked {
        let number = if expected == Asked::Never { "no" } else { "one" };
        let actual = format!("{times} of them, and L{} is told of an answer", call.layer());
        let expected = format!("{number} call of L{inner}.{callback} inside this");
        return report.broken_by(Party::Server, call, expected, actual);
    }
    unless(agrees)?;
    let expected = format!("L{} is told what L{inner}.{callback} answers", call.layer());
    report.broken_by(Party::Server, call, expected, format_args!("it is told of {result}"))
}

/// How often the layer below is asked during one call of the filter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    /// Perhaps earlier, and the server remembers.
    Before,
    Never,
}

/// How often the layer below is to be asked, and whether the filter's answer is the one from there.
fn expectation(now: &Now<'_>, call: &Call) -> Option<(Asked, bool)> {
    let handed = &call.handed;
    let result = now.event.result();
    let same = handed.result.is_none_or(|below| below == result);
    Some(match call.callback {
        Config | ConfigComplete | Preconnect | ListExports | Open => (Asked::Once, same),
        ExportDescription => (Asked::Once, same && same_text(call, now.event)),
        // The server remembers the name, for as long as the connection lasts.
        DefaultExport => {
            let known = call.connection.and_then(|id| now.history.connection(id))?;
            let inner = now.history.inner(call.layer(), DefaultExport)?;
            let asked = if known.named(inner).is_some() { Asked::Before } else { Asked::Once };
            // The server hands out no name that is too long.
            let said = handed.said.as_ref().and_then(|said| said.text(Field::Export));
            let refused = result == 0 && said.is_some_and(|name| name.bytes.len() > LONGEST_STRING);
            let agrees = handed.times == 0 || refused || same && same_text(call, now.event);
            (asked, agrees)
        }
        query if query.is_query() => {
            (Asked::Before, same_answer(now, call, now.history.below(now.handle?)?)?)
        }
        _ => request(now, call, now.history.below(now.handle?)?)?,
    })
}

fn same_text(call: &Call, exit: &Event) -> bool {
    call.handed.said.as_ref().is_none_or(|said| said.texts == exit.texts)
}

/// The server has an answer of the layer below, or none is needed, and it is the filter's.
fn same_answer(now: &Now<'_>, call: &Call, below: &Handle) -> Option<bool> {
    let exit = now.event;
    if call.callback == BlockSize {
        let inner = now.history.inner(call.layer(), BlockSize)?;
        let below = now.history.chain(below.chain).into_iter().find(|handle| handle.layer == inner)?;
        let Some(answer) = below.answered(BlockSize) else { return Some(exit.result() < 0) };
        // Nor sizes that do not fit each other.
        let refused = exit.result() < 0 && !are_valid(answer.block_size());
        return Some(refused || (answer.a, answer.b, answer.d) == (exit.a, exit.b, exit.d));
    }
    if exit.result() < 0 {
        return Some(call.handed.times == 0 || call.handed.result.is_some_and(|below| below < 0));
    }
    Some(now.history.offered(below, call.callback) == Some(exit.result()))
}

/// The request is served below as the answers of the layers there say.
fn request(now: &Now<'_>, call: &Call, below: &Handle) -> Option<(Asked, bool)> {
    let asked = match now.history.way(below, call.callback)? {
        Way::Native(_) => Asked::Once,
        Way::Emulated { .. } | Way::Itself(_) | Way::Refused(_) => Asked::Never,
    };
    let (outer, inner) = (now.event.result() >= 0, call.handed.result.map(|below| below >= 0));
    // Zeroes can still be written; a flush that makes up for FUA can fail, and a list of extents be refused.
    let agrees = match inner {
        Some(false) => !outer || call.callback == Zero,
        Some(true) => outer || call.enter.flags() & FUA != 0 || call.callback == Extents,
        None => true,
    };
    Some((asked, agrees))
}
