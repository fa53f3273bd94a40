//! What is judged: a plugin under filters, in the server's own words, and whose data it works on.

use super::consent::{self, Consent};
use super::stock;
use crate::run::stack::{Layers, Stack};

pub(super) use crate::run::parameter::is_key;
pub use crate::run::parameter::{parameter, parameter_text, shown};

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
}
