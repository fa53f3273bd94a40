//! nbdkit-probing(1), "Query information about a particular plugin": what `--dump-plugin` prints.

use layers_trace::{Event, Field, Kind};

use crate::history::{History, Layer, Structure, ThreadModel};
use crate::rules::check::{Now, Report};
use crate::run::Start;

/// What the server has printed, by lines.
struct Output<'a> {
    event: &'a Event,
    /// `key=value`, in order.
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Output<'a> {
    /// Of a run with `--dump-plugin` that has ended well.
    fn of(now: &Now<'a>) -> Option<Output<'a>> {
        now.history.run().filter(|run| run.start == Start::DumpPlugin)?;
        let text = now.event.text(Field::Message).filter(|text| !text.cut)?;
        let text = std::str::from_utf8(&text.bytes).ok()?;
        let fields: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        fields.iter().any(|(key, _)| *key == "api_version").then_some(Output { event: now.event, fields })
    }

    /// Values of this field among what the server itself prints before it lists what the plugin has.
    fn values(&self, key: &str) -> Vec<&'a str> {
        let own = self.fields.iter().take_while(|(key, _)| !key.starts_with("has_"));
        own.filter(|(other, _)| *other == key).map(|(_, value)| *value).collect()
    }

    /// Checks that the field stands there once with this value, or not at all.
    fn expect(&self, key: &str, value: Option<&str>, report: &mut Report<'_>) {
        let actual = self.values(key);
        // A value of several lines is not printed for programs to read.
        if value.is_some_and(|value| value.contains('\n')) {
            return;
        }
        let said = |value: &str| format!("{key}={value}");
        let seen = match actual.as_slice() {
            [] => format!("no {key}"),
            values => values.iter().map(|value| said(value)).collect::<Vec<_>>().join(", "),
        };
        let holds = actual == value.into_iter().collect::<Vec<_>>();
        let expected = value.map_or_else(|| format!("no {key}: the plugin has none"), said);
        report.expect(holds, [self.event], expected, seen);
    }
}

/// Name of a thread model in the output (nbdkit-plugin(3), "Threads").
fn name(model: ThreadModel) -> &'static str {
    match model {
        ThreadModel::SerializeConnections => "serialize_connections",
        ThreadModel::SerializeAllRequests => "serialize_all_requests",
        ThreadModel::SerializeRequests => "serialize_requests",
        ThreadModel::Parallel => "parallel",
    }
}

fn model(plugin: &Layer) -> Option<ThreadModel> {
    use ThreadModel::{Parallel, SerializeAllRequests, SerializeConnections, SerializeRequests};
    let models = [SerializeConnections, SerializeAllRequests, SerializeRequests, Parallel];
    models.get(usize::try_from(plugin.thread_model).ok()?).copied()
}

/// The fields are those of the plugin's structure.
pub(super) struct Fields;

impl Fields {
    fn judge(output: &Output<'_>, plugin: &Layer, structure: &Structure, report: &mut Report<'_>) {
        output.expect("name", Some(&plugin.name), report);
        output.expect("version", structure.version.as_deref(), report);
        output.expect("api_version", Some(&structure.api_version.to_string()), report);
        output.expect("struct_size", Some(&structure.size.to_string()), report);
        let preserved = if structure.errno_is_preserved { "1" } else { "0" };
        output.expect("errno_is_preserved", Some(preserved), report);
        if let Some(key) = plugin.magic_config_key.as_deref() {
            output.expect("magic_config_key", Some(key).filter(|key| !key.is_empty()), report);
        }
        if output.values("path").len() != 1 {
            report.expect(
                false,
                [output.event],
                "one line path=, the file of the plugin",
                "there is not one",
            );
        }
        for (field, present) in [
            ("has_longname", structure.long_name.is_some()),
            ("has_description", structure.description.is_some()),
            ("has_config_help", structure.config_help.is_some()),
        ] {
            let printed = output.fields.contains(&(field, "1"));
            let said = |there: bool| if there { format!("{field}=1") } else { format!("no {field}=1") };
            report.expect(present == printed, [output.event], said(present), said(printed));
        }
    }

    pub(super) fn see(now: &Now<'_>, report: &mut Report<'_>) {
        let Some(output) = Output::of(now) else { return };
        let Some(plugin) = now.history.layer(0) else { return };
        if let Some(structure) = &plugin.structure {
            Fields::judge(&output, plugin, structure, report);
        }
    }
}

/// The thread models are the macro, and what the layers have settled on.
pub(super) fn models(now: &Now<'_>, report: &mut Report<'_>) {
    let Some(output) = Output::of(now) else { return };
    if let Some(most) = now.history.layer(0).and_then(model) {
        output.expect("max_thread_model", Some(name(most)), report);
    }
    if let Some(settled) = now.history.thread_model() {
        output.expect("thread_model", Some(name(settled)), report);
    }
}

/// What the reference plugin's dump_plugin prints.
const OWN: (&str, &str) = ("layers_reference", "1");

/// What the plugin prints itself comes out, too.
pub(super) fn own(called: &mut Option<Event>, now: &Now<'_>, report: &mut Report<'_>) {
    if now.event.kind == Kind::Exit {
        if now.event.layer == 0 {
            *called = Some(now.event.clone());
        }
        return;
    }
    let Some(output) = Output::of(now) else { return };
    if !is_reference(now.history) {
        return;
    }
    let printed = output.fields.iter().filter(|field| **field == OWN).count();
    match &*called {
        Some(call) => {
            let expected = format!("one line {}={}", OWN.0, OWN.1);
            report.expect(printed == 1, [call, output.event], expected, format!("{printed} of them"));
        }
        None => report.expect(printed == 0, [output.event], "no field of the plugin's own", "there is one"),
    }
}

/// The plugin is the one of this harness.
fn is_reference(history: &History) -> bool {
    history.layer(0).is_some_and(|plugin| plugin.target.is_none() && plugin.name == "layers")
}
