//! `layers validate`: judging somebody else's plugin and filters.
//!
//! ```text
//!  files ─▶ image ─▶ discovery ─▶ claims ─▶ checks ─▶ plans ─▶ cases ─▶ findings ─▶ profiles
//! ```
//!
//! The subject runs in a server, wrapped by the instruments, and never in this process. Its claims decide which checks
//! are played; each check writes scripts, each script is played on a server of its own, and every answer is held
//! against a model of the disk. The rules of the catalogue whose party is a plugin or a filter are held against every
//! trace.

mod accepted;
mod blame;
mod builder;
mod case;
mod cause;
pub mod check;
pub mod checks;
mod claimed;
pub mod claims;
mod clients;
pub mod consent;
mod discovery;
pub mod disk_model;
mod documented;
mod durable;
mod evidence;
pub mod fact;
pub mod haproxy;
mod hints;
mod image;
mod in_flight;
pub mod intent;
mod judging;
mod listener;
mod modules;
pub mod op;
mod origin;
mod played;
mod processes;
mod profile;
mod quoted;
mod refusers;
mod replay;
mod reports;
pub mod repro;
mod runner;
mod selection;
mod standing;
mod stock;
mod stop;
pub mod subject;
mod suspects;
mod tally;
mod task;
mod twist;
mod unchanged;
mod unfit;
mod usage;
mod validation;
mod variants;
mod verdicts;
mod words;

pub use accepted::{Known, KnownFinding};
pub use builder::{Validate, ValidateError};
pub use check::{Level, ModuleCheck, Profile};
pub use evidence::Evidence;
pub use fact::Fact;
pub use haproxy::Haproxy;
pub use image::{ImageError, Role};
pub(crate) use in_flight::in_flight;
pub use listener::Listener;
pub(crate) use modules::is_module;
pub use modules::module_rules;
pub use profile::{ProfileResult, ProfileVerdict};
pub use replay::{Budget, Replayed, replay};
pub use repro::Repro;
pub use stop::Wrong;
pub use validation::{CheckStanding, Subject, Validation};
pub use verdicts::{Blame, CheckVerdict, ModuleFinding, ModuleRuleVerdict};

use crate::server::nbdkit::{Nbdkit, ServerError};
use selection::Selection;

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
