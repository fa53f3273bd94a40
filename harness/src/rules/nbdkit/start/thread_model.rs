//! thread_model: who is asked, and what comes of the answers.

use layers_trace::{Callback, Event};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};
use crate::version::Version;

/// Version from which a filter is told the model below it, so that the layer below must have been asked.
const TOLD: Version = Version(1, 43, 0);

/// Each layer is asked once, between config_complete and get_ready.
#[derive(Default)]
pub(super) struct AskedOnce {
    asked: PerLayer<Event>,
    answered: PerLayer<()>,
    ready: Option<Event>,
}

impl AskedOnce {
    fn ask(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        report.exercised();
        if let Some(first) = self.asked.get(layer) {
            report.broken([first, now.event], format!("one thread_model of L{layer}"), "another one");
        }
        if let Some(ready) = &self.ready {
            report.broken([ready, now.event], "every thread_model comes before get_ready", "one comes later");
        }
        let told = now.history.run().is_some_and(|run| run.version >= TOLD);
        let below = now.history.inner(layer, Callback::ThreadModel);
        if let Some(below) = below.filter(|below| told && !self.answered.has(*below)) {
            let expected = format!("L{below} has answered before L{layer} is asked");
            report.broken(self.asked.get(below).into_iter().chain([now.event]), expected, "it has not");
        }
        self.asked.set(layer, now.event.clone());
    }

    fn get_ready(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if self.ready.is_some() {
            return;
        }
        self.ready = Some(now.event.clone());
        for layer in now.history.layers() {
            if layer.records(Callback::ThreadModel) && !self.asked.has(layer.number) {
                let expected = format!("thread_model of L{} comes first", layer.number);
                report.expect(false, [now.event], expected, "it was left out");
            }
        }
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.history.is_dump() {
            return;
        }
        match now.event.callback() {
            _ if now.is_exit() => self.answered.set(now.event.layer, ()),
            Some(Callback::ThreadModel) => self.ask(now, report),
            Some(Callback::GetReady) => self.get_ready(now, report),
            _ => {
                if let Some(asked) = self.asked.values().next() {
                    let expected = "every config_complete comes before any thread_model";
                    report.broken([asked, now.event], expected, "one comes later");
                }
            }
        }
    }
}

/// `--dump-plugin` asks too, after the parameters.
pub(super) fn asked_in_dump(asked: &mut PerLayer<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if !now.history.is_dump() {
        return;
    }
    if now.event.callback() == Some(Callback::ThreadModel) {
        report.exercised();
        asked.keep_first(now.event.layer, || now.event.clone());
    } else if let Some(asked) = asked.values().next() {
        let expected = "every parameter comes before thread_model";
        report.broken([asked, now.event], expected, "one comes later");
    }
}

pub(super) fn asked_in_dump_at_end(asked: &mut PerLayer<Event>, history: &History, report: &mut Report<'_>) {
    if !history.is_dump() || !history.ended_cleanly() {
        return;
    }
    for layer in history.layers() {
        if layer.records(Callback::ThreadModel) && !asked.has(layer.number) {
            let expected = format!("thread_model of L{}", layer.number);
            report.expect(false, history.end_event(), expected, "it was never called");
        }
    }
}

/// The smallest answer so far, and the plugin's macro.
#[derive(Default)]
pub(super) struct Answers(Option<i64>);

impl Answers {
    fn add(&mut self, exit: &Event) {
        let answer = exit.result();
        if answer >= 0 {
            self.0 = Some(self.0.map_or(answer, |least| least.min(answer)));
        }
    }

    /// `None` where somebody's answer is not in the trace.
    fn least(&self, history: &History) -> Option<i64> {
        let constant = i64::from(history.layer(0)?.thread_model);
        history.is_complete().then(|| self.0.map_or(constant, |least| least.min(constant)))
    }
}

/// get_ready of a filter is told the most serial of all models.
pub(super) fn most_serial_wins(answers: &mut Answers, now: &Now<'_>, report: &mut Report<'_>) {
    if now.is_exit() {
        answers.add(now.event);
    } else if now.event.layer > 0
        && let Some(least) = answers.least(now.history)
    {
        let told = now.event.a.cast_signed();
        let expected = format!("L{}.get_ready is told thread model {least}", now.event.layer);
        report.expect(told == least, [now.event], expected, format!("{told}"));
    }
}

/// thread_model of a filter is told the most serial model below it.
#[derive(Default)]
pub(super) struct ToldModelBelow {
    answers: Answers,
    answered: PerLayer<()>,
}

impl ToldModelBelow {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let layer = now.event.layer;
        if now.is_exit() {
            self.answered.set(layer, ());
            self.answers.add(now.event);
            return;
        }
        // Asked in another order, it could not be told; that is another rule.
        let mut all = now.history.layers().iter().filter(|other| other.records(Callback::ThreadModel));
        let in_order = all.all(|other| (other.number < layer) == self.answered.has(other.number));
        if layer == 0 || !in_order {
            return;
        }
        if let Some(least) = self.answers.least(now.history) {
            let told = now.event.a.cast_signed();
            let expected = format!("L{layer}.thread_model is told thread model {least}");
            report.expect(told == least, [now.event], expected, format!("{told}"));
        }
    }
}
