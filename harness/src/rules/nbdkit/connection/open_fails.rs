//! nbdkit-plugin(3) and nbdkit-filter(3), `.open`: what is left of an attempt that fails.

use layers_trace::Callback::{self, BlockSize, Close, ExportDescription, Finalize, Open, Prepare};
use layers_trace::event::{HANDLE_FOREIGN, HANDLE_NULL};
use layers_trace::{Event, Kind, Operation};

use super::survival::{Failure, is_lost, survives};
use crate::rules::check::{
    Both, Kept, Now, Report, Rule, Said, by, enters_where, exits, exits_where, given, remembering, unless,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "open.fail.no-close",
        statement: "A layer whose open has failed gets no prepare, no finalize and no close for it.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .open and .close",
        antecedent: "an open that returns NULL",
        good: r#"NBD_OPT_GO "a" { L1.open = NULL } = EIO"#,
        bad: r#"NBD_OPT_GO "a" { L1.open = NULL L1.close }"#,
        also: &["ptr.handle.identity"],
        fix: "leave out the layers that have no handle when an attempt is undone",
        check: by!(remembering(exits(&[Open]).enters(&[Prepare, Finalize, Close]), failed_is_forgotten)),
        ..Rule::REQUIRED.since(1, 15, 2)
    },
    Rule {
        id: "open.fail.inner-closed",
        statement: "When a filter fails with the layers below it open, they are closed at once, inwards, unfinalized.",
        clause: "not spelled out in the manual; nbdkit-filter(3), .open and .close, and the server's history (1.15.5)",
        antecedent: "an open of a filter that returns NULL after the open below it has succeeded",
        good: r#"NBD_OPT_GO "a" { L2.open { L1.open { L0.open } = NULL L0.close } = NULL } = EIO"#,
        bad: r#"send NBD_OPT_GO "a" enter L2.open enter L1.open L0.open exit L1.open = NULL exit L2.open = NULL"#,
        fix: "close what lies below before the failure is handed to the layer above",
        check: by!(remembering(enters_where(Callback::is_connected).exits(&[Open]), inner_is_closed)
            .minding_data_if(|undoing, _| !undoing.is_empty())),
        ..Rule::REQUIRED.since(1, 15, 5)
    },
    Rule {
        id: "open.fail.retry",
        statement: "After an attempt that fails a client of NBD_OPT_INFO and NBD_OPT_GO may try again; another one may not.",
        clause: "nbdkit-filter(3), .prepare and .finalize; the server's history (1.15.4)",
        antecedent: "an open, prepare, get_size or can_* that fails for a client that writes down what it asks",
        good: r#"NBD_OPT_GO "a" { L0.open = NULL } = EIO NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { L0.open = NULL } = EIO NBD_OPT_GO "a" = ENOTCONN SIGTERM"#,
        fix: "answer the option with an error and wait for the next one",
        check: by!(Both::new(
            survives(ATTEMPT),
            remembering(exits_where(is_of_attempt).notes(&[Kind::Reply]), has_one_attempt)
        )),
        ..Rule::REQUIRED.since(1, 15, 4)
    },
];

/// A failed open leaves nothing to be undone.
fn failed_is_forgotten(failed: &mut Vec<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let same = |failed: &Event| failed.tid == now.event.tid && failed.layer == now.event.layer;
    if now.is_exit() {
        failed.retain(|failed| !same(failed));
        given(now.event.result() == 0)?;
        // Threads come and go; what is worth remembering is recent.
        if failed.len() >= MOST_FAILED {
            failed.remove(0);
        }
        failed.push(now.event.clone());
        return report.exercised();
    }
    given(matches!(now.event.handle, HANDLE_NULL | HANDLE_FOREIGN))?;
    let (failed, call) = (failed.iter().find(|failed| same(failed))?, now.call?);
    let expected = format!("no {} of L{}, whose open has failed", call.callback, call.layer());
    report.broken(failed, expected, "it is called")
}

/// Failed opens remembered, over all threads.
const MOST_FAILED: usize = 64;

/// Of each thread the failure of a filter, and the handles below that are to be closed, the next one to be closed last.
type Undoing = Kept<u32, (Event, Vec<u32>)>;

/// What is below a failed filter is closed before anything else happens.
fn inner_is_closed(undoing: &mut Undoing, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if let Some((failure, mut left)) = undoing.take(now.event.tid) {
        if now.is(Close) && left.last() == Some(&now.event.handle) {
            left.pop();
        } else if now.parent().is_none_or(|parent| parent.callback != Close) {
            let layers = left.drain(..).rev().filter_map(|id| now.history.handle(id));
            let names: Vec<String> = layers.map(|handle| format!("L{}", handle.layer)).collect();
            let expected = format!("{} closed next, in this order", names.join(", "));
            report.broken(&failure, expected, "something else happens");
        }
        if !left.is_empty() {
            undoing.set(now.event.tid, (failure, left));
        }
    }
    given(now.is_exit() && now.event.result() == 0)?;
    let call = now.call?;
    let below = now.history.chain(call.chain?).into_iter().rev().filter(|handle| handle.layer < call.layer());
    let left = below.filter(|handle| now.history.records(handle.layer, Close)).map(|handle| handle.id);
    let left: Vec<u32> = left.collect();
    // Contexts that a filter has opened itself are its own to close.
    unless(left.is_empty() || now.history.opens_contexts_above(0))?;
    report.exercised();
    undoing.set(now.event.tid, (now.event.clone(), left))
}

/// A failure there makes an attempt fail.
fn is_of_attempt(callback: Callback) -> bool {
    let ends = matches!(callback, Finalize | BlockSize);
    ends || matches!(callback, Open | Prepare) || callback.is_query() && callback != ExportDescription
}

/// The layer that fails is the one that the server has asked.
fn fails(now: &Now<'_>) -> bool {
    now.server_call().is_some_and(|call| match call.callback {
        Finalize | BlockSize => false,
        Open => now.event.result() == 0,
        _ => now.event.result() < 0,
    })
}

fn ends(now: &Now<'_>) -> bool {
    matches!(now.event.callback(), Some(Finalize | BlockSize)) && now.event.result() < 0
}

/// An attempt that fails is not the end.
const ATTEMPT: Failure = Failure { exits: is_of_attempt, is: fails, ends, is_told: false };

/// But it is for clients that cannot be told: NBD_OPT_EXPORT_NAME, and the oldstyle protocol, have no answer that says no.
/// Remembers such failures, with their requests.
fn has_one_attempt(last: &mut Vec<(Event, u32)>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    if now.is_exit() {
        let client = now.served().filter(|_| fails(now))?;
        let oldstyle = now.history.run().is_some_and(|run| run.oldstyle);
        let connects = || client.awaits(Operation::Connect).filter(|_| oldstyle);
        let request = client.awaits(Operation::ExportName).or_else(connects)?.event.position;
        unless(last.iter().any(|(_, other)| *other == request))?;
        last.push((now.event.clone(), request));
        return Some(());
    }
    let index = last.iter().position(|(_, request)| *request == now.event.call)?;
    let (failure, _) = last.swap_remove(index);
    let served = now.event.result() == 0 && !is_lost(now.event);
    report.expect(!served, &failure, "the connection ends", "the client is served")
}
