//! Runs that only tell something: `--dump-plugin`, `--help`, `--version`.

use layers_trace::{Callback, Event, Field};

use crate::history::History;
use crate::rules::check::per_layer::PerLayer;
use crate::rules::check::{Now, Report};
use crate::run::Start;
use crate::version::Version;

/// Only these, in this order.
#[derive(Default)]
pub(super) struct DumpSequence {
    last: Option<Event>,
    dumped: PerLayer<Event>,
}

/// Where a callback stands in such a run.
fn phase(callback: Option<Callback>) -> Option<u8> {
    Some(match callback? {
        Callback::Load => 0,
        Callback::Config => 1,
        Callback::ThreadModel => 2,
        Callback::DumpPlugin => 3,
        Callback::Unload => 4,
        _ => return None,
    })
}

impl DumpSequence {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if !now.history.is_dump() {
            return;
        }
        let layer = now.event.layer;
        let Some(own) = phase(now.event.callback()) else {
            report.broken(
                [now.event],
                "load, config, thread_model, dump_plugin, unload only",
                "another call",
            );
            return;
        };
        if let Some(last) = self.last.as_ref().filter(|last| phase(last.callback()) > Some(own)) {
            let expected = "load, config, thread_model, dump_plugin, unload in this order";
            report.broken([last, now.event], expected, "a call comes too late");
        } else {
            self.last = Some(now.event.clone());
        }
        if now.event.callback() != Some(Callback::DumpPlugin) {
            return;
        }
        if let Some(first) = self.dumped.get(layer) {
            report.broken([first, now.event], format!("one dump_plugin of L{layer}"), "another one");
        }
        let below = now.history.inner(layer, Callback::DumpPlugin);
        if let Some(below) = below.filter(|below| !self.dumped.has(*below)) {
            report.broken(
                [now.event],
                format!("dump_plugin of L{below} comes first"),
                "it has not been called",
            );
        }
        self.dumped.set(layer, now.event.clone());
    }

    pub(super) fn end(&mut self, history: &History, report: &mut Report<'_>) {
        if !history.is_dump() || !history.ended_cleanly() || history.layers().is_empty() {
            return;
        }
        report.exercised();
        for layer in history.layers() {
            if layer.records(Callback::DumpPlugin) && !self.dumped.has(layer.number) {
                let expected = format!("dump_plugin of L{}", layer.number);
                report.broken(history.end_event(), expected, "it was never called");
            }
        }
    }
}

/// Version from which the server prints the line for this callback; the oldest that filters can be recorded in is 1.26.
fn printed_since(callback: Callback) -> Version {
    match callback {
        Callback::BlockSize => Version(1, 29, 16),
        _ => Version(1, 26, 0),
    }
}

/// A plugin of the present API can have it.
fn is_plugins(callback: Callback) -> bool {
    !matches!(
        callback,
        Callback::Prepare
            | Callback::Finalize
            | Callback::PreadV1
            | Callback::PwriteV1
            | Callback::FlushV1
            | Callback::TrimV1
            | Callback::ZeroV1
    )
}

/// The lines `has_X=1` are those of the plugin's table.
pub(super) fn has_fields(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(run) = now.history.run().filter(|run| run.start == Start::DumpPlugin) else { return };
    let (Some(output), Some(plugin)) = (now.event.text(Field::Message), now.history.layer(0)) else {
        return;
    };
    let lines: Vec<&[u8]> = output.bytes.split(|byte| *byte == b'\n').collect();
    if !lines.iter().any(|line| line.starts_with(b"api_version=")) {
        return;
    }
    report.exercised();
    for callback in Callback::NBDKIT.iter().copied().filter(|callback| is_plugins(*callback)) {
        let field = format!("has_{callback}=1");
        let printed = lines.contains(&field.as_bytes());
        if printed && !plugin.records(callback) {
            report.broken([now.event], format!("no {field}: the plugin has no {callback}"), "it is printed");
        }
        let due = plugin.records(callback) && run.version >= printed_since(callback) && !output.cut;
        if due && !printed {
            report.broken([now.event], format!("{field}: the plugin has {callback}"), "it is not printed");
        }
    }
}

fn only_tells(history: &History) -> bool {
    history.run().is_some_and(|run| matches!(run.start, Start::Help | Start::Version))
}

/// `--help` and `--version` call nothing but load and unload.
pub(super) fn load_and_unload_only(now: &Now<'_>, report: &mut Report<'_>) {
    if only_tells(now.history) {
        report.broken([now.event], "load and unload only", "another call");
    }
}

pub(super) fn load_and_unload_only_at_end(history: &History, report: &mut Report<'_>) {
    if only_tells(history) && !history.layers().is_empty() && history.end().is_some() {
        report.exercised();
    }
}
