//! `--level`: how much is asked of a server, and how often.

use crate::rules::{Kind, Rule};
use crate::scenario::Scenario;

/// How much is asked. Each level holds the ones before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the manual promises: required and forbidden rules, races in a fifth of their tries.
    Must,
    /// Observed habits as well, whose change is a warning; races as often as they ask.
    #[default]
    Should,
    /// More tries: races four times as many, and every other scenario three times.
    Pedantic,
}

impl Level {
    /// One lower-case word.
    pub fn word(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::Pedantic => "pedantic",
        }
    }

    /// This rule is judged.
    pub fn judges(self, rule: &Rule) -> bool {
        self >= Level::Should || matches!(rule.kind, Kind::Required | Kind::Forbidden)
    }

    /// How often this scenario is played.
    pub fn tries(self, scenario: &Scenario) -> u32 {
        match (self, scenario.is_race()) {
            (Level::Must, true) => scenario.tries.div_ceil(5),
            (Level::Must | Level::Should, _) => scenario.tries,
            (Level::Pedantic, true) => scenario.tries * 4,
            (Level::Pedantic, false) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::stack::Stack;

    #[test]
    fn a_higher_level_never_asks_less() {
        let once = Scenario::new("once", "", Stack::reference(0));
        let race = Scenario { tries: 25, ..once.clone() };
        for scenario in [once, race] {
            let tries = [Level::Must, Level::Should, Level::Pedantic].map(|level| level.tries(&scenario));
            assert!(tries.is_sorted(), "{tries:?}");
        }
        for rule in crate::rules::all() {
            assert!(!Level::Must.judges(rule) || Level::Should.judges(rule), "{}", rule.id);
        }
    }
}
