//! What becomes of a question that has failed, as filters see it that write down what they ask.

use layers_trace::event::Below;
use layers_trace::{Callback, Event, Kind};

use crate::rules::check::{Now, Report};

/// A question of a filter's that has failed.
struct Failed {
    layer: u8,
    next: u64,
    query: Callback,
    answer: Event,
}

/// One that it asks again.
struct Again {
    ask: Event,
    answer: Event,
    /// The layer below has heard of it.
    reached: bool,
}

/// The layer below is asked again.
#[derive(Default)]
pub(super) struct AskedAgain {
    failed: Vec<Failed>,
    again: Vec<Again>,
}

impl AskedAgain {
    fn asks(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(Below::Next(query)) = now.event.below().filter(|_| now.event.context != 0) else { return };
        let (layer, next) = (now.event.layer, now.event.context);
        // Who has not the callback is not asked; nor is one below a layer that does not pass on.
        let Some(below) = now.history.inner(layer, query) else { return };
        if below + 1 != layer {
            return;
        }
        let same = |failed: &&Failed| (failed.layer, failed.next, failed.query) == (layer, next, query);
        if let Some(failed) = self.failed.iter().find(same) {
            report.exercised();
            let (ask, answer) = (now.event.clone(), failed.answer.clone());
            self.again.push(Again { ask, answer, reached: false });
        }
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if let Some(index) = self.again.iter().position(|again| again.ask.position == now.event.call) {
            let again = self.again.swap_remove(index);
            if !again.reached {
                report.broken(
                    [&again.answer, &again.ask, now.event],
                    "the layer below is asked again after a failure",
                    "it is not",
                );
            }
        }
        let Some(Below::Next(query)) = now.event.below().filter(|_| now.event.context != 0) else { return };
        let (layer, next) = (now.event.layer, now.event.context);
        self.failed.retain(|failed| (failed.layer, failed.next, failed.query) != (layer, next, query));
        if query.is_query() && query != Callback::ExportDescription && now.event.result() < 0 {
            self.failed.push(Failed { layer, next, query, answer: now.event.clone() });
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        match (now.event.kind, now.event.callback()) {
            (Kind::Ask, _) => self.asks(now, report),
            (Kind::Answer, _) => self.answered(now, report),
            // The context may be gone, and its address be that of another one soon.
            (_, Some(Callback::Close)) => self.failed.retain(|failed| failed.layer <= now.event.layer),
            (_, Some(query)) => {
                let mine = |again: &&mut Again| {
                    again.ask.tid == now.event.tid
                        && again.ask.number == query as u8
                        && again.ask.layer == now.event.layer + 1
                };
                if let Some(again) = self.again.iter_mut().find(mine) {
                    again.reached = true;
                }
            }
            _ => {}
        }
    }
}
