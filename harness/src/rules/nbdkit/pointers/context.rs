//! `nbdkit_context *`, and handles.

use layers_trace::event::{HANDLE_FOREIGN, HANDLE_NULL};
use layers_trace::{Below, Callback, ContextFunction, Kind};

use super::super::probe_result::context_still_answers;
use crate::rules::check::{Now, Report};

/// A context belongs to its handle until close.
pub(super) fn context_lives(now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    if now.event.kind == Kind::Probe {
        context_still_answers(now, report, "the context answers in close as it did in open");
        return;
    }
    if now.event.kind == Kind::Ask {
        used(now, report);
        return;
    }
    if layer == 0 || !now.history.records(layer, Callback::Close) {
        return;
    }
    let mut others = now.history.handles().filter(|handle| handle.layer == layer).peekable();
    if others.peek().is_none() {
        return;
    }
    report.exercised();
    if let Some(other) = others.find(|handle| handle.context() == now.event.context) {
        report.broken(
            [&other.open, now.event],
            format!("a context that no open handle of L{layer} has"),
            format!("that of handle {}", other.id),
        );
    }
}

/// A filter associates something with a context: one of a handle that is open, or being opened.
fn used(now: &Now<'_>, report: &mut Report<'_>) {
    let (layer, context) = (now.event.layer, now.event.context);
    if now.event.below() != Some(Below::Context(ContextFunction::SetNext)) {
        return;
    }
    let open = now.history.handles().any(|handle| handle.layer == layer && handle.context() == context);
    let opening = now.history.in_flight().any(|call| {
        call.callback == Callback::Open && call.layer() == layer && call.enter.context == context
    });
    let expected = format!("L{layer} uses the context of a handle that is open");
    report.expect(open || opening, [now.event], expected, "that of none");
}

/// A layer gets its own handles.
pub(super) fn handle_is_own(now: &Now<'_>, report: &mut Report<'_>) {
    let layer = now.event.layer;
    if let Some(handle) = now.handle {
        report.exercised();
        if handle.layer != layer {
            let expected = format!("a handle that L{layer}.open returned");
            report.broken([&handle.open, now.event], expected, format!("a handle of L{}", handle.layer));
        }
        return;
    }
    let actual = match now.event.handle {
        HANDLE_NULL => "NULL",
        HANDLE_FOREIGN => "a pointer that it did not return",
        id if !now.history.was_minted(id) => "a handle that nobody has opened",
        // It was one, and has been closed: that is another rule.
        _ => return,
    };
    if now.history.records(layer, Callback::Open) {
        report.exercised();
        report.broken([now.event], format!("a handle that L{layer}.open returned"), actual);
    }
}
