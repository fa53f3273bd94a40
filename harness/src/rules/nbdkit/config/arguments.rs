//! The command line against what the outermost layer was given.

use layers_trace::{Callback, Event, Field, Text};

use crate::history::History;
use crate::rules::check::{Now, Report};
use crate::run::{Parameter, Start};
use crate::version::Version;

/// Whatever comes after the parameters, at any layer.
pub(super) const AFTER_CONFIG: &[Callback] = &[
    Callback::ConfigComplete,
    Callback::ThreadModel,
    Callback::DumpPlugin,
    Callback::GetReady,
    Callback::AfterFork,
    Callback::Preconnect,
    Callback::Open,
];

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
        let key = config.text(Field::Key);
        let value = config.text(Field::Value);
        match self {
            Delivery::Keyed(expected, _) if !reads(key, expected) => false,
            Delivery::Keyed(_, expected) => reads(value, expected),
            Delivery::Bare(expected) => reads(value, expected),
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
    Some(now.event.layer) == now.history.outermost(Callback::Config)
}

/// The n-th config of the outermost layer is the n-th argument.
#[derive(Default)]
pub(super) struct OncePerArgument {
    given: usize,
    last: Option<Event>,
    over: bool,
}

impl OncePerArgument {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if self.over {
            return;
        }
        let Some(parameters) = parameters(now.history) else { return };
        let number = self.given + 1;
        let due = parameters.get(self.given).map(Delivery::of);
        if now.event.callback() != Some(Callback::Config) {
            self.over = true;
            if let Some(due) = due
                && now.history.outermost(Callback::Config).is_some()
            {
                let expected = format!("parameter {number}, {due}");
                report.expect(false, self.last.iter().chain([now.event]), expected, "configuration is over");
            }
            return;
        }
        if !is_outermost(now) {
            return;
        }
        self.given = number;
        report.exercised();
        match due {
            None => {
                let expected = format!("{} parameters", parameters.len());
                report.broken(self.last.iter().chain([now.event]), expected, "one more");
            }
            Some(due) if !due.is(now.event) => {
                let expected = format!("parameter {number}, {due}");
                report.broken(self.last.iter().chain([now.event]), expected, "another one");
            }
            Some(_) => {}
        }
        self.last = Some(now.event.clone());
    }
}

/// Keys are keys, and values are there.
pub(super) fn key_and_value(now: &Now<'_>, report: &mut Report<'_>) {
    // Inner layers get what the filters pass down.
    if !is_outermost(now) {
        return;
    }
    let key = now.event.text(Field::Key);
    let has_key = key.is_some_and(|key| is_key(&key.bytes));
    let actual =
        key.map_or_else(|| "NULL".into(), |key| format!("{:?}", String::from_utf8_lossy(&key.bytes)));
    report.expect(has_key, [now.event], "a key: a letter, then letters, digits, `.`, `_`, `-`", actual);
    if now.event.text(Field::Value).is_none() {
        report.broken([now.event], "a value", "NULL");
    }
}

/// A bare argument comes under the magic key, or as `script`.
#[derive(Default)]
pub(super) struct BareArguments {
    given: usize,
    /// The first bare argument delivered.
    first: Option<Event>,
}

impl BareArguments {
    /// The key that argument `index` is to come under, or that there is none; `None` when the trace does not tell.
    fn key<'a>(&self, history: &'a History, index: usize) -> Option<Result<&'a str, ()>> {
        let magic = history.layer(0)?.magic_config_key.as_deref()?;
        Some(match magic {
            "" if index == 0 => Ok("script"),
            "" => Err(()),
            key => Ok(key),
        })
    }

    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        let Some(parameters) = parameters(now.history).filter(|_| is_outermost(now)) else { return };
        let index = self.given;
        self.given += 1;
        let Some(Delivery::Bare(value)) = parameters.get(index).map(Delivery::of) else { return };
        report.exercised();
        let key = now.event.text(Field::Key);
        let given = key.map_or_else(String::new, |key| String::from_utf8_lossy(&key.bytes).into_owned());
        if !reads(now.event.text(Field::Value), &value) {
            report.broken([now.event], format!("`{value}` whole, as the value"), "another value");
        }
        match self.key(now.history, index) {
            Some(Ok(expected)) => {
                if !reads(key, expected) {
                    let expected = format!("bare argument `{value}` under the key `{expected}`");
                    report.broken([now.event], expected, format!("under `{given}`"));
                }
            }
            Some(Err(())) => {
                let expected =
                    format!("bare argument `{value}` refused: no magic key, and it is not the first");
                report.broken([now.event], expected, format!("delivered under `{given}`"));
            }
            // Whatever the key is, it is one.
            None => {
                if let Some(first) = &self.first
                    && first.text(Field::Key) != key
                {
                    report.broken([first, now.event], "the same key for every bare argument", "another one");
                }
            }
        }
        self.first.get_or_insert_with(|| now.event.clone());
    }
}

/// Whether the stack's parameters are known and not empty.
pub(super) fn has_parameters(history: &History) -> bool {
    parameters(history).is_some_and(|parameters| !parameters.is_empty())
}
