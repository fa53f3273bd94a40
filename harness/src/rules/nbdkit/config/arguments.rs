//! The command line against what the outermost layer was given.

use layers_trace::Callback::{
    self, AfterFork, Config, ConfigComplete, DumpPlugin, GetReady, Open, Preconnect, ThreadModel,
};
use layers_trace::{Event, Field, Text};

use crate::history::History;
use crate::rules::check::{Now, Report, Said, given, quoted, unless};
use crate::run::{Parameter, Start};
use crate::version::Version;

/// Whatever comes after the parameters, at any layer.
pub(super) const AFTER_CONFIG: &[Callback] =
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
pub(super) struct OncePerArgument {
    given: usize,
    last: Option<Event>,
    over: bool,
}

impl OncePerArgument {
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
pub(super) fn key_and_value(now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
pub(super) struct BareArguments {
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
    pub(super) fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) -> Said {
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
