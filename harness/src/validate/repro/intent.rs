//! What a case out of a file is about to do, before any of it is done.
//!
//! A case may come from anybody. It names modules, parameters, files and arguments of the server: all of them are told, none
//! of them can have the server start a program or listen elsewhere, and what runs scripts, or writes to storage that is not
//! copied, is played only with leave.

use std::path::{Path, PathBuf};

use super::Repro;
use crate::foreign::trust;
use crate::foreign::visible::visible_line;
use crate::run::Parameter;
use crate::run::options;
use crate::server::nbdkit::Nbdkit;
use crate::validate::subject::consent::{self, Consent};
use crate::validate::subject::stock;
use crate::validate::subject::{parameter_text, shown};

/// What the user has allowed a case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave {
    /// To write to storage that its parameters name.
    pub writes: bool,
    /// To run the scripts and programs that its parameters hold or name, and modules that others can have written.
    pub programs: bool,
}

/// Why a case is not played.
#[derive(Debug, thiserror::Error)]
pub enum Unwilling {
    /// It would have the server do something besides.
    #[error("the case is not played: {0}")]
    Option(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It runs what is not known to be the user's.
    #[error("the case is not played: {0}; --allow-programs lets it")]
    Programs(String),
    /// It writes.
    #[error(
        "the case is not played: it writes, and {0}; --allow-writes lets it, and everything there may be lost"
    )]
    Writes(String),
}

/// A case that may be played.
#[derive(Clone, Debug)]
pub struct Intent {
    /// It, with what is copied and what is only read.
    pub repro: Repro,
    /// What it uses, a line each.
    pub uses: Vec<String>,
}

impl Intent {
    /// Of a case, whose paths are relative to the working directory.
    ///
    /// # Errors
    ///
    /// It does what the user has not allowed it.
    pub fn of(repro: &Repro, server: &Nbdkit, leave: Leave) -> Result<Intent, Unwilling> {
        let mut repro = repro.clone();
        let mut uses = told(&repro, server);
        refuse_options(&repro)?;
        if let Some(why) = programs(&repro).into_iter().next().filter(|_| !leave.programs) {
            return Err(Unwilling::Programs(why));
        }
        if !leave.writes {
            let consent = Consent::of(&repro.stack, consent::LIMIT);
            if let Some(parameter) = consent.overwritten.first() {
                return Err(Unwilling::Writes(format!("`{parameter}` names what would be written over")));
            }
            let why = consent.spared.join("; ");
            if !consent.is_free() && !repro.stack.readonly {
                if repro.script.iter().any(|op| op.writes()) {
                    return Err(Unwilling::Writes(why));
                }
                repro.stack.readonly = true;
            }
            if !why.is_empty() {
                uses.push(format!("opened read-only: {}", visible_line(&why)));
            }
            repro.stack.copied = consent.copied;
        }
        let written = |parameter: &&Parameter| !repro.stack.copied.contains(&parameter.value);
        let copied = repro.stack.parameters.iter().filter(|one| !written(one)).map(|one| file(&one.value));
        uses.extend(copied.map(|path| format!("copied, and the copy is used: {path}")));
        if leave.writes {
            let named =
                repro.stack.parameters.iter().filter(written).filter(|one| Path::new(&one.value).exists());
            uses.extend(named.map(|one| format!("may be written to: {}", file(&one.value))));
        }
        Ok(Intent { repro, uses })
    }
}

/// Returns the options that let `layers repro` play this case here, each with a space behind it.
pub fn leave_for(repro: &Repro) -> String {
    let consent = Consent::of(&repro.stack, consent::LIMIT);
    let writes = !repro.stack.readonly && repro.script.iter().any(|op| op.writes());
    let writes = writes && !consent.spared.is_empty() || !consent.overwritten.is_empty();
    let wanted = [(!programs(repro).is_empty(), "--allow-programs "), (writes, "--allow-writes ")];
    wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, option)| option).collect()
}

fn told(repro: &Repro, server: &Nbdkit) -> Vec<String> {
    let stack = &repro.stack;
    let mut lines = vec![format!("server: {} ({})", server.path.display(), server.version)];
    for (layer, path) in server.targets(stack) {
        let what = if layer == 0 { "plugin" } else { "filter" };
        lines.push(format!("{what}: {}", file(&path.display().to_string())));
    }
    lines.extend(stack.parameters.iter().map(|one| format!("parameter: {}", visible_line(&shown(one)))));
    lines.extend(stack.arguments.iter().map(|one| format!("argument of the server: {}", visible_line(one))));
    if let Some(directory) = &repro.directory {
        let how = if directory.is_dir() { "" } else { ", which is not there: it is played here" };
        lines.push(format!("in: {}{how}", visible_line(&directory.display().to_string())));
    }
    lines
}

/// A path in full, made safe to show.
fn file(path: &str) -> String {
    let full = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    visible_line(&full.display().to_string())
}

fn refuse_options(repro: &Repro) -> Result<(), Unwilling> {
    let refused = |refused: options::Refused| Unwilling::Option(Box::new(refused));
    options::check(&repro.stack.arguments, options::Words::Files).map_err(refused)?;
    let mut words = repro.stack.parameters.iter().map(parameter_text);
    words.try_for_each(|word| options::check_parameter(&word)).map_err(refused)
}

