//! The parameters that modules document: `config_help`, as `--help` prints it (nbdkit-plugin(3), ".config_help").

use std::collections::BTreeSet;

use layers_trace::{Event, Field, Kind};

use crate::campaign::select::nearest;
use crate::run::Parameter;
use crate::run::parameter::is_key;

/// Names of one parameter: `raw`, `data` and `base64` are one, of which one is given.
type Names = Vec<String>;

/// Returns the parameters that the layers of a run document and that were not given to them, in the order of the text.
pub(in crate::validate) fn untried(events: &[Event], given: &[Parameter]) -> Vec<String> {
    let layers = || events.iter().filter(|event| event.kind == Kind::Layer);
    let text = |event: &Event, field| {
        event.text(field).map(|text| String::from_utf8_lossy(&text.bytes).into_owned()).unwrap_or_default()
    };
    let magic = layers().filter(|event| event.layer == 0).map(|event| text(event, Field::Key)).next();
    let key = |one: &Parameter| one.key.clone().or_else(|| magic.clone());
    let given: BTreeSet<String> = given.iter().filter_map(key).collect();
    let documented = layers().flat_map(|event| named(&text(event, Field::Help)));
    let left = documented.filter(|names| !names.iter().any(|name| given.contains(name)));
    left.map(|names| names.join("|")).collect()
}

/// Returns the first parameter that was given and that no layer of a run documents, with the documented name that is nearest
/// to it, if one is near.
pub(in crate::validate) fn mistyped(events: &[Event], given: &[Parameter]) -> Option<(String, String)> {
    let helps = events.iter().filter(|event| event.kind == Kind::Layer);
    let helps = helps.filter_map(|event| event.text(Field::Help));
    let names: Vec<String> =
        helps.flat_map(|help| named(&String::from_utf8_lossy(&help.bytes))).flatten().collect();
    given.iter().filter_map(|one| one.key.as_ref()).find_map(|key| {
        let is_known = names.contains(key);
        let near = nearest(key, names.iter().map(String::as_str)).filter(|_| !is_known)?;
        Some((key.clone(), near.to_owned()))
    })
}

/// The parameters that a text names: one at the beginning of a line, before `=`; in brackets where the key may be left out.
fn named(text: &str) -> Vec<Names> {
    let mut all: Vec<Names> = Vec::new();
    for line in text.lines() {
        let Some((before, _)) = line.split_once('=') else { continue };
        let names: Names = before.strip_prefix('[').unwrap_or(before).split('|').map(str::to_owned).collect();
        if names.iter().all(|name| is_key(name)) && !all.contains(&names) {
            all.push(names);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Script, run, text};

    #[test]
    fn a_key_that_is_nearly_one_of_the_text_is_mistyped() {
        let mut script = Script::new(&run(0));
        let layer = script.events.iter_mut().find(|event| event.kind == Kind::Layer).unwrap();
        layer.texts.retain(|text| text.field != Field::Help);
        layer.texts.push(text(Field::Help, "size=<SIZE>  (required)\n"));
        let events = script.events;
        let given = |key: &str| [Parameter { key: Some(key.to_owned()), value: "1M".to_owned() }];
        let near = Some(("siz".to_owned(), "size".to_owned()));
        assert_eq!(mistyped(&events, &given("siz")), near);
        assert_eq!(mistyped(&events, &given("size")), None);
        assert_eq!(mistyped(&events, &given("allocator")), None);
    }

    #[test]
    fn parameters_stand_at_the_beginning_of_a_line() {
        let names = |text: &str| named(text).iter().map(|names| names.join("|")).collect::<Vec<_>>();
        assert_eq!(names("size=<SIZE>  (required) a=b\nallocator=sparse|...  A\n"), ["size", "allocator"]);
        assert_eq!(names("[file=]<FILENAME>  The filename.\ndir=<DIRNAME>\n"), ["file", "dir"]);
        assert_eq!(names("data|raw|base64=...  The disk\n   more of it, a=1\n"), ["data|raw|base64"]);
        assert_eq!(names("get_size=' SCRIPT '\n[etc]\nSet x to y=1\n-x=1\n"), ["get_size"]);
    }
}
