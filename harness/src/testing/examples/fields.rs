//! What the arguments and results of an example say in the fields of events.

use layers_trace::digest::Extent;
use layers_trace::{Breach, Callback, ContextFunction, Event, Field, Kind, Probe, Speaker, Text};

use serde_json::Value;

use super::parse::{Argument, Step};
use super::words::{COMMAND_FLAGS, FLAGS, errno};
use crate::run::Run;
use crate::testing::text;

/// Returns the layer that this step declares.
pub(super) fn declares(step: &Step) -> Option<u8> {
    step.head.strip_prefix('L')?.parse().ok()
}

pub(super) fn of_layers(declarations: &[Step]) -> impl Iterator<Item = (u8, &Argument)> {
    let layers = declarations.iter().filter_map(|step| Some((declares(step)?, step)));
    layers.flat_map(|(layer, step)| step.arguments.iter().map(move |argument| (layer, argument)))
}

/// Returns what a declaration says that a layer answers.
pub(super) fn answer(layer: u8, argument: &Argument) -> Option<(u8, Callback, i64)> {
    let callback = Callback::from_name(argument.key.as_deref()?)?;
    Some((layer, callback, number(&argument.value)))
}

/// Returns what a callback returns where all is well.
pub(super) fn usual(callback: Callback) -> i64 {
    match callback {
        Callback::Open | Callback::DefaultExport | Callback::ExportDescription => 1,
        Callback::ThreadModel => 3,
        Callback::GetSize => 1 << 20,
        Callback::CanZero | Callback::CanFua | Callback::CanCache => 2,
        Callback::IsRotational | Callback::BlockSize => 0,
        query if query.is_query() => 1,
        _ => 0,
    }
}

/// Says how the run was started: the fields of its description by their names, and parameters as they stand on the command line.
pub(super) fn set_run(run: &mut Run, argument: &Argument) {
    let (key, value) = (argument.key.as_deref().unwrap_or_default(), argument.value.as_str());
    if key == "parameter" {
        return run.parameters.push(crate::run::parameter::parameter(value));
    }
    let mut fields = serde_json::to_value(&*run).unwrap();
    let field = match fields.get(key) {
        Some(Value::Bool(_)) => (value == "1").into(),
        Some(Value::String(_)) => value.into(),
        _ => number(value).into(),
    };
    fields[key] = field;
    *run = serde_json::from_value(fields)
        .unwrap_or_else(|error| panic!("a run has no `{key}={value}`: {error}"));
}

pub(super) fn set_layer(event: &mut Event, argument: &Argument) {
    let value = argument.value.as_str();
    match argument.key.as_deref().unwrap_or_default() {
        "without" => event.a &= !callbacks(value),
        "with" => event.a |= callbacks(value),
        "only" => event.a = callbacks(value),
        "made_up" => event.b = callbacks(value),
        "model" => event.c = value.parse().unwrap(),
        "size" => event.handle = value.parse().unwrap(),
        "api" => event.d = value.parse().unwrap(),
        "set_error" => event.context = if value == "preserved" { 2 } else { 1 },
        "passes" => {}
        "magic" => {
            event.texts.retain(|text| text.field != Field::Key);
            if value != "unknown" {
                event.texts.push(text(Field::Key, value));
            }
        }
        field => event.texts.push(text(named_field(field).expect("a field of a layer"), value)),
    }
}