/// What runs programs, or is code that others can have written.
fn programs(repro: &Repro) -> Vec<String> {
    let stack = &repro.stack;
    let (filters, plugin) = consent::modules(stack);
    let mut all = Vec::new();
    for (index, parameter) in stack.parameters.iter().enumerate() {
        if stock::is_code(&plugin, index, parameter) {
            all.push(format!("`{}` is a script", visible_line(&shown(parameter))));
        } else if stock::may_run(&plugin, parameter) {
            all.push(format!("`{}` may run a program", visible_line(&shown(parameter))));
        }
    }
    // Those without a path are the server's own.
    for path in filters.iter().chain([&plugin]).filter(|name| name.contains(['/', '.'])) {
        if let Ok(Some(why)) = trust::doubt(Path::new(path)) {
            all.push(format!("`{}` is code, and {why}", visible_line(path)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::FORMAT;
    use super::*;
    use crate::run::Start;
    use crate::run::stack::{Layers, Stack};
    use crate::server::nbdkit::Conditions;
    use crate::validate::checks::check::ServerOutcome;
    use crate::validate::script::op::Op;
    use crate::validate::subject;

    fn case(plugin: &str, words: &[&str], arguments: &[&str], script: &[&str]) -> Repro {
        let layers = Layers::Wrapped { filters: Vec::new(), plugin: plugin.to_owned() };
        let parameters = words.iter().map(|word| subject::parameter(word)).collect();
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        Repro {
            layers_repro: FORMAT,
            check: "write.last-wins".to_owned(),
            expected: String::new(),
            actual: String::new(),
            seed: 1,
            memory: 64,
            start: Start::Foreground,
            conditions: Conditions::default(),
            outcome: ServerOutcome::Serves,
            script: script.iter().map(|line| line.parse::<Op>().unwrap()).collect(),
            directory: None,
            stack: Stack { layers, parameters, arguments, ..Stack::default() },
        }
    }

    fn intent(repro: &Repro, leave: Leave) -> Result<Intent, String> {
        let server = Nbdkit::find(None).unwrap();
        Intent::of(repro, &server, leave).map_err(|error| error.to_string())
    }

    const WRITES: &[&str] = &["connect 1", "write 1 offset=0 count=512 data=1"];

    #[test]
    fn what_starts_programs_is_refused_and_scripts_need_leave() {
        let none = Leave::default();
        let all = Leave { writes: true, programs: true };
        for (words, arguments) in
            [(&["1M"][..], &["--run=id"][..]), (&["1M", "--run=id"], &[]), (&["1M"], &["-P/x"])]
        {
            assert!(intent(&case("memory", words, arguments, &[]), all).is_err(), "{words:?} {arguments:?}");
        }
        for (plugin, word) in [
            ("eval", "get_size=id"),
            ("sh", "/bin/true"),
            ("data", "data=<(id)"),
            ("curl", "cookie-script=id"),
            ("nbd", "command=id"),
            ("iso", "params=; id"),
            ("linuxdisk", "type=ext4; id"),
            ("ssh", "config=/tmp/config"),
            ("tmpdisk", "PATH=/tmp"),
            ("libvirt", "connect=qemu+ext:///session?command=id"),
        ] {
            let case = case(plugin, &[word], &[], &[]);
            let error = intent(&case, none).unwrap_err();
            assert!(error.contains("--allow-programs"), "{error}");
            assert!(intent(&case, Leave { programs: true, ..none }).is_ok());
        }
    }

    #[test]
    fn storage_is_copied_or_read_or_needs_leave_and_every_path_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        std::fs::write(&disk, [7; 4096]).unwrap();
        let disk = disk.display().to_string();
        let copied = intent(&case("file", &[&disk], &[], WRITES), Leave::default()).unwrap();
        assert!(copied.repro.stack.copied.contains(&disk), "{copied:?}");
        assert!(copied.uses.iter().any(|line| line.starts_with("copied") && line.contains(&disk)));
        assert!(copied.uses.iter().any(|line| line.starts_with("plugin: /")), "{copied:?}");
        let folder = format!("dir={}", directory.path().display());
        let error = intent(&case("file", &[&folder], &[], WRITES), Leave::default()).unwrap_err();
        assert!(error.contains("--allow-writes") && error.contains("directory"), "{error}");
        let read = intent(&case("file", &[&folder], &[], &["connect 1"]), Leave::default()).unwrap();
        assert!(read.repro.stack.readonly, "{read:?}");
        assert!(
            intent(&case("file", &[&folder], &[], WRITES), Leave { writes: true, programs: false }).is_ok()
        );
    }

    #[test]
    fn a_filter_over_a_plugin_of_ours_names_storage_as_well() {
        let log = Repro {
            stack: Stack {
                layers: Layers::Over { filters: vec!["log".to_owned()], plugin: Box::default() },
                parameters: vec![subject::parameter("size=1M"), subject::parameter("logfile=/etc/hostname")],
                ..Stack::default()
            },
            ..case("memory", &[], &[], &["connect 1"])
        };
        let intent = intent(&log, Leave::default()).unwrap();
        let is_kept = intent.repro.stack.copied.contains("/etc/hostname") || intent.repro.stack.readonly;
        assert!(is_kept, "{intent:?}");
    }
}
