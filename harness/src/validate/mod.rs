//! `layers validate`: judging somebody else's plugin and filters.
//!
//! ```text
//!  subject ─▶ claims ─▶ checks ─▶ scripts ─▶ cases ─▶ findings ─▶ verdicts
//! ```
//!
//! The subject runs in a server, wrapped by the instruments, and never in this process. Its claims decide which checks
//! are played; each check writes scripts, each script is played on a server of its own, and every answer is held
//! against a model of the disk. The rules of the catalogue whose party is a plugin or a filter are held against every
//! trace.

pub mod checks;
pub mod haproxy;
mod judge;
mod play;
pub mod repro;
mod run;
pub mod script;
pub mod subject;
mod verdict;

pub use checks::check::{Level, ModuleCheck, Profile};
pub(crate) use checks::module_rules::is_module;
pub use checks::module_rules::module_rules;
pub use haproxy::Haproxy;
pub use play::evidence::Evidence;
pub(crate) use play::in_flight::in_flight;
pub use play::stop::Wrong;
pub use repro::Repro;
pub use run::builder::{Validate, ValidateError};
pub use run::listener::Listener;
pub use run::replay::{Budget, Replayed, replay};
pub use script::fact::Fact;
pub use subject::module_file::{ImageError, Role};
pub use verdict::profile::{ProfileResult, ProfileVerdict};
pub use verdict::validation::{Subject, Validation};
pub use verdict::verdicts::{Blame, CheckVerdict, ModuleFinding, ModuleRuleVerdict};

use crate::server::nbdkit::{Nbdkit, ServerError};
use run::runner;
use run::selection::Selection;
use subject::consent;

impl Validate {
    /// Runs it.
    pub fn run(&self) -> Result<Validation, ValidateError> {
        self.run_telling(&mut ())
    }

    /// Runs it, and tells of each check as it is played.
    pub fn run_telling(&self, listener: &mut dyn Listener) -> Result<Validation, ValidateError> {
        let selection = Selection::new(self)?;
        let overwritten = consent::Consent::of(&self.stack, self.copy_limit).overwritten.into_iter().next();
        if let Some(parameter) = overwritten.filter(|_| !self.allow_writes) {
            return Err(ValidateError::Overwritten(parameter));
        }
        let nbdkit = Nbdkit::find(self.server.as_deref())?;
        if let Some(under) = self.under {
            under.look(&nbdkit.modules(&self.stack)).map_err(ServerError::from)?;
        }
        let mut validation = runner::run(self, &nbdkit, &selection, listener)?;
        validation.stand(&self.known, &self.deny);
        Ok(validation)
    }
}
