//! What is judged: a plugin under filters, in the server's own words, and whose data it works on.

pub(super) mod config_help;
pub mod consent;
pub(super) mod module_file;
pub(super) mod same_files;
pub(super) mod stock;

use crate::run::stack::{Layers, Stack};

pub use crate::run::parameter::{parameter, parameter_text, shown};

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
