//! Why a scenario cannot be played on this machine, told before it is.
//!
//! A scenario declares each program beside the server that it runs ([`Scenario::needs`]). Where one is missing the scenario
//! says nothing of the server: it is not judged, and the exit code is that of the others.

use std::ffi::OsStr;

use super::Scenario;
use super::helper::Helper;
use crate::server::Installed;

/// Why a scenario is not played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplayable {
    /// It makes sense from a later version on.
    #[error("the server is too old for it")]
    TooOld,
    /// A program is not there.
    #[error("needs {0}")]
    Program(Helper),
    /// A plugin or filter of the server's own is not there: some distributions package them one by one.
    #[error("needs nbdkit's {0}, which is not installed")]
    Module(String),
}

impl Scenario {
    /// Returns why it cannot be played on this server, with the programs of this machine.
    pub fn unplayable(&self, server: &Installed) -> Option<Unplayable> {
        if self.since() > server.version() {
            return Some(Unplayable::TooOld);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = self.missing_program(&path).map(Unplayable::Program);
        program.or_else(|| self.missing_module(server).map(Unplayable::Module))
    }

    fn missing_program(&self, path: &OsStr) -> Option<Helper> {
        self.needs.iter().find(|helper| helper.is_missing(path)).copied()
    }

    fn missing_module(&self, server: &Installed) -> Option<String> {
        let Installed::Nbdkit(server) = server else { return None };
        self.stack.replaced.iter().find_map(|(layer, name)| {
            let (file, kind) = match layer {
                0 => (server.plugin_file(name), "plugin"),
                _ => (server.filter_file(name), "filter"),
            };
            (!file.exists()).then(|| format!("{kind} `{name}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::helper::NBDINFO;
    use super::*;
    use crate::scenario::named;

    #[test]
    fn a_program_is_a_file_on_the_path_that_may_be_run() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(NBDINFO.program);
        let path = std::env::join_paths([Path::new("/nowhere"), directory.path()]).unwrap();
        assert!(NBDINFO.is_missing(&path));
        std::fs::write(&program, "").unwrap();
        assert!(NBDINFO.is_missing(&path), "it may not be run");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!NBDINFO.is_missing(&path));
        assert!(NBDINFO.is_missing(OsStr::new("")));
    }

    #[test]
    fn it_is_told_with_its_package() {
        let why = Unplayable::Program(NBDINFO);
        assert_eq!(why.to_string(), "needs `nbdinfo` (Debian: libnbd-bin)");
    }

    /// What a command of `--run` may begin with that no package has to bring: words of the shell itself.
    const OF_THE_SHELL: &[&str] = &["true", "exit"];

    #[test]
    fn every_command_of_a_scenario_declares_its_program_and_throws_no_output_away() {
        for scenario in named::all() {
            let Some(command) = scenario.command else { continue };
            let program = command.split(' ').next().unwrap();
            let declared = scenario.needs.iter().any(|helper| helper.program == program);
            assert!(declared || OF_THE_SHELL.contains(&program), "{}: `{program}`", scenario.name);
            assert!(!command.contains('>'), "{}: what it prints belongs to the finding", scenario.name);
        }
    }
}
