//! What kept a run from going as its scenario says.

/// What kept a run from going as its scenario says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mishap {
    /// It ended before it served anybody.
    #[error("the server did not start: {complaint}")]
    NotStarted {
        /// Why, in its own words.
        complaint: String,
    },
    /// It serves, though the scenario makes its start fail.
    #[error("the server started although a callback of its start-up failed")]
    Started,
    /// It did not do something before the deadline.
    #[error("the server hangs: {doing}")]
    Hang {
        /// What was waited for.
        doing: String,
    },
    /// A client's step went otherwise than the scenario says.
    #[error("step {step} of the script ({what}) {how}")]
    Script {
        /// Number of the step, from 1.
        step: usize,
        /// The step.
        what: String,
        /// How it went.
        how: String,
    },
}
