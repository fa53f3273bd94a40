//! `--only` and `--skip`: patterns over the ids of rules and the names of scenarios.

use crate::rules::{self, Rule};
use crate::scenario::{Scenario, named};
use crate::version::Which;

/// A pattern that selects nothing: most likely a slip of the pen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{pattern}` matches no rule and no scenario{}: `layers rules` lists the rules, `layers trace --list` the scenarios",
    or_rather(nearest.as_deref())
)]
pub struct NoMatch {
    /// The pattern.
    pub pattern: String,
    /// The name that may be meant.
    pub nearest: Option<String>,
}

/// A pattern that selects no rule, where there are only rules to select.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` matches no rule{}: `layers rules` lists them", or_rather(nearest.as_deref()))]
pub struct NoRule {
    /// The pattern.
    pub pattern: String,
    /// The id that may be meant.
    pub nearest: Option<String>,
}

/// What to judge, on what.
#[derive(Debug)]
pub struct Selection {
    /// Rules, in the order of the catalogue.
    pub rules: Vec<&'static Rule>,
    /// Scenarios, in the order in which they are played.
    pub scenarios: Vec<Scenario>,
}

impl Selection {
    /// Of this server's, everything that a pattern of `only` names (or everything, without any) and none of `skip` does.
    ///
    /// In a pattern `*` stands for any text. One that names rules leaves the scenarios alone, and the other way round.
    pub fn new(server: Which, only: &[String], skip: &[String]) -> Result<Selection, NoMatch> {
        let ids: Vec<&str> = rules::of(server).map(|rule| rule.id).collect();
        let scenarios = named::of(server);
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        for pattern in only.iter().chain(skip) {
            if !ids.iter().chain(&names).any(|text| matches(pattern, text)) {
                let nearest = nearest(pattern, ids.iter().chain(&names).copied()).map(str::to_owned);
                return Err(NoMatch { pattern: pattern.clone(), nearest });
            }
        }
        let wanted = |text: &str, all: &[&str]| {
            let concerns = |pattern: &&String| all.iter().any(|one| matches(pattern, one));
            let mut only = only.iter().filter(concerns).peekable();
            (only.peek().is_none() || only.any(|pattern| matches(pattern, text)))
                && !skip.iter().any(|pattern| matches(pattern, text))
        };
        let rules = rules::of(server).filter(|rule| wanted(rule.id, &ids)).collect();
        let chosen = names.iter().map(|name| wanted(name, &names)).collect::<Vec<bool>>();
        let scenarios =
            scenarios.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(s, _)| s).collect();
        Ok(Selection { rules, scenarios })
    }
}

/// The rules of all servers that a pattern of `only` names (or all, without any) and none of `skip` does.
pub fn rules(only: &[String], skip: &[String]) -> Result<Vec<&'static Rule>, NoRule> {
    for pattern in only.iter().chain(skip) {
        if !rules::all().any(|rule| matches(pattern, rule.id)) {
            let nearest = nearest(pattern, rules::all().map(|rule| rule.id)).map(str::to_owned);
            return Err(NoRule { pattern: pattern.clone(), nearest });
        }
    }
    let named = |patterns: &[String], rule: &Rule| patterns.iter().any(|pattern| matches(pattern, rule.id));
    Ok(rules::all().filter(|rule| (only.is_empty() || named(only, rule)) && !named(skip, rule)).collect())
}

/// `*` in `pattern` stands for any text, everything else for itself.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Returns which of these names a mistyped one may stand for: the nearest, if few letters make the difference.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count().div_ceil(4);
    let apart = |other: &'a str| (strsim::damerau_levenshtein(name, other), other);
    let near = names.into_iter().map(apart).filter(|(apart, _)| (1..=most).contains(apart));
    near.min_by_key(|(apart, _)| *apart).map(|(_, other)| other)
}

/// Says the nearest name, for a sentence that goes on behind it.
pub(crate) fn or_rather(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |nearest| format!(" (the nearest name is `{nearest}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("lifecycle.*", "lifecycle.cleanup.once"));
        assert!(matches("*.once*", "lifecycle.load.once-first"));
        assert!(matches("classical", "classical"));
        assert!(!matches("classical", "classical/1"));
        assert!(!matches("a*a", "a"));
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error() {
        let error = Selection::new(Which::Nbdkit, &["lifecycel.*".to_owned()], &[]).unwrap_err();
        assert_eq!(error, NoMatch { pattern: "lifecycel.*".to_owned(), nearest: None });
        let error = Selection::new(Which::Nbdkit, &["clasical".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("the nearest name is `classical`"), "{error}");
    }

    #[test]
    fn only_a_few_letters_make_a_name_another() {
        let names = ["memory", "file", "data"];
        assert_eq!(nearest("memry", names), Some("memory"));
        assert_eq!(nearest("flie", names), Some("file"));
        assert_eq!(nearest("memory", ["memory"]), None, "it is that name");
        assert_eq!(nearest("xyz", names), None);
    }

    #[test]
    fn a_pattern_of_rules_leaves_the_scenarios_alone() {
        let all = Selection::new(Which::Nbdkit, &[], &[]).unwrap();
        let some =
            Selection::new(Which::Nbdkit, &["lifecycle.cleanup.*".to_owned()], &["depth/*".to_owned()])
                .unwrap();
        assert!(some.rules.iter().all(|rule| rule.id.starts_with("lifecycle.cleanup.")));
        assert!(!some.rules.is_empty());
        assert_eq!(some.scenarios.len(), all.scenarios.len() - 9);
    }
}
