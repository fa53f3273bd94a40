//! Runs that only tell something: `--help`, `--version`, and `--dump-plugin`, with what that prints (nbdkit-probing(1), "Query
//! information about a particular plugin").

use layers_trace::Callback::{
    self, BlockSize, Config, DumpPlugin, Finalize, FlushV1, Load, PreadV1, Prepare, PwriteV1, TrimV1, Unload,
    ZeroV1,
};
use layers_trace::{Field, Kind};

use super::super::order::once;
use crate::history::{History, Layer, ThreadModel};
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters_where, given, notes, unless};
use crate::run::Start;
use crate::version::Version;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "dump.sequence",
        statement: "`--dump-plugin` makes loads, configs, thread_models, dump_plugins and unloads, in this order, and no more.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes, and .dump_plugin; nbdkit-filter(3) of 1.36, .dump_plugin",
        antecedent: "a run with --dump-plugin that ends well",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: "run start=dump-plugin; load config thread_model L0.get_ready",
        fix: "stop short of get_ready when only information is wanted",
        check: by!(at(enters_where(|_| true), sequence)
            .and_end(sequence_at_end)
            .minding_data_if(History::is_dump)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.has-fields",
        statement: "`--dump-plugin` prints has_X=1 for each callback that the plugin has, and for no other.",
        clause: "nbdkit-probing(1) and nbdkit-plugin(3), .dump_plugin",
        antecedent: "a run with --dump-plugin whose output is in the trace",
        good: r#"L0 only=pread; run start=dump-plugin; ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        bad: r#"L0 only=pread; run start=dump-plugin; ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1\nhas_zero=1""#,
        fix: "print the line for each entry of the plugin's table that is not NULL",
        check: by!(at(notes(&[Kind::End]), has_fields)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.fields",
        statement: "`--dump-plugin` prints the plugin's file and the fields of its structure, each once, and none that is NULL.",
        clause: "nbdkit-probing(1), Query information about a particular plugin; nbdkit-plugin(3), CALLBACKS, on each field",
        antecedent: "a run with --dump-plugin whose output is in the trace, and a registration with the plugin's structure",
        good: r#"L0 only=pread name="p" magic="" size=1 api=2; run start=dump-plugin; ends message="path=/p.so\nname=p\napi_version=2\nstruct_size=1\nerrno_is_preserved=0\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        bad: r#"L0 only=pread name="p" magic="" size=1 api=2; run start=dump-plugin; ends message="path=/p.so\nname=q\napi_version=2\nstruct_size=1\nerrno_is_preserved=0\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        fix: "print path, name, version, api_version, struct_size, errno_is_preserved and magic_config_key of the plugin",
        check: by!(at(notes(&[Kind::End]), fields)),
        ..Rule::REQUIRED.since(1, 26, 0)
    },
    Rule {
        id: "dump.thread-models",
        statement: "`--dump-plugin` prints the THREAD_MODEL macro as max_thread_model, and as thread_model what all layers settle on.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "a run with --dump-plugin whose output is in the trace",
        good: r#"L0 only=thread_model; run start=dump-plugin; L0.thread_model = 1 ends message="max_thread_model=parallel\nthread_model=serialize_all_requests\napi_version=2\nhas_thread_model=1""#,
        bad: r#"L0 only=thread_model; run start=dump-plugin; L0.thread_model = 1 ends message="max_thread_model=parallel\nthread_model=parallel\napi_version=2\nhas_thread_model=1""#,
        fix: "print the model of the plugin's structure, and the minimum over all layers",
        check: by!(at(notes(&[Kind::End]), models)),
        ..Rule::REQUIRED.since(1, 26, 0)
    },
    Rule {
        id: "dump.own-fields",
        statement: "What the plugin's dump_plugin prints is part of the output of `--dump-plugin`.",
        clause: "nbdkit-plugin(3), .dump_plugin",
        antecedent: "a run with --dump-plugin whose output is in the trace, and the reference plugin",
        good: r#"L0 only=dump_plugin name="layers"; run start=dump-plugin; L0.dump_plugin ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nlayers_reference=1\nhas_dump_plugin=1""#,
        bad: r#"L0 only=dump_plugin name="layers"; run start=dump-plugin; L0.dump_plugin ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_dump_plugin=1""#,
        fix: "call dump_plugin with standard output as it is, when the server's own fields are printed",
        check: by!(at(notes(&[Kind::End]), own)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "help-version.sequence",
        statement: "`--help` and `--version` with a plugin load and unload the layers and call nothing else.",
        clause: "not in the manual",
        antecedent: "a run with --help or --version and a plugin",
        good: "run start=help; load unload ends",
        bad: "run start=help; load L0.thread_model",
        fix: "none needed; modules should be ready for unload right after load",
        check: by!(at(
            enters_where(|callback| !matches!(callback, Load | Unload) && !callback.is_data()),
            load_and_unload_only
        )
        .and_end(load_and_unload_only_at_end)),
        ..Rule::OBSERVED
    },
];

/// The calls of such a run.
const SEQUENCE: [Callback; 5] = [Load, Config, Callback::ThreadModel, DumpPlugin, Unload];

/// Where a callback stands in such a run.
fn phase(callback: Option<Callback>) -> Option<usize> {
    SEQUENCE.iter().position(|other| Some(*other) == callback)
}

/// Only these, in this order.
fn sequence(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (history, layer) = (now.history, now.event.layer);
    given(history.is_dump())?;
    let Some(own) = phase(now.event.callback()) else {
        return report.broken((), "load, config, thread_model, dump_plugin, unload only", "another call");
    };
    let later = SEQUENCE.iter().skip(own + 1);
    if let Some(last) = later.flat_map(|callback| history.first_enters(*callback)).last() {
        let expected = "load, config, thread_model, dump_plugin, unload in this order";
        report.broken(last, expected, "a call comes too late");
    }
    given(now.is(DumpPlugin))?;
    once(now, report);
    let below = history.inner(layer, DumpPlugin);
    let below = below.filter(|below| history.entered(*below, DumpPlugin).is_none())?;
    report.broken((), format!("dump_plugin of L{below} comes first"), "it has not been called")
}

fn sequence_at_end(history: &History, report: &mut Report<'_>) -> Said {
    given(history.is_dump() && history.ended_cleanly() && !history.layers().is_empty())?;
    report.exercised();
    for layer in history.left_out(DumpPlugin) {
        report.broken((), format!("dump_plugin of L{layer}"), "it was never called");
    }
    Some(())
}

/// Version from which the server prints the line for this callback; the oldest that filters can be recorded in is 1.26.
fn printed_since(callback: Callback) -> Version {
    if callback == BlockSize { Version(1, 29, 16) } else { Version(1, 26, 0) }
}

/// A plugin of the present API can have it.
fn is_plugins(callback: Callback) -> bool {
    !matches!(callback, Prepare | Finalize | PreadV1 | PwriteV1 | FlushV1 | TrimV1 | ZeroV1)
}

/// The lines `has_X=1` are those of the plugin's table.
fn has_fields(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let run = now.history.run().filter(|run| run.start == Start::DumpPlugin)?;
    let (output, plugin) = (now.event.text(Field::Message)?, now.history.layer(0)?);
    let lines: Vec<&[u8]> = output.bytes.split(|byte| *byte == b'\n').collect();
    given(lines.iter().any(|line| line.starts_with(b"api_version=")))?;
    report.exercised();
    for callback in Callback::NBDKIT.iter().copied().filter(|callback| is_plugins(*callback)) {
        let field = format!("has_{callback}=1");
        let printed = lines.contains(&field.as_bytes());
        if printed && !plugin.records(callback) {
            report.broken((), format!("no {field}: the plugin has no {callback}"), "it is printed");
        }
        let due = plugin.records(callback) && run.version >= printed_since(callback) && !output.cut;
        if due && !printed {
            report.broken((), format!("{field}: the plugin has {callback}"), "it is not printed");
        }
    }
    Some(())
}

fn only_tells(history: &History) -> bool {
    history.run().is_some_and(|run| matches!(run.start, Start::Help | Start::Version))
}

/// `--help` and `--version` call nothing but load and unload.
fn load_and_unload_only(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    given(only_tells(now.history))?;
    report.broken((), "load and unload only", "another call")
}

fn load_and_unload_only_at_end(history: &History, report: &mut Report<'_>) -> Said {
    report.exercised_if(only_tells(history) && !history.layers().is_empty() && history.end().is_some())
}

/// What the server has printed: the lines `key=value`, in order.
struct Output<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Output<'a> {
    /// Of a run with `--dump-plugin` that has ended well.
    fn of(now: &Now<'a>) -> Option<Output<'a>> {
        now.history.run().filter(|run| run.start == Start::DumpPlugin)?;
        let text = now.event.text(Field::Message).filter(|text| !text.cut)?;
        let text = std::str::from_utf8(&text.bytes).ok()?;
        let fields: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
        fields.iter().any(|(key, _)| *key == "api_version").then_some(Output(fields))
    }

    /// Values of this field among what the server itself prints before it lists what the plugin has.
    fn values(&self, key: &str) -> Vec<&'a str> {
        let own = self.0.iter().take_while(|(key, _)| !key.starts_with("has_"));
        own.filter(|(other, _)| *other == key).map(|(_, value)| *value).collect()
    }

    /// Checks that the field stands there once with this value, or not at all.
    fn expect(&self, key: &str, value: Option<&str>, report: &mut Report<'_>) -> Said {
        let actual = self.values(key);
        // A value of several lines is not printed for programs to read.
        unless(value.is_some_and(|value| value.contains('\n')))?;
        let said = |value: &str| format!("{key}={value}");
        let seen = match actual.as_slice() {
            [] => format!("no {key}"),
            values => values.iter().map(|value| said(value)).collect::<Vec<_>>().join(", "),
        };
        let holds = actual == value.into_iter().collect::<Vec<_>>();
        let expected = value.map_or_else(|| format!("no {key}: the plugin has none"), said);
        report.expect(holds, (), expected, seen)
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
fn fields(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (output, plugin) = (Output::of(now)?, now.history.layer(0)?);
    let structure = plugin.structure.as_ref()?;
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
        report.expect(false, (), "one line path=, the file of the plugin", "there is not one");
    }
    for (field, present) in [
        ("has_longname", structure.long_name.is_some()),
        ("has_description", structure.description.is_some()),
        ("has_config_help", structure.config_help.is_some()),
    ] {
        let said = |there: bool| if there { format!("{field}=1") } else { format!("no {field}=1") };
        report.same((), present, output.0.contains(&(field, "1")), said);
    }
    Some(())
}

/// The thread models are the macro, and what the layers have settled on.
fn models(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let output = Output::of(now)?;
    if let Some(most) = now.history.layer(0).and_then(model) {
        output.expect("max_thread_model", Some(name(most)), report);
    }
    let settled = now.history.thread_model()?;
    output.expect("thread_model", Some(name(settled)), report)
}

/// What the reference plugin's dump_plugin prints.
const OWN: (&str, &str) = ("layers_reference", "1");

/// What the plugin prints itself comes out, too.
fn own(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let output = Output::of(now).filter(|_| is_reference(now.history))?;
    let printed = output.0.iter().filter(|field| **field == OWN).count();
    if let Some(call) = now.history.returned(0, DumpPlugin) {
        let expected = format!("one line {}={}", OWN.0, OWN.1);
        report.expect(printed == 1, call, expected, format_args!("{printed} of them"))
    } else {
        report.expect(printed == 0, (), "no field of the plugin's own", "there is one")
    }
}

/// The plugin is the one of this harness.
fn is_reference(history: &History) -> bool {
    history.layer(0).is_some_and(|plugin| plugin.target.is_none() && plugin.name == "layers")
}
