//! The command line against what the outermost layer was given.

use layers_trace::Callback::{
    self, AfterFork, Config, ConfigComplete, DumpPlugin, GetReady, Load, Open, Preconnect, ThreadModel,
};
use layers_trace::Probe;
use layers_trace::{Event, Field, Text};

use super::super::order::inwards;
use super::super::pass_through::passed_through;
use crate::history::History;
use crate::rules::check::{
    Now, Party, Report, Rule, Said, at, by, calls, enters, given, probed, quoted, remembering, unless,
};
use crate::run::{Parameter, Start};
use crate::version::Version;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "config.outer-to-inner",
        statement: "A parameter enters the outermost layer and comes inwards only by each filter's own call of next.",
        clause: "nbdkit-filter(3), Next config, open and close",
        antecedent: "a parameter that reaches a layer below another one with config",
        good: r#"run parameter="a=1"; L1.config "a" "1" { L0.config "a" "1" }"#,
        bad: r#"run parameter="a=1"; L1.config "a" "1"; L0.config "a" "1""#,
        fix: "call next from within config only, with the parameter or what it stands for",
        check: by!(passed_through(calls(&[Config]), at(enters(&[Config]), inwards))),
        ..Rule::REQUIRED.since(1, 1, 27).of(Party::Filter)
    },
    Rule {
        id: "config.once-per-arg",
        statement: "The outermost layer gets each parameter of the command line once, in the order given there.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config",
        antecedent: "a parameter, and a layer with config",
        good: r#"run parameter="a=1" parameter="b=2"; load L0.config "a" "1" L0.config "b" "2""#,
        bad: r#"run parameter="a=1" parameter="b=2"; load L0.config "b" "2""#,
        fix: "walk through the arguments once, from the first to the last, before config_complete",
        check: by!(remembering(enters(&[Config]).enters(AFTER_CONFIG), OncePerArgument::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.phase",
        statement: "Parameters are handed out after every layer is loaded and before any layer's config_complete.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config_complete",
        antecedent: "a parameter that reaches a layer with config",
        good: r#"run parameter="a=1"; config config_complete"#,
        bad: r#"config_complete L0.config "a" "1""#,
        fix: "finish the parameters before calling config_complete",
        check: by!(at(enters(&[Load, Config, ConfigComplete]), in_its_phase)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.key-value-shape",
        statement: "A key begins with a letter and goes on with letters, digits, `.`, `_` and `-`; the value is not NULL.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter that reaches a layer with config",
        good: r#"run parameter="a=1"; L0.config "a" "1""#,
        bad: r#"run parameter="1st=x"; L0.config "1st" "1st=x""#,
        also: &["config.bare-arg"],
        fix: "treat an argument whose part before `=` is no key as a bare one",
        check: by!(at(enters(&[Config]), key_and_value)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.bare-arg",
        statement: "A bare argument comes under the magic key; without one only the first may be bare, and is `script`.",
        clause: "nbdkit-plugin(3), .magic_config_key",
        antecedent: "an argument without `=` that reaches a layer with config",
        good: r#"L0 magic="file"; run parameter="disk"; L0.config "file" "disk""#,
        bad: r#"L0 magic="file"; run parameter="disk"; L0.config "script" "disk""#,
        fix: "deliver bare arguments under the plugin's magic_config_key, and refuse what has no key",
        check: by!(remembering(enters(&[Config]), BareArguments::see)),
        ..Rule::REQUIRED.since(1, 7, 0)
    },
    Rule {
        id: "config.string-lifetime",
        statement: "The key and the value that config got stay as they are until the plugin is unloaded.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a layer with config and cleanup, or a plugin with config and unload",
        good: "L0.unload { ConfigStrings }",
        bad: "L0.unload { ConfigStrings = 0 }",
        fix: "keep the strings of all parameters until the last unload",
        check: by!(probed(&[Probe::ConfigStrings], "keys and values read as when config got them")),
        ..Rule::REQUIRED
    },
];

/// Whatever comes after the parameters, at any layer.
const AFTER_CONFIG: &[Callback] =
    &[ConfigComplete, ThreadModel, DumpPlugin, GetReady, AfterFork, Preconnect, Open];

/// Version from which `@FILE` stands for the parameters in a file, so that the command line alone does not tell them.
const PARAMETER_FILES: Version = Version(1, 45, 0);

/// The parameters that the outermost layer is to get, if they are known.
pub(super) fn parameters(history: &History) -> Option<&[Parameter]> {
    let run = history.run()?;
    let stands_for_file = |parameter: &Parameter| {
        parameter.key.is_none() && parameter.value.starts_with('@') && parameter.value.contains('/')
    };
    let from_files = run.version >= PARAMETER_FILES && run.parameters.iter().any(stands_for_file);
    let configures = !matches!(run.start, Start::Help | Start::Version);
    (configures && !from_files).then_some(&run.parameters)
}

/// How one parameter of the command line is to be delivered: under its own key, or as a bare argument.
enum Delivery<'a> {
    Keyed(&'a str, &'a str),
    Bare(String),
}

impl Delivery<'_> {
    fn of(parameter: &Parameter) -> Delivery<'_> {
        match &parameter.key {
            Some(key) if is_key(key.as_bytes()) => Delivery::Keyed(key, &parameter.value),
            Some(key) => Delivery::Bare(format!("{key}={}", parameter.value)),
            None => Delivery::Bare(parameter.value.clone()),
        }
    }

    fn is(&self, config: &Event) -> bool {
        let reads = |field, expected| reads(config.text(field), expected);
        match self {
            Delivery::Keyed(key, value) => reads(Field::Key, key) && reads(Field::Value, value),
            Delivery::Bare(value) => reads(Field::Value, value),
        }
    }
}

