//! What becomes of a question that has failed, as filters see it that write down what they ask.

use layers_trace::Callback::{self, Close, ExportDescription};
use layers_trace::event::Below;
use layers_trace::{Event, Kind};

use crate::rules::check::{Kept, Now, Report, Said, given};

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
    /// The answers to questions that have failed, by filter, its next and the query.
    failed: Kept<(u8, u64, Callback), Event>,
    again: Vec<Again>,
}

/// The filter that asks or is answered here, its `next`, and the query.
fn question(now: &Now<'_>) -> Option<(u8, u64, Callback)> {
    let Some(Below::Next(query)) = now.event.below() else { return None };
    (now.event.context != 0).then_some((now.event.layer, now.event.context, query))
}

impl AskedAgain {
    fn asks(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let (layer, next, query) = question(now)?;
        // Who has not the callback is not asked; nor is one below a layer that does not pass on.
        given(now.history.inner(layer, query)? + 1 == layer)?;
        let (ask, answer) = (now.event.clone(), self.failed.get((layer, next, query))?.clone());
        report.exercised();
        self.again.push(Again { ask, answer, reached: false });
        Some(())
    }

    fn answered(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        if let Some(index) = self.again.iter().position(|again| again.ask.position == now.event.call) {
            let again = self.again.swap_remove(index);
            if !again.reached {
                let expected = "the layer below is asked again after a failure";
                report.broken((&again.answer, &again.ask), expected, "it is not");
            }
        }
        let (layer, next, query) = question(now)?;
        self.failed.take((layer, next, query));
        given(query.is_query() && query != ExportDescription && now.event.result() < 0)?;
        self.failed.set((layer, next, query), now.event.clone())
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        match (now.event.kind, now.event.callback()) {
            (Kind::Ask, _) => self.asks(now, report),
            (Kind::Answer, _) => self.answered(now, report),
            // The context may be gone, and its address be that of another one soon.
            (_, Some(Close)) => self.failed.retain(|(layer, ..)| *layer <= now.event.layer),
            (_, Some(query)) => {
                let mine = |again: &&mut Again| {
                    again.ask.tid == now.event.tid
                        && again.ask.number == query as u8
                        && again.ask.layer == now.event.layer + 1
                };
                self.again.iter_mut().find(mine)?.reached = true;
                Some(())
            }
            _ => None,
        }
    }
}
