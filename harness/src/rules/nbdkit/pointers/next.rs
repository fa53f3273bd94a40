//! `nbdkit_next *`.

use layers_trace::{Below, Callback, Kind};

use crate::history::{Handle, History};
use crate::rules::check::{Check, Now, Report, Watch};

/// All callbacks of a filter that are given both a handle and a next.
fn given_next(callback: Callback) -> bool {
    callback.has_handle() && callback != Callback::Close
}

/// A handle's next does not change.
pub(super) struct NextIsStable;

impl Check for NextIsStable {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(given_next)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(handle) = now.handle else { return };
        let Some(next) = handle.next.filter(|_| handle.layer == now.event.layer) else { return };
        if !now.history.keeps_next(handle.layer) {
            return;
        }
        report.exercised();
        if now.event.context != next {
            report.broken(
                [&handle.open, now.event],
                format!("L{} gets the same next for handle {} every time", handle.layer, handle.id),
                if now.event.context == 0 { "NULL" } else { "another one" },
            );
        }
    }
}

/// What a filter did not open it is not given.
pub(super) struct NullWhenSkipped;

impl Check for NullWhenSkipped {
    fn watches(&self) -> Watch {
        Watch::NONE.enters_where(given_next).notes(Kind::Ask)
    }

    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.kind == Kind::Ask {
            let current = now.history.thread(now.event.tid).and_then(|thread| thread.current());
            let call = current.map(|call| &call.enter);
            if let (Some(Below::Next(operation)), 0) = (now.event.below(), now.event.context) {
                let actual = format!("L{} calls next->{operation}", now.event.layer);
                report.broken(call.into_iter().chain([now.event]), "NULL is not used as next", actual);
            }
            return;
        }
        // Only the first next of a handle is of interest, and that of one that has had none.
        let Some(handle) = now.handle.filter(|handle| handle.next.is_none()) else { return };
        if handle.layer != now.event.layer || !opened_nothing(now.history, handle) {
            return;
        }
        report.exercised();
        if now.event.context != 0 {
            let expected = format!("NULL for next: L{} has opened nothing below", handle.layer);
            report.broken([&handle.open, now.event], expected, "a pointer");
        }
    }
}

/// It can be told that this filter's `open` has opened nothing, and that nothing else could be below it.
fn opened_nothing(history: &History, handle: &Handle) -> bool {
    let below = handle.layer.checked_sub(1);
    below.is_some_and(|below| history.records(below, Callback::Open))
        && !history.opens_contexts(handle.layer)
        && !history.handles().any(|other| other.chain == handle.chain && other.layer < handle.layer)
}

#[cfg(test)]
mod tests {
    use crate::rules::testing::*;
    use layers_trace::{Callback, ContextFunction, Event, Kind};

    #[test]
    fn next_stays_the_same() {
        const RULE: &str = "ptr.next.stable";
        accepts(RULE, reference());
        for callback in [Callback::GetSize, Callback::Pread, Callback::Finalize] {
            rejects(RULE, reference().changed(Kind::Enter, 2, callback, 0, |event| event.context += 8));
            rejects(RULE, reference().changed(Kind::Enter, 1, callback, 0, |event| event.context = 0));
        }
    }

    #[test]
    fn a_filter_may_choose_another_next() {
        // L1 reopens the plugin in the middle of a pread, and reads from the new context from then on.
        let good = reference();
        let pread = good.index(Kind::Exit, 1, Callback::Pread, 0);
        let mut script = good.with(pread, |script| {
            let fresh = script.open_unprepared(0, "main");
            script.on(&fresh, 0, Callback::Close, 0);
        });
        let later = script.events.iter_mut().skip(pread).filter(|event| event.layer == 1 && event.handle > 0);
        later.filter(|event| event.context != 0).for_each(|event| event.context += 8);
        let judgement = judged(script);
        assert_eq!(judgement.result("ptr.next.stable").unwrap().broken, 0);
    }

    /// L2 opens nothing below itself.
    fn skipping() -> Script {
        let mut script = Script::new(&run(1));
        script.start(1);
        script.tid = CONNECTION;
        let open = script.enter(1, Callback::Open);
        (open.context, open.b) = (context(1, 0), backend(1));
        let open = open.position;
        script.exit(open, 1).handle = 1;
        for callback in [Callback::Prepare, Callback::GetSize, Callback::Finalize, Callback::Close] {
            let call = script.enter(1, callback);
            call.handle = 1;
            let call = call.position;
            script.exit(call, 0);
        }
        script.stop(1);
        script
    }

    #[test]
    fn a_filter_that_says_what_it_asks_for_and_chooses_none_keeps_its_next() {
        const RULE: &str = "ptr.next.stable";
        let opening = |chooses: bool| {
            let good = reference();
            let pread = good.index(Kind::Exit, 1, Callback::Pread, 0);
            good.with(pread, |script| {
                let fresh = script.open_unprepared(0, "main");
                script.on(&fresh, 0, Callback::Close, 0);
                let asks = if chooses { ContextFunction::SetNext } else { ContextFunction::Open };
                let ask = script.note(Kind::Ask, asks as u8);
                (ask.layer, ask.call) = (1, ask.position);
            })
        };
        let change = |event: &mut Event| event.context += 8;
        rejects(RULE, opening(false).changed(Kind::Enter, 1, Callback::Finalize, 1, change));
        let chosen = opening(true).changed(Kind::Enter, 1, Callback::Finalize, 1, change);
        assert_eq!(judged(chosen).result(RULE).unwrap().broken, 0);
    }

    #[test]
    fn a_filter_that_opens_nothing_gets_no_next() {
        const RULE: &str = "ptr.next.null-when-skipped";
        let exercised = judged(skipping());
        let result = exercised.result(RULE).unwrap();
        assert!(result.exercised > 0 && result.broken == 0);
        let change = |event: &mut Event| event.context = context(0, 0);
        rejects(RULE, skipping().changed(Kind::Enter, 1, Callback::Prepare, 0, change));
        let prepare = skipping().index(Kind::Exit, 1, Callback::Prepare, 0);
        let used = skipping().with(prepare, |script| {
            let ask = script.note(Kind::Ask, Callback::GetSize as u8);
            (ask.layer, ask.call) = (1, ask.position);
        });
        rejects(RULE, used);
        assert_eq!(judged(reference()).result(RULE).unwrap().exercised, 0);
    }
}