impl std::fmt::Display for Delivery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Delivery::Keyed(key, value) => write!(f, "`{key}={value}`"),
            Delivery::Bare(value) => write!(f, "`{value}`"),
        }
    }
}

/// What the trace kept of the text agrees with this. An argument that is not UTF-8 cannot be compared.
fn reads(text: Option<&Text>, expected: &str) -> bool {
    text.is_some_and(|text| {
        let expected = expected.as_bytes();
        let agrees = if text.cut { expected.starts_with(&text.bytes) } else { expected == text.bytes };
        agrees || std::str::from_utf8(&text.bytes).is_err()
    })
}

fn is_key(key: &[u8]) -> bool {
    let follows = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    key.first().is_some_and(u8::is_ascii_alphabetic) && key.iter().all(follows)
}

fn is_outermost(now: &Now<'_>) -> bool {
    Some(now.event.layer) == now.history.outermost(Config)
}

/// The n-th config of the outermost layer is the n-th argument.
#[derive(Default)]
struct OncePerArgument {
    given: usize,
    last: Option<Event>,
    over: bool,
}

impl OncePerArgument {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        unless(self.over)?;
        let parameters = parameters(now.history)?;
        let number = self.given + 1;
        let due = parameters.get(self.given).map(Delivery::of);
        if !now.is(Config) {
            self.over = true;
            let expected = format!("parameter {number}, {}", due?);
            now.history.outermost(Config)?;
            return report.expect(false, self.last.as_ref(), expected, "configuration is over");
        }
        given(is_outermost(now))?;
        self.given = number;
        let last = self.last.replace(now.event.clone());
        let Some(due) = due else {
            let expected = format!("{} parameters", parameters.len());
            return report.expect(false, last.as_ref(), expected, "one more");
        };
        let expected = format!("parameter {number}, {due}");
        report.expect(due.is(now.event), last.as_ref(), expected, "another one")
    }
}

/// Keys are keys, and values are there.
fn key_and_value(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    // Inner layers get what the filters pass down.
    given(is_outermost(now))?;
    let key = now.event.text(Field::Key);
    let has_key = key.is_some_and(|key| is_key(&key.bytes));
    let actual = key.map_or("NULL".to_owned(), |key| quoted(&key.bytes));
    report.expect(has_key, (), "a key: a letter, then letters, digits, `.`, `_`, `-`", actual);
    given(now.event.text(Field::Value).is_none())?;
    report.broken((), "a value", "NULL")
}

/// A bare argument comes under the magic key, or as `script`.
#[derive(Default)]
struct BareArguments {
    given: usize,
    /// The first bare argument delivered.
    first: Option<Event>,
}

/// The key that argument `index` is to come under, or that there is none; `None` when the trace does not tell.
fn key_of_bare(history: &History, index: usize) -> Option<Result<&str, ()>> {
    Some(match history.layer(0)?.magic_config_key.as_deref()? {
        "" if index == 0 => Ok("script"),
        "" => Err(()),
        key => Ok(key),
    })
}

impl BareArguments {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
        let parameters = parameters(now.history).filter(|_| is_outermost(now))?;
        let index = self.given;
        self.given += 1;
        let Some(Delivery::Bare(value)) = parameters.get(index).map(Delivery::of) else { return None };
        report.exercised();
        let key = now.event.text(Field::Key);
        let given = key.map_or_else(String::new, |key| String::from_utf8_lossy(&key.bytes).into_owned());
        if !reads(now.event.text(Field::Value), &value) {
            report.broken((), format!("`{value}` whole, as the value"), "another value");
        }
        let is_first = self.first.is_none();
        let first = &*self.first.get_or_insert_with(|| now.event.clone());
        match key_of_bare(now.history, index) {
            Some(Ok(expected)) if reads(key, expected) => None,
            Some(Ok(expected)) => {
                let expected = format!("bare argument `{value}` under the key `{expected}`");
                report.broken((), expected, format!("under `{given}`"))
            }
            Some(Err(())) => {
                let expected =
                    format!("bare argument `{value}` refused: no magic key, and it is not the first");
                report.broken((), expected, format!("delivered under `{given}`"))
            }
            // Whatever the key is, it is one.
            None if is_first || first.text(Field::Key) == key => None,
            None => report.broken(first, "the same key for every bare argument", "another one"),
        }
    }
}

/// Config comes after every load and before every config_complete.
fn in_its_phase(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let first = |callback| now.history.first_enters(callback).next();
    if now.is(Load) {
        return report.broken(first(Config)?, "all layers are loaded first", "a layer is loaded later");
    }
    given(now.is(Config))?;
    let complete = first(ConfigComplete);
    report.expect(complete.is_none(), complete, "no parameter after config_complete", "another parameter")
}
