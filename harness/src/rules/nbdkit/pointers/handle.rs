//! Handles, and the `nbdkit_context *` of a filter's.

use layers_trace::Callback::{self, Close, Open};
use layers_trace::event::{HANDLE_FOREIGN, HANDLE_NULL};
use layers_trace::{Below, ContextFunction, Kind, Probe};

use crate::rules::check::{Now, Party, Report, Rule, Said, at, by, enters, enters_where, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ptr.context.lifetime",
        // Whether the context is there is the server's part, to use it in time the filter's.
        statement: "The context given to open stays this handle's own, and answers for its backend, up to its close; a filter uses it no longer.",
        clause: "nbdkit-filter(3), nbdkit_context_get_backend and .open",
        antecedent: "a handle of a filter that is closed, or a second one while it is open",
        good: r#"NBD_OPT_GO "a" { L1.open { L0.open } prepare } c2: connect c2: NBD_OPT_GO "a" { L1.open }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open context=7 { L0.open } prepare } c2: connect c2: NBD_OPT_GO "a" { L1.open context=7 }"#,
        fix: "free a context after the close of its handle has returned",
        check: by!(at(enters(&[Open]).notes(&[Kind::Probe, Kind::Ask]), context_lives)),
        ..Rule::REQUIRED.since(1, 25, 4).of(Party::Filter)
    },
    Rule {
        id: "ptr.handle.identity",
        statement: "A layer gets back the handles that its own open returned: never NULL, never another layer's.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .open",
        antecedent: "a call with a handle",
        good: "NBD_CMD_READ { L0.pread }",
        bad: "NBD_CMD_READ { L0.pread handle=foreign }",
        fix: "keep the handle in the layer's own context",
        check: by!(at(enters_where(Callback::has_handle), handle_is_own)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.not-unique",
        statement: "Values of handles, contexts and next may come again, later or in another layer.",
        clause: "nbdkit-plugin(3), .open (NBDKIT_HANDLE_NOT_NEEDED)",
        antecedent: "two handles",
        fix: "tell connections apart by something of your own",
        ..Rule::UNSPECIFIED
    },
];

/// A context belongs to its handle until close.
fn context_lives(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if now.event.kind == Kind::Probe {
        return context_still_answers(now, report, "the context answers in close as it did in open");
    }
    if now.event.kind == Kind::Ask {
        return used(now, report);
    }
    given(layer != 0 && now.history.records(layer, Close))?;
    let mut others = now.history.handles().filter(|handle| handle.layer == layer).peekable();
    given(others.peek().is_some())?;
    report.exercised();
    let other = others.find(|handle| handle.context() == now.event.context)?;
    let expected = format!("a context that no open handle of L{layer} has");
    report.broken(&other.open, expected, format!("that of handle {}", other.id))
}

/// In close, a filter's context gives the backend that it gave in open; `expected` is how a finding puts that.
pub(super) fn context_still_answers(now: &Now<'_>, report: &mut Report<'_>, expected: &str) -> Said {
    given(now.event.probe() == Some(Probe::ContextBackend))?;
    let open = now.history.handle(now.event.handle).map(|handle| &handle.open);
    report.expect(now.event.a != 0, open, expected, "another backend")
}

/// A filter associates something with a context: one of a handle that is open, or being opened.
fn used(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (layer, context) = (now.event.layer, now.event.context);
    given(now.event.below() == Some(Below::Context(ContextFunction::SetNext)))?;
    let open = now.history.handles().any(|handle| handle.layer == layer && handle.context() == context);
    let mut opens = now.history.in_flight().filter(|call| call.callback == Open && call.layer() == layer);
    let opening = opens.any(|call| call.enter.context == context);
    let expected = format!("L{layer} uses the context of a handle that is open");
    report.expect(open || opening, (), expected, "that of none")
}

/// A layer gets its own handles.
fn handle_is_own(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    if let Some(handle) = now.handle {
        report.exercised();
        given(handle.layer != layer)?;
        let expected = format!("a handle that L{layer}.open returned");
        return report.broken(&handle.open, expected, format_args!("a handle of L{}", handle.layer));
    }
    let actual = match now.event.handle {
        HANDLE_NULL => "NULL",
        HANDLE_FOREIGN => "a pointer that it did not return",
        id if !now.history.was_minted(id) => "a handle that nobody has opened",
        // It was one, and has been closed: that is another rule.
        _ => return None,
    };
    given(now.history.records(layer, Open))?;
    report.expect(false, (), format_args!("a handle that L{layer}.open returned"), actual)
}
