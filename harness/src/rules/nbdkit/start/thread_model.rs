//! thread_model: who is asked, and what comes of the answers.

use layers_trace::Callback::{Config, ConfigComplete, GetReady, ThreadModel};

use super::super::order::{before, none_left_out, once};
use crate::history::History;
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, given, unless};
use crate::version::Version;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "thread_model.inner-to-outer",
        statement: "Each layer is asked once for its thread model, between config_complete and get_ready; from 1.44 outwards.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .thread_model",
        antecedent: "a layer with thread_model, in a run that serves",
        good: "L0.thread_model L1.thread_model",
        bad: "L1.thread_model",
        fix: "ask every layer once when the configuration is complete, the plugin first",
        check: by!(at(enters(&[ConfigComplete, ThreadModel, GetReady]), asked_once)),
        ..Rule::REQUIRED.since(1, 13, 4)
    },
    Rule {
        id: "thread_model.dump",
        statement: "With `--dump-plugin` the thread model is asked for too, after the last parameter.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a run with --dump-plugin, and a layer with thread_model",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: r#"run start=dump-plugin parameter="a=1"; load L0.thread_model L0.config "a" "1""#,
        also: &["dump.sequence", "config.once-per-arg"],
        fix: "ask for thread models when all parameters have been handed out",
        check: by!(at(enters(&[ThreadModel, Config]), asked_in_dump).and_end(all_asked_in_dump)),
        ..Rule::REQUIRED.since(1, 13, 9)
    },
    Rule {
        id: "thread_model.final-is-min",
        statement: "The most serial answer, the plugin's THREAD_MODEL among them, wins, and get_ready of every filter is told.",
        clause: "nbdkit-plugin(3), Threads; nbdkit-filter(3), .thread_model and .get_ready",
        antecedent: "a filter with get_ready, in a stack of which every layer is recorded",
        good: "L0.thread_model L1.thread_model = 1 L0.get_ready L1.get_ready model=1",
        bad: "L0.thread_model L1.thread_model = 1 L0.get_ready L1.get_ready model=3",
        fix: "take the minimum over the plugin's macro and all answers, and pass it to get_ready",
        check: by!(at(enters(&[GetReady]), most_serial_wins)),
        ..Rule::REQUIRED.since(1, 21, 24)
    },
    Rule {
        id: "thread_model.next-arg",
        statement: "A filter that is asked for its thread model is told the one in force below it.",
        clause: "nbdkit-filter(3) of 1.44, .thread_model",
        antecedent: "a filter with thread_model, in a stack of which every layer is recorded",
        good: "L0.thread_model = 1 L1.thread_model model=1",
        bad: "L0.thread_model = 1 L1.thread_model model=3",
        fix: "pass the minimum over the layers below",
        check: by!(at(enters(&[ThreadModel]), told_model_below)),
        ..Rule::REQUIRED.since(1, 43, 0)
    },
];

/// Version from which a filter is told the model below it, so that the layer below must have been asked.
const TOLD: Version = Version(1, 43, 0);

/// Each layer is asked once, between config_complete and get_ready.
fn asked_once(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (history, layer) = (now.history, now.event.layer);
    unless(history.is_dump())?;
    let ready = history.first_enters(GetReady).next();
    match now.event.callback() {
        Some(ThreadModel) => {}
        // Every layer has been asked.
        Some(GetReady) if ready.is_none() => return none_left_out(ThreadModel, history, report),
        Some(GetReady) => return None,
        _ => return before(ThreadModel, now, report),
    }
    report.exercised();
    once(now, report);
    if let Some(ready) = ready {
        report.broken(ready, "every thread_model comes before get_ready", "one comes later");
    }
    let told = history.run().is_some_and(|run| run.version >= TOLD);
    let below = history.inner(layer, ThreadModel).filter(|_| told)?;
    given(history.returned(below, ThreadModel).is_none())?;
    let expected = format!("L{below} has answered before L{layer} is asked");
    report.broken(history.entered(below, ThreadModel), expected, "it has not")
}

/// `--dump-plugin` asks too, after the parameters.
fn asked_in_dump(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.history.is_dump())?;
    if now.is(ThreadModel) {
        return report.exercised();
    }
    let asked = now.history.first_enters(ThreadModel).next()?;
    report.broken(asked, "every parameter comes before thread_model", "one comes later")
}

fn all_asked_in_dump(history: &History, report: &mut Report<'_>) -> Said {
    given(history.is_dump() && history.ended_cleanly())?;
    for layer in history.left_out(ThreadModel) {
        report.expect(false, (), format_args!("thread_model of L{layer}"), "it was never called");
    }
    Some(())
}

/// The smallest answer so far, and the plugin's macro; `None` where somebody's answer is not in the trace.
fn least(history: &History) -> Option<i64> {
    let constant = i64::from(history.layer(0)?.thread_model);
    let answers = history.recording(ThreadModel).filter_map(|layer| history.returned(layer, ThreadModel));
    let answers = answers.map(|exit| exit.result()).filter(|answer| *answer >= 0);
    history.is_complete().then(|| answers.fold(constant, i64::min))
}

/// A filter's callback is told the most serial model of the layers that have answered.
fn told_least(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (least, callback) = least(now.history).zip(now.event.callback())?;
    let told = now.event.a.cast_signed();
    let expected = format!("L{}.{callback} is told thread model {least}", now.event.layer);
    report.expect(told == least, (), expected, told.to_string())
}

/// get_ready of a filter is told the most serial of all models.
fn most_serial_wins(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(now.event.layer > 0)?;
    told_least(now, report)
}

/// thread_model of a filter is told the most serial model below it.
fn told_model_below(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let layer = now.event.layer;
    // Asked in another order, it could not be told; that is another rule.
    let answered = |other: u8| now.history.returned(other, ThreadModel).is_some();
    given(layer > 0 && now.history.recording(ThreadModel).all(|other| (other < layer) == answered(other)))?;
    told_least(now, report)
}
