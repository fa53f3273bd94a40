//! What is judged: a plugin under filters, in the server's own words, and whose data it works on.

use crate::run::Parameter;
use crate::stack::{Layers, Stack};

/// Plugins whose first parameter is the code of a plugin and not its data.
const SCRIPTED: &[&str] = &["sh", "python", "perl", "lua", "ruby", "tcl", "ocaml", "cc", "rust", "golang"];
/// Plugins all of whose parameters are code.
const ALL_CODE: &[&str] = &["eval"];

/// A parameter as it stands on the server's command line: `key=value`, or a bare value.
pub fn parameter(word: &str) -> Parameter {
    match word.split_once('=') {
        Some((key, value)) if is_key(key) => Parameter { key: Some(key.to_owned()), value: value.to_owned() },
        _ => Parameter { key: None, value: word.to_owned() },
    }
}

/// nbdkit-plugin(3), ".config": what a key looks like.
fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// The parameter that names storage of the user's, if there is one: a file, a directory, a device or an address.
pub fn users_storage(stack: &Stack) -> Option<&Parameter> {
    let Layers::Wrapped { plugin, .. } = &stack.layers else { return None };
    if ALL_CODE.contains(&plugin.as_str()) {
        return None;
    }
    let scripted = SCRIPTED.contains(&plugin.as_str());
    let is_code = |index: usize, parameter: &Parameter| {
        scripted && (parameter.key.as_deref() == Some("script") || (index == 0 && parameter.key.is_none()))
    };
    let storage = |(_, parameter): &(usize, &Parameter)| names_storage(&parameter.value);
    let mut all = stack.parameters.iter().enumerate().filter(|(index, one)| !is_code(*index, one));
    all.find(storage).map(|(_, parameter)| parameter)
}

/// Nothing outside of a server is touched, as far as can be told: the modules are the server's own, none of them runs
/// somebody's code, and no parameter names storage. Only then do servers side by side not get in one another's way.
pub fn keeps_to_itself(stack: &Stack) -> bool {
    let Layers::Wrapped { filters, plugin } = &stack.layers else { return true };
    let own = filters.iter().chain([plugin]).all(|name| !name.contains(['/', '.']));
    let runs_code = SCRIPTED.iter().chain(ALL_CODE).any(|name| name == plugin);
    own && !runs_code && users_storage(stack).is_none()
}

/// A path, an address, or the name of something that exists here.
fn names_storage(value: &str) -> bool {
    value.contains('/') || std::path::Path::new(value).symlink_metadata().is_ok()
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
    words.extend(stack.parameters.iter().map(parameter_text));
    words.join(" ")
}

/// A parameter as it stands on the command line.
pub fn parameter_text(parameter: &Parameter) -> String {
    match &parameter.key {
        Some(key) => format!("{key}={}", parameter.value),
        None => parameter.value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(plugin: &str, parameters: &[&str]) -> bool {
        let layers = Layers::Wrapped { filters: Vec::new(), plugin: plugin.to_owned() };
        let parameters = parameters.iter().map(|word| parameter(word)).collect();
        users_storage(&Stack { layers, parameters, ..Stack::default() }).is_some()
    }

    #[test]
    fn paths_and_addresses_are_the_users() {
        assert!(storage("file", &["/dev/sda"]));
        assert!(storage("file", &["dir=."]));
        assert!(storage("curl", &["url=http://localhost/disk"]));
        assert!(storage("./mine.so", &["64M", "log=./x"]));
        assert!(storage("python", &["script.py", "file=/etc/passwd"]));
    }

    #[test]
    fn sizes_and_code_are_not() {
        assert!(!storage("memory", &["64M"]));
        assert!(!storage("sh", &["./script.sh"]));
        assert!(!storage("python", &["script=./script.py", "size=1M"]));
        assert!(!storage("eval", &["get_size=echo 64M", "pread=dd if=/dev/zero count=$3 iflag=count_bytes"]));
    }

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
