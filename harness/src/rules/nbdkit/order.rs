//! In which order calls come: once, before others, and inwards by each filter's call of next. These are patterns, of which each
//! judges the call that is just entered by what the history has kept of those before it.

use layers_trace::Callback;

use crate::history::History;
use crate::rules::check::{Now, Report, Said};

/// A callback that belongs to no connection is called once in each layer.
pub(super) fn once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, layer) = (now.call?, now.event.layer);
    let first = now.history.entered(layer, call.callback)?;
    report.broken(first, format!("one {} of L{layer}", call.callback), "another one")
}

/// It belongs before all of `later`.
pub(super) fn before(later: Callback, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, first) = (now.call?, now.history.first_enters(later).next()?);
    let expected = format!("every {} comes before any {later}", call.callback);
    report.broken(first, expected, "one comes later")
}

/// No layer that has the callback has been left out.
pub(super) fn none_left_out(callback: Callback, history: &History, report: &mut Report<'_>) -> Said {
    for layer in history.left_out(callback) {
        report.expect(false, (), format_args!("{callback} of L{layer} comes first"), "it was left out");
    }
    Some(())
}

/// A call of an inner layer is made by the next outer layer that has the callback, from within its own.
pub(super) fn inwards(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (call, parent) = (now.call?, now.parent());
    let outer = now.history.outer(call.layer(), call.callback)?;
    let nests = parent.is_some_and(|parent| parent.callback == call.callback && parent.layer() == outer);
    let expected = format!("L{outer}.{0} calls L{1}.{0}", call.callback, call.layer());
    report.expect(nests, parent, expected, "it is called from elsewhere")
}
