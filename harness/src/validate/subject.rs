//! What is judged: a plugin under filters, in the server's own words, and whose data it works on.

use super::consent::{self, Consent, HIDDEN, is_secret};
use super::stock;
use crate::run::Parameter;
use crate::stack::{Layers, Stack};

/// A parameter as it stands on the server's command line: `key=value`, or a bare value.
pub fn parameter(word: &str) -> Parameter {
    match word.split_once('=') {
        Some((key, value)) if is_key(key) => Parameter { key: Some(key.to_owned()), value: value.to_owned() },
        _ => Parameter { key: None, value: word.to_owned() },
    }
}

/// nbdkit-plugin(3), ".config": what a key looks like.
pub(super) fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// Nothing outside of a server is touched, as far as can be told: the modules are the server's own, none of them runs
/// somebody's code, and no parameter names storage that is not copied. Only then do servers side by side not get in one
/// another's way.
pub fn keeps_to_itself(stack: &Stack) -> bool {
    let Layers::Wrapped { filters, plugin } = &stack.layers else { return true };
    let own = filters.iter().chain([plugin]).all(|name| !name.contains(['/', '.']));
    own && !stock::runs_code(plugin) && Consent::of(stack, consent::LIMIT).is_free()
}

/// How the subject is written on the server's command line.
pub fn words(stack: &Stack) -> String {
    let replaced: Vec<String> = stack.replaced.values().cloned().collect();
    let (filters, plugin): (&[String], &str) = match &stack.layers {
        Layers::Wrapped { filters, plugin } => (filters, plugin),
        Layers::Over { filters, .. } => (filters, "(reference plugin)"),
        Layers::Reference(_) => (&replaced, "(reference plugin)"),
    };
    let mut words: Vec<String> = filters.iter().map(|filter| format!("--filter={filter}")).collect();
    words.push(plugin.to_owned());
    words.extend(stack.parameters.iter().map(shown));
    words.join(" ")
}

/// A parameter as it stands on the command line.
pub fn parameter_text(parameter: &Parameter) -> String {
    match &parameter.key {
        Some(key) => format!("{key}={}", parameter.value),
        None => parameter.value.clone(),
    }
}

/// The same, without what must not be told.
pub fn shown(parameter: &Parameter) -> String {
    match &parameter.key {
        Some(key) if is_secret(key) => format!("{key}={HIDDEN}"),
        _ => parameter_text(parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_side_by_side_share_nothing_only_where_that_is_known() {
        let alone = |filters: &[&str], plugin: &str, word: &str| {
            let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
            let layers = Layers::Wrapped { filters, plugin: plugin.to_owned() };
            keeps_to_itself(&Stack { layers, parameters: vec![parameter(word)], ..Stack::default() })
        };
        assert!(alone(&["cow"], "memory", "64M"));
        assert!(!alone(&["./mine.so"], "memory", "64M"));
        assert!(!alone(&[], "./mine.so", "64M"));
        assert!(!alone(&[], "sh", "./script.sh"));
        assert!(!alone(&[], "eval", "get_size=stat -c %s /disk"));
        assert!(!alone(&[], "file", "/dev/sda"));
    }

    #[test]
    fn a_key_begins_with_a_letter() {
        assert_eq!(parameter("size=1M").key.as_deref(), Some("size"));
        assert_eq!(parameter("1=2").key, None);
        assert_eq!(parameter("/a=b").key, None);
    }
}
