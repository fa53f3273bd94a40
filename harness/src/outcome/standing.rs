//! What a finding means for its run.

use super::exit::Exit;

/// What a fault means for the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The server is at fault.
    New,
    /// The server is at fault, and the baseline says so.
    Known {
        /// Why, as the baseline has it.
        why: String,
        /// Decided by chance.
        race: bool,
    },
    /// A habit has changed: a warning.
    Habit,
    /// It is the duty of a plugin, filter or client, which here are the harness's own.
    Ours,
    /// The same, in a scenario in which the server is at fault: our layers did not get what they need.
    Follows,
}

impl Standing {
    /// One lower-case word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::New => "new",
            Standing::Known { .. } => "known",
            Standing::Habit => "habit",
            Standing::Ours => "harness",
            Standing::Follows => "follows",
        }
    }

    /// Why it is known, as the baseline has it.
    pub fn why(&self) -> Option<&str> {
        match self {
            Standing::Known { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The exit code that it alone asks for.
    pub fn exit(&self) -> Exit {
        match self {
            Standing::New => Exit::Violation,
            Standing::Known { .. } | Standing::Habit | Standing::Follows => Exit::Conformant,
            Standing::Ours => Exit::Harness,
        }
    }
}
