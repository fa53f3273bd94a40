//! nbdkit-plugin(3) and nbdkit-filter(3), `.open`: what is left of an attempt that fails.

use layers_trace::event::{HANDLE_FOREIGN, HANDLE_NULL};
use layers_trace::{Callback, Event, Kind, Operation};

use super::survival::{Failure, Survives, is_lost};
use crate::rules::check::{Check, Now, Report, Rule, Watch, by, enters_where, exits, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "open.fail.no-close",
        since: Version(1, 15, 2),
        statement: "A layer whose open has failed gets no prepare, no finalize and no close for it.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .open and .close",
        antecedent: "an open that returns NULL",
        good: r#"NBD_OPT_GO "a" { L1.open = NULL } = EIO"#,
        bad: r#"NBD_OPT_GO "a" { L1.open = NULL L1.close }"#,
        also: &["ptr.handle.identity"],
        fix: "leave out the layers that have no handle when an attempt is undone",
        check: by!(remembering(
            {
                const UNDOING: &[Callback] = &[Callback::Prepare, Callback::Finalize, Callback::Close];
                exits(&[Callback::Open]).enters(UNDOING)
            },
            failed_is_forgotten
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.fail.inner-closed",
        since: Version(1, 15, 5),
        statement: "When a filter fails with the layers below it open, they are closed at once, inwards, unfinalized.",
        clause: "not spelled out in the manual; nbdkit-filter(3), .open and .close, and the server's history (1.15.5)",
        antecedent: "an open of a filter that returns NULL after the open below it has succeeded",
        good: r#"NBD_OPT_GO "a" { L2.open { L1.open { L0.open } = NULL L0.close } = NULL } = EIO"#,
        bad: r#"send NBD_OPT_GO "a" enter L2.open enter L1.open L0.open exit L1.open = NULL exit L2.open = NULL"#,
        fix: "close what lies below before the failure is handed to the layer above",
        check: by!(remembering(
            enters_where(Callback::is_connected).exits(&[Callback::Open]),
            InnerIsClosed::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "open.fail.retry",
        since: Version(1, 15, 4),
        statement: "After an attempt that fails a client of NBD_OPT_INFO and NBD_OPT_GO may try again; another one may not.",
        clause: "nbdkit-filter(3), .prepare and .finalize; the server's history (1.15.4)",
        antecedent: "an open, prepare, get_size or can_* that fails for a client that writes down what it asks",
        good: r#"NBD_OPT_GO "a" { L0.open = NULL } = EIO NBD_OPT_GO "a""#,
        bad: r#"NBD_OPT_GO "a" { L0.open = NULL } = EIO NBD_OPT_GO "a" = ENOTCONN SIGTERM"#,
        fix: "answer the option with an error and wait for the next one",
        check: by!(TriesAgain::new()),
        ..Rule::REQUIRED
    },
];

/// A failed open leaves nothing to be undone.
fn failed_is_forgotten(failed: &mut Vec<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    let same = |failed: &Event| failed.tid == now.event.tid && failed.layer == now.event.layer;
    if now.is_exit() {
        failed.retain(|failed| !same(failed));
        if now.event.result() == 0 {
            report.exercised();
            // Threads come and go; what is worth remembering is recent.
            if failed.len() >= MOST_FAILED {
                failed.remove(0);
            }
            failed.push(now.event.clone());
        }
        return;
    }
    if !matches!(now.event.handle, HANDLE_NULL | HANDLE_FOREIGN) {
        return;
    }
    if let (Some(failed), Some(call)) = (failed.iter().find(|failed| same(failed)), now.call) {
        report.broken(
            [failed, now.event],
            format!("no {} of L{}, whose open has failed", call.callback, call.layer()),
            "it is called",
        );
    }
}

/// Failed opens remembered, over all threads.
const MOST_FAILED: usize = 64;

/// Layers that are to be closed because the filter above them has failed.
struct Undoing {
    failure: Event,
    connection_tid: u32,
    /// Their handles, the next one to be closed last.
    left: Vec<u32>,
}

/// What is below a failed filter is closed before anything else happens.
#[derive(Default)]
struct InnerIsClosed {
    undoing: Vec<Undoing>,
}

impl InnerIsClosed {
    fn failed(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(call) = now.call else { return };
        let Some(chain) = call.chain.filter(|_| now.event.result() == 0) else { return };
        // Contexts that a filter has opened itself are its own to close.
        let own = now.history.layers().iter().any(|l| l.number > 0 && now.history.opens_contexts(l.number));
        let mut left: Vec<u32> = now
            .history
            .chain(chain)
            .into_iter()
            .filter(|handle| {
                handle.layer < call.layer() && now.history.records(handle.layer, Callback::Close)
            })
            .map(|handle| handle.id)
            .collect();
        left.reverse();
        if !own && !left.is_empty() {
            report.exercised();
            let (failure, connection_tid) = (now.event.clone(), now.event.tid);
            self.undoing.push(Undoing { failure, connection_tid, left });
        }
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let here = |undoing: &Undoing| undoing.connection_tid == now.event.tid;
        if let Some(index) = self.undoing.iter().position(here) {
            let in_close = now.parent().is_some_and(|parent| parent.callback == Callback::Close);
            let Some(undoing) = self.undoing.get_mut(index) else { return };
            let expected_next = undoing.left.last() == Some(&now.event.handle);
            if now.event.callback() == Some(Callback::Close) && expected_next {
                undoing.left.pop();
            } else if !in_close {
                let undoing = self.undoing.swap_remove(index);
                let layers = undoing.left.iter().rev().filter_map(|id| now.history.handle(*id));
                let names: Vec<String> = layers.map(|handle| format!("L{}", handle.layer)).collect();
                report.broken(
                    [&undoing.failure, now.event],
                    format!("{} closed next, in this order", names.join(", ")),
                    "something else happens",
                );
            }
            self.undoing.retain(|undoing| !undoing.left.is_empty());
        }
        if now.is_exit() {
            self.failed(now, report);
        }
    }
}

/// Callbacks whose failure makes an attempt fail, and leaves the connection.
const ATTEMPT: &[Callback] = &[
    Callback::Open,
    Callback::Prepare,
    Callback::GetSize,
    Callback::CanWrite,
    Callback::CanFlush,
    Callback::IsRotational,
    Callback::CanTrim,
    Callback::CanZero,
    Callback::CanFastZero,
    Callback::CanExtents,
    Callback::CanFua,
    Callback::CanMultiConn,
    Callback::CanCache,
    // These end the connection.
    Callback::Finalize,
    Callback::BlockSize,
];

/// The layer that fails is the one that the server has asked.
fn is_attempt(now: &Now<'_>) -> bool {
    let Some(call) = now.call.filter(|call| call.parent.is_none() && now.history.is_for_client(call)) else {
        return false;
    };
    match call.callback {
        Callback::Finalize | Callback::BlockSize => false,
        Callback::Open => now.event.result() == 0,
        _ => now.event.result() < 0,
    }
}

fn ends(now: &Now<'_>) -> bool {
    let ending = matches!(now.event.callback(), Some(Callback::Finalize | Callback::BlockSize));
    ending && now.event.result() < 0
}

/// An attempt that fails is not the end, but for clients that cannot be told.
struct TriesAgain {
    negotiating: Survives,
    /// Failures of attempts for clients that have no second one, with their requests.
    last: Vec<(Event, Event)>,
}

impl TriesAgain {
    fn new() -> TriesAgain {
        let failure = Failure { exits: ATTEMPT, is: is_attempt, ends, is_told: false };
        TriesAgain { negotiating: Survives::new(failure), last: Vec::new() }
    }

    /// NBD_OPT_EXPORT_NAME, and the oldstyle protocol, have no answer that says no.
    fn has_one_attempt(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match now.event.kind {
            Kind::Exit if is_attempt(now) => {
                let connection = now.call.and_then(|call| call.connection);
                let Some(client) = connection.and_then(|id| now.history.client_of(id)) else { return };
                let oldstyle = now.history.run().is_some_and(|run| run.oldstyle);
                let request = client
                    .awaits(Operation::ExportName)
                    .or_else(|| client.awaits(Operation::Connect).filter(|_| oldstyle));
                let known =
                    |request: &Event| self.last.iter().any(|(_, other)| other.position == request.position);
                if let Some(request) = request.filter(|request| !known(&request.event)) {
                    self.last.push((now.event.clone(), request.event.clone()));
                }
            }
            Kind::Reply => {
                let asked = |(_, request): &(Event, Event)| request.position == now.event.call;
                let Some(index) = self.last.iter().position(asked) else { return };
                let (failure, _) = self.last.swap_remove(index);
                report.exercised();
                if now.event.result() == 0 && !is_lost(now.event) {
                    report.broken([&failure, now.event], "the connection ends", "the client is served");
                }
            }
            _ => {}
        }
    }
}

impl Check for TriesAgain {
    fn watches(&self) -> Watch {
        self.negotiating.watches()
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        self.negotiating.see(now, report);
        self.has_one_attempt(now, report);
    }
}
