//! Which scenarios a stack's trees are made in.

use super::store::Store;
use crate::campaign::select::matches;
use crate::run::stack::Stack;
use crate::scenario::{Scenario, UnfitSubject, named};
use crate::server::Which;

/// The scenarios for a stack that nothing was chosen for: each way to be started, asked, left and stopped once.
pub const USUAL: &[&str] = &[
    "classical",
    "options/info",
    "options/few",
    "options/no-structured-replies",
    "connections/several",
    "leave/hang-up",
    "leave/abort",
    "leave/knock",
    "readonly/server",
    "export-name/served",
    "inform/dump-plugin",
    "start/daemon",
    "end/sigterm/idle",
    "single/disconnect",
];

/// A pattern that selects nothing: most likely a slip of the pen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` matches no scenario of nbdkit: `layers trace --list` lists them all")]
pub struct NoScenario(pub String);

/// What to play with a stack.
#[derive(Clone, Debug)]
pub struct ScenarioSelection {
    /// With the stack's layers, in the order of the catalogue.
    pub scenarios: Vec<Scenario>,
    /// Those that were asked for by name and cannot be played.
    pub unfit: Vec<(String, UnfitSubject)>,
}

impl ScenarioSelection {
    /// The scenarios that a pattern of `only` names, and none of `skip` does; without `only` the [`USUAL`] ones and those that
    /// have been stored.
    ///
    /// # Errors
    ///
    /// A pattern matches nothing.
    pub fn new(
        stack: &Stack,
        store: &Store,
        only: &[String],
        skip: &[String],
    ) -> Result<ScenarioSelection, NoScenario> {
        let all = named::of(Which::Nbdkit);
        for pattern in only.iter().chain(skip) {
            if !all.iter().any(|scenario| matches(pattern, &scenario.name)) {
                return Err(NoScenario(pattern.clone()));
            }
        }
        let named = |patterns: &[String], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        let mut selection = ScenarioSelection { scenarios: Vec::new(), unfit: Vec::new() };
        for scenario in all.iter().filter(|scenario| !named(skip, &scenario.name)) {
            let name = scenario.name.as_str();
            let chosen = match only {
                [] => USUAL.contains(&name) || store.file(name).exists(),
                only => named(only, name),
            };
            match scenario.with_layers(stack) {
                Ok(scenario) if chosen => selection.scenarios.push(scenario),
                Err(unfit) if named(only, name) => selection.unfit.push((name.to_owned(), unfit)),
                // A stored file that nothing makes any more is stale.
                _ => {}
            }
        }
        Ok(selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_scenarios_exist_and_can_be_played_with_any_stack() {
        for name in USUAL {
            let scenario = named::find(name).unwrap();
            assert!(scenario.with_layers(&Stack::default()).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_played_is_named_where_it_was_asked_for() {
        let store = Store::new("nowhere", "memory").unwrap();
        let select = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|pattern| (*pattern).to_owned()).collect();
            ScenarioSelection::new(&Stack::default(), &store, &only, &[])
        };
        let usual = select(&[]).unwrap();
        assert_eq!((usual.scenarios.len(), usual.unfit), (USUAL.len(), Vec::new()));
        let asked = select(&["connections/*"]).unwrap();
        assert_eq!(
            asked.scenarios.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["connections/several"]
        );
        assert_eq!(asked.unfit, [("connections/pipelined".to_owned(), UnfitSubject::InFlight)]);
        assert_eq!(select(&["clasical"]).unwrap_err(), NoScenario("clasical".to_owned()));
    }
}
