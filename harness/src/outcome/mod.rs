//! What is said of a rule, of a scenario, and of a whole run, whatever verb it is of; and the exit codes that follow.
//!
//! ```
//! use layers::verdict::{Exit, Verdict};
//!
//! let verdicts = [Verdict::Pass, Verdict::Crash("killed by signal 11".to_owned())];
//! let exit = Exit::of(verdicts.iter().map(Verdict::exit));
//! assert_eq!((exit, exit.code()), (Exit::Violation, 1));
//! assert_eq!(verdicts[1].reason(), Some("killed by signal 11"));
//! assert_eq!(Exit::of([]), Exit::NothingJudged, "nothing is never a pass");
//! ```

mod cause;
mod exit;
mod fault;
mod promise;
mod standing;
mod verdict;
mod what;

pub(crate) use cause::shape;
pub use cause::{Cause, Group, groups};
pub use exit::{Exit, RunEnd};
pub use fault::Fault;
pub use promise::Promise;
pub use standing::Standing;
pub use verdict::Verdict;
pub use what::What;
