//! Judging somebody's keywords and services of HAProxy.
//!
//! ```text
//!  configuration, modules ─▶ discovery ─▶ entries ─▶ checks ─▶ rounds on servers ─▶ findings ─▶ a verdict for each entry
//! ```
//!
//! The subject is what the configuration and the modules add to the same server without them. Each check plays every entry
//! on servers of its own; crashes, errors of Lua and broken rules are taken from all of them.

mod acts;
mod bench;
mod checks;
mod discovery;
mod playing;
mod said;
mod selection;
mod subject;
mod verdicts;
mod written;

pub use checks::all as checks;
pub use discovery::Handler;
pub use subject::HaproxyValidation as Haproxy;

use std::path::Path;

use crate::baseline::{Baseline, BaselineError};
use crate::campaign::halt::Limit;
use crate::rules::Rule;
use crate::server::nbdkit::ServerError;
use crate::validate::run::builder::ValidateError;
use crate::validate::run::listener::Listener;
use crate::validate::verdict::validation::{Subject, Validation};
use crate::version::Which;
use playing::Run;
use selection::Selection;
use subject::{HaproxyValidation, of_handlers};

/// The rules that a keyword or a service can break.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    of_handlers()
}

/// Reads a file about a subject of HAProxy's: checks, and rules that a keyword or a service can break.
///
/// # Errors
///
/// The file cannot be read, or says what nobody knows.
pub fn load_known(path: &Path) -> Result<Baseline, BaselineError> {
    let is_id = |id: &str| checks().any(|one| one.id == id) || rules().any(|one| one.id == id);
    Baseline::load_listed(path, is_id, "there is no check and no rule", "layers validate haproxy --list")
}

impl HaproxyValidation {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// There is no server, or a pattern selects nothing.
    pub fn run(&self) -> Result<Validation, ValidateError> {
        self.run_telling(&mut ())
    }

    /// Runs it, and tells of each check as it is played.
    ///
    /// # Errors
    ///
    /// There is no server, or a pattern selects nothing.
    pub fn run_telling(&self, listener: &mut dyn Listener) -> Result<Validation, ValidateError> {
        let selection = Selection::new(self)?;
        let server =
            crate::server::haproxy::Haproxy::find(self.server.as_deref()).map_err(ServerError::from)?;
        let limit = Limit::new(self.time).failing_fast(self.fail_fast);
        let selection = selection.since(server.version);
        listener.begins(&Subject {
            which: Which::Haproxy,
            set: None,
            words: self.words(),
            server: server.version.to_string(),
            spared: None,
            copied: Vec::new(),
            level: self.level,
            checks: selection.rows.len(),
            rules: selection.rules.len(),
        });
        let mut run = Run::new(self, &server, &selection, limit);
        let mut validation = run.play(listener).map_err(ServerError::from)?;
        validation.stand(&self.known, &self.deny);
        Ok(validation)
    }
}