/// Puts arguments into an event by their names.
pub(super) fn fill<'a>(event: &mut Event, arguments: impl IntoIterator<Item = &'a Argument>, words: Field) {
    let mut replaced = Vec::new();
    for argument in arguments {
        let value = argument.value.as_str();
        let is_open = event.callback() == Some(Callback::Open);
        let Some(key) = argument.key.as_deref() else {
            if !replaced.contains(&words) {
                event.texts.retain(|text| text.field != words);
                replaced.push(words);
            }
            event.texts.push(text(words, value));
            continue;
        };
        match key {
            "of" => {}
            "unnamed" => event.texts.clear(),
            "flags" if event.kind == Kind::Request => {
                let named = |name| COMMAND_FLAGS.iter().find(|(flag, _)| *flag == name).expect("a flag").1;
                event.d = value.split('|').fold(0, |all, name| all | named(name)) as u32;
            }
            "offset" | "a" | "model" => event.a = number(value).cast_unsigned(),
            "count" | "c" | "errno" | "tls" => event.c = number(value) as u32,
            "flags" if event.kind == Kind::Reply => event.b = number(value).cast_unsigned(),
            "flags" | "d" | "err" | "readonly" | "info" | "bytes" => event.d = number(value) as u32,
            "backend" if is_open => event.b = number(value).cast_unsigned(),
            "digest" | "buffer" | "b" | "new" | "extents" | "exports" | "types" | "held" => {
                event.b = number(value).cast_unsigned()
            }
            "next" | "context" | "backend" | "size" | "sent" => event.context = number(value).cast_unsigned(),
            "handle" => event.handle = if value == "foreign" { u32::MAX } else { number(value) as u32 },
            "speaker" => {
                let named = |speaker: &Speaker| format!("{speaker:?}").eq_ignore_ascii_case(value);
                let speaker = (0..=u8::MAX).filter_map(Speaker::from_number).find(named);
                event.layer = speaker.map_or(0, |speaker| speaker as u8);
            }
            "list" => {
                // One extent after the other, each its length and its type.
                let extents = value.split(',').map(|extent| extent.split_once(':').unwrap());
                let extents = extents.map(|(length, kind)| Extent {
                    length: number(length) as u64,
                    kind: number(kind) as u32,
                });
                let bytes = extents.flat_map(Extent::to_bytes).collect();
                event.texts.push(Text { field: Field::Extents, bytes, cut: false });
            }
            "sizes" => {
                let bytes = value.split(',').flat_map(|size| (number(size) as u32).to_le_bytes()).collect();
                event.texts.push(Text { field: Field::BlockSizes, bytes, cut: false });
            }
            field => {
                let field = named_field(field).unwrap_or_else(|| panic!("an event has no `{field}`"));
                if !replaced.contains(&field) {
                    event.texts.retain(|text| text.field != field);
                    replaced.push(field);
                }
                event.texts.push(text(field, value));
            }
        }
    }
}

pub(super) fn put_result(event: &mut Event, result: &str, words: Field) {
    if let Some(name) = result.strip_prefix('"') {
        event.texts.retain(|text| text.field != words);
        event.texts.push(text(words, name.trim_end_matches('"')));
        if event.kind == Kind::Exit {
            event.a = 1;
        }
    } else if let Some(error) = errno(result) {
        (event.a, event.c) = (u64::MAX, error.cast_unsigned());
        if event.kind == Kind::Exit {
            event.d = error.cast_unsigned();
        }
    } else if let [minimum, preferred, maximum] = result.split(',').map(number).collect::<Vec<_>>()[..] {
        (event.a, event.b, event.d) = (0, (minimum | preferred << 32).cast_unsigned(), maximum as u32);
    } else {
        event.a = number(result).cast_unsigned();
    }
}

pub(super) fn number(value: &str) -> i64 {
    let named = |name: &str| match name {
        "NULL" | "none" => Some(0),
        _ => FLAGS.iter().find(|(flag, _)| *flag == name).map(|(_, bit)| *bit),
    };
    let one = |word: &str| {
        let (sign, digits) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
        let parsed = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => match digits.strip_suffix('M') {
                Some(mega) => mega.parse().ok().map(|mega: i64| mega << 20),
                None => digits.parse().ok(),
            },
        };
        named(word).or(parsed.map(|number| sign * number)).unwrap_or_else(|| panic!("`{word}` is no number"))
    };
    value.split('|').fold(0, |all, word| all | one(word))
}

pub(super) fn callbacks(names: &str) -> u64 {
    names.split(',').filter(|name| !name.is_empty()).fold(0, |set, name| set | callback(name).bit())
}

pub(super) fn context_function(name: &str) -> Option<ContextFunction> {
    match name {
        "context_open" => Some(ContextFunction::Open),
        "context_close" => Some(ContextFunction::Close),
        "set_next" => Some(ContextFunction::SetNext),
        _ => None,
    }
}

pub(super) fn callback(name: &str) -> Callback {
    Callback::from_name(name).unwrap_or_else(|| panic!("`{name}` is no callback"))
}

pub(super) fn named_probe(name: &str) -> Option<Probe> {
    (0..=u8::MAX).filter_map(Probe::from_number).find(|probe| format!("{probe:?}") == name)
}

pub(super) fn named_breach(name: &str) -> Option<Breach> {
    let name = name.strip_prefix("complaint.")?;
    (0..=u8::MAX).filter_map(Breach::from_number).find(|breach| format!("{breach:?}") == name)
}

fn named_field(name: &str) -> Option<Field> {
    (0..=u8::MAX)
        .filter_map(Field::from_number)
        .find(|field| format!("{field:?}").eq_ignore_ascii_case(&name.replace('_', "")))
}
