//! nbdkit-filter(3), `.prepare`: filters get ready, from the plugin outwards, before anything is asked.

use layers_trace::Callback::{Finalize, Open, Prepare};

use super::close::left_behind;
use super::open::readonly;
use super::{by_server, once};
use crate::history::{Handle, History};
use crate::rules::check::{Now, Report, Rule, Said, at, by, calls, enters, enters_where, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "prepare.inner-to-outer",
        statement: "After open, prepare runs once for each opened filter, the one next to the plugin first.",
        clause: "nbdkit-filter(3), .prepare",
        antecedent: "a handle of a filter above another one, both with prepare",
        good: r#"NBD_OPT_GO "a" { open L1.prepare L2.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { open L2.prepare }"#,
        fix: "prepare a layer after the one below it has returned 0",
        check: by!(at(enters(&[Prepare]), inner_first)),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "prepare.readonly",
        statement: "prepare is told the same readonly as the open of that filter.",
        clause: "nbdkit-filter(3), .prepare",
        antecedent: "a filter with prepare",
        good: r#"NBD_OPT_GO "a" { open L1.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { open L1.prepare readonly=1 }"#,
        fix: "keep readonly with the handle",
        check: by!(at(enters(&[Prepare]), same_readonly)),
        ..Rule::REQUIRED.since(1, 15, 1)
    },
    Rule {
        id: "prepare.gates-use",
        statement: "A filter is asked or given data only once its own prepare has succeeded for that handle.",
        clause: "nbdkit-filter(3), .prepare and nbdkit_next",
        antecedent: "a query or data call of a filter with prepare",
        good: r#"NBD_OPT_GO "a" { open L1.prepare L1.get_size }"#,
        bad: r#"NBD_OPT_GO "a" { open L1.get_size }"#,
        fix: "prepare all layers before the first query of any",
        check: by!(at(
            enters_where(|callback| callback.is_query() || callback.is_data()),
            prepared_before_use
        )),
        ..Rule::REQUIRED.since(1, 15, 1)
    },
    Rule {
        id: "prepare.fail",
        statement: "After a prepare that fails no filter further out is prepared, and the one that failed is closed unfinalized.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a prepare that fails",
        good: r#"NBD_OPT_GO "a" { open L1.prepare = -1 close } = EIO"#,
        bad: r#"NBD_OPT_GO "a" { open L1.prepare = -1 L2.prepare }"#,
        fix: "give the attempt up at the first failure; finalize what was prepared and close everything",
        check: by!(at(calls(&[Prepare]).enters(&[Finalize]), failure_stops).and_end(failure_stops_at_end)),
        ..Rule::REQUIRED.since(1, 17, 8)
    },
];

/// From the plugin outwards, once each.
fn inner_first(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = by_server(now)?;
    once(&handle.preparing, now, handle, report);
    if let Some(open) = now.parent().filter(|parent| parent.callback == Open) {
        let expected = format!("open of L{} has returned before prepare of L{}", open.layer(), handle.layer);
        report.broken(open, expected, "it has not");
    }
    let inside = now.history.handle_inside(handle, Prepare)?;
    let expected = format!("prepare of L{} has returned before that of L{}", inside.layer, handle.layer);
    // One that has failed is the business of another rule.
    report.expect(inside.prepared.is_some(), inside.preparation(), expected, "it has not")
}

/// As in open.
fn same_readonly(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.own_handle()?;
    report.same(&handle.open, handle.readonly(), now.event.readonly(), readonly)
}

/// No use without preparation.
fn prepared_before_use(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let handle = now.handle?;
    if handle.prepared == Some(true) {
        return report.exercised();
    }
    let has_prepare = now.history.records(handle.layer, Prepare);
    given(has_prepare && handle.layer == now.event.layer && now.history.is_servers(handle))?;
    let expected = format!("prepare of L{} has returned 0 for handle {}", handle.layer, handle.id);
    let actual = if handle.prepared.is_some() { "it has failed" } else { "it has not returned" };
    report.expect(false, handle.preparation(), expected, actual)
}

/// The first failure ends the attempt.
fn failure_stops(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (handle, failed) = (by_server(now)?, |handle: &&Handle| handle.prepared == Some(false));
    if now.is_exit() {
        return report.exercised_if(now.event.result() != 0);
    }
    if now.is(Finalize) {
        given(failed(&handle))?;
        let expected = format!("no finalize of L{}: its prepare has failed", handle.layer);
        return report.broken(handle.preparation(), expected, "it is called");
    }
    let inside = now.history.handle_inside(handle, Prepare).filter(failed)?;
    let expected = format!("no prepare of L{}: that of L{} has failed", handle.layer, inside.layer);
    report.broken(inside.preparation(), expected, "it is called")
}

fn failure_stops_at_end(history: &History, report: &mut Report<'_>) -> Said {
    for handle in left_behind(history)?.into_iter().filter(|handle| handle.prepared == Some(false)) {
        let expected = format!("handle {} of L{} is closed", handle.id, handle.layer);
        report.broken(handle.preparation(), expected, "it never is");
    }
    Some(())
}
