//! `[[validate.set]]`: several sets of parameters of one subject, judged after one another in one run.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::baseline::Entry;
use crate::foreign::visible::visible_line;
use crate::outcome::Exit;
use crate::run::stack::{Layers, Stack};
use crate::validate::{Fact, Profile, Validation, subject};

/// One of them, as a layers.toml has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Set {
    /// What reports and `--set` call it.
    pub(super) name: String,
    /// Parameters behind those of the command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<String>,
    /// Filters inside those of the command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filters: Vec<String>,
    /// Serve read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
    /// What is claimed with these parameters, besides what is always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) claims: Vec<Profile>,
    /// What clients see with these parameters, besides what they always do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) expected: Vec<Fact>,
}

impl Set {
    /// The subject with this set.
    pub(super) fn of(&self, stack: &Stack) -> Stack {
        let mut stack = stack.clone();
        if let Layers::Wrapped { filters, .. } = &mut stack.layers {
            filters.extend(self.filters.iter().cloned());
        }
        stack.parameters.extend(self.parameters.iter().map(|word| subject::parameter(word)));
        stack.readonly |= self.readonly;
        stack
    }
}

/// Returns the sets with one of these names, or all of them.
pub(super) fn chosen<'a>(all: &'a [Set], names: &[String]) -> Result<Vec<&'a Set>, Failure> {
    let wrong = |what: String| Err(Failure::new(Exit::Usage, what));
    let mut seen = BTreeSet::new();
    for set in all {
        if set.name.is_empty() {
            return wrong("a [[validate.set]] of layers.toml has no name".to_owned());
        }
        if visible_line(&set.name) != set.name {
            let shown = visible_line(&set.name);
            return wrong(format!(
                "the name of a [[validate.set]] of layers.toml is no plain text: `{shown}`"
            ));
        }
        if !seen.insert(&set.name) {
            return wrong(format!("two sets of layers.toml are called `{}`", set.name));
        }
    }
    for name in names {
        if !seen.contains(name) {
            let there = seen.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() {
                "layers.toml has none".to_owned()
            } else {
                format!("there is {there}")
            };
            return wrong(format!("no [[validate.set]] is called `{name}`: {there}"));
        }
    }
    Ok(all.iter().filter(|set| names.is_empty() || names.contains(&set.name)).collect())
}

/// What counts only where it is so of every set: entries of the baseline that did not happen, parameters that were not
/// given. It is told with the last set.
#[derive(Debug, Default)]
pub(super) struct OfAll(Option<(Vec<Entry>, Vec<String>)>);

impl OfAll {
    /// One more set has been judged, and `last`: it is the last one.
    pub(super) fn hear(&mut self, validation: &mut Validation, last: bool) {
        let (mut stale, mut untried) =
            (std::mem::take(&mut validation.stale), std::mem::take(&mut validation.untried));
        if let Some((before, tried_before)) = self.0.take() {
            stale.retain(|entry| before.contains(entry));
            untried.retain(|name| tried_before.contains(name));
        }
        if last {
            (validation.stale, validation.untried) = (stale, untried);
        } else {
            self.0 = Some((stale, untried));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Set {
        Set { name: name.to_owned(), ..Set::default() }
    }

    #[test]
    fn sets_are_chosen_by_name_and_each_has_one_of_its_own() {
        let sets = [set("small"), set("large")];
        assert_eq!(chosen(&sets, &[]).unwrap(), sets.iter().collect::<Vec<_>>());
        assert_eq!(chosen(&sets, &["large".to_owned()]).unwrap(), [&sets[1]]);
        let refused = |sets: &[Set], names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(sets, &names).unwrap_err().message
        };
        assert_eq!(refused(&sets, &["lage"]), "no [[validate.set]] is called `lage`: there is large, small");
        assert_eq!(refused(&[], &["a"]), "no [[validate.set]] is called `a`: layers.toml has none");
        assert_eq!(refused(&[set("a"), set("a")], &[]), "two sets of layers.toml are called `a`");
        assert!(refused(&[set("a\u{202e}b")], &[]).ends_with("is no plain text: `a\\u{202e}b`"));
        assert_eq!(refused(&[set("")], &[]), "a [[validate.set]] of layers.toml has no name");
    }

    #[test]
    fn a_set_comes_behind_what_the_command_line_has() {
        let layers = Layers::Wrapped { filters: vec!["cow".to_owned()], plugin: "memory".to_owned() };
        let stack =
            Stack { layers, parameters: vec![subject::parameter("allocator=malloc")], ..Stack::default() };
        let one =
            Set { parameters: vec!["size=1M".to_owned()], filters: vec!["log".to_owned()], ..set("one") };
        let words = subject::words(&one.of(&stack));
        assert_eq!(words, "--filter=cow --filter=log memory allocator=malloc size=1M");
    }
}
