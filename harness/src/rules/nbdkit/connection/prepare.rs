//! nbdkit-filter(3), `.prepare`: filters get ready, from the plugin outwards, before anything is asked.

use layers_trace::Callback;

use super::by_server;
use crate::history::History;
use crate::rules::check::{Now, Report, Rule, at, by, calls, enters, enters_where};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "prepare.inner-to-outer",
        since: Version(1, 1, 27),
        statement: "After open, prepare runs once for each opened filter, the one next to the plugin first.",
        clause: "nbdkit-filter(3), .prepare",
        antecedent: "a handle of a filter above another one, both with prepare",
        good: r#"NBD_OPT_GO "a" { open L1.prepare L2.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { open L2.prepare }"#,
        fix: "prepare a layer after the one below it has returned 0",
        check: by!(at(enters(&[Callback::Prepare]), inner_first)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "prepare.readonly",
        since: Version(1, 15, 1),
        statement: "prepare is told the same readonly as the open of that filter.",
        clause: "nbdkit-filter(3), .prepare",
        antecedent: "a filter with prepare",
        good: r#"NBD_OPT_GO "a" { open L1.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { open L1.prepare readonly=1 }"#,
        fix: "keep readonly with the handle",
        check: by!(at(enters(&[Callback::Prepare]), same_readonly)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "prepare.gates-use",
        since: Version(1, 15, 1),
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
        ..Rule::REQUIRED
    },
    Rule {
        id: "prepare.fail",
        since: Version(1, 17, 8),
        statement: "After a prepare that fails no filter further out is prepared, and the one that failed is closed unfinalized.",
        clause: "nbdkit-filter(3), .prepare and .finalize",
        antecedent: "a prepare that fails",
        good: r#"NBD_OPT_GO "a" { open L1.prepare = -1 close } = EIO"#,
        bad: r#"NBD_OPT_GO "a" { open L1.prepare = -1 L2.prepare }"#,
        fix: "give the attempt up at the first failure; finalize what was prepared and close everything",
        check: by!(at(calls(&[Callback::Prepare]).enters(&[Callback::Finalize]), failure_stops)
            .and_end(failure_stops_at_end)),
        ..Rule::REQUIRED
    },
];

/// From the plugin outwards, once each.
fn inner_first(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = by_server(now) else { return };
    if let Some(first) = &handle.preparing {
        let expected = format!("one prepare of L{} for handle {}", handle.layer, handle.id);
        report.broken([first, now.event], expected, "another one");
    }
    if let Some(open) = now.parent().filter(|parent| parent.callback == Callback::Open) {
        let expected = format!("open of L{} has returned before prepare of L{}", open.layer(), handle.layer);
        report.broken([&open.enter, now.event], expected, "it has not");
    }
    let Some(inside) = now.history.handle_inside(handle, Callback::Prepare) else { return };
    report.exercised();
    // One that has failed is the business of another rule.
    if inside.prepared.is_none() {
        let earlier = inside.preparing.as_ref().unwrap_or(&inside.open);
        report.broken(
            [earlier, now.event],
            format!("prepare of L{} has returned before that of L{}", inside.layer, handle.layer),
            "it has not",
        );
    }
}

/// As in open.
fn same_readonly(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = now.handle.filter(|handle| handle.layer == now.event.layer) else { return };
    report.exercised();
    if handle.readonly() != now.event.readonly() {
        let said = |readonly: bool| if readonly { "readonly 1" } else { "readonly 0" };
        report.broken([&handle.open, now.event], said(handle.readonly()), said(now.event.readonly()));
    }
}

/// No use without preparation.
fn prepared_before_use(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = now.handle else { return };
    if handle.prepared == Some(true) {
        report.exercised();
        return;
    }
    let has_prepare = now.history.records(handle.layer, Callback::Prepare);
    if has_prepare && handle.layer == now.event.layer && now.history.is_servers(handle) {
        let earlier = handle.preparing.as_ref().unwrap_or(&handle.open);
        report.exercised();
        report.broken(
            [earlier, now.event],
            format!("prepare of L{} has returned 0 for handle {}", handle.layer, handle.id),
            match handle.prepared {
                Some(_) => "it has failed",
                None => "it has not returned",
            },
        );
    }
}

/// The first failure ends the attempt.
fn failure_stops(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(handle) = by_server(now) else { return };
    if now.is_exit() {
        if now.event.result() != 0 {
            report.exercised();
        }
    } else if now.event.callback() == Some(Callback::Finalize) {
        if handle.prepared == Some(false) {
            let earlier = handle.preparing.as_ref().unwrap_or(&handle.open);
            report.broken(
                [earlier, now.event],
                format!("no finalize of L{}: its prepare has failed", handle.layer),
                "it is called",
            );
        }
    } else if let Some(inside) = now.history.handle_inside(handle, Callback::Prepare)
        && inside.prepared == Some(false)
    {
        let earlier = inside.preparing.as_ref().unwrap_or(&inside.open);
        report.broken(
            [earlier, now.event],
            format!("no prepare of L{}: that of L{} has failed", handle.layer, inside.layer),
            "it is called",
        );
    }
}

fn failure_stops_at_end(history: &History, report: &mut Report<'_>) {
    if !history.ended_cleanly() {
        return;
    }
    for handle in history.handles().filter(|handle| handle.prepared == Some(false)) {
        if history.records(handle.layer, Callback::Close) && history.is_servers(handle) {
            let earlier = handle.preparing.as_ref().unwrap_or(&handle.open);
            report.broken(
                [earlier].into_iter().chain(history.end_event()),
                format!("handle {} of L{} is closed", handle.id, handle.layer),
                "it never is",
            );
        }
    }
}
