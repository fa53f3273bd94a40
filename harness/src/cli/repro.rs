//! `layers repro`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::bounds;
use super::failure::Failure;
use super::output::output;
use crate::foreign::visible::visible_line;
use crate::outcome::Exit;
use crate::server::interrupt::leave_interrupts_to_others;
use crate::server::nbdkit::{Conditions, Debugger, Nbdkit, ServerError, Under, UnderError};
use crate::server::process::become_subreaper;
use crate::validate::repro::intent::{Intent, Leave};
use crate::validate::subject::consent::HIDDEN;
use crate::validate::{Budget, Replayed, Repro, Wrong, replay, subject};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The server program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Seconds that the case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    #[command(flatten)]
    bounds: bounds::Arguments,
    /// Let the case write to storage of yours that its parameters name, and so destroy what is there
    #[arg(long)]
    allow_writes: bool,
    /// Let the case run the scripts and programs that its parameters hold or name, and modules that others can have written
    #[arg(long)]
    allow_programs: bool,
    /// The value of a parameter that the case leaves out because it is a secret; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    parameter: Vec<String>,
    /// Play it below something that looks at its memory
    #[arg(long, value_enum, value_name = "WHAT")]
    under: Option<Under>,
    /// Play it with gdb at the server: it says where the server crashes or hangs; on a terminal it asks you
    #[arg(long, conflicts_with = "under")]
    gdb: bool,
    /// A case that `layers validate` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut repro = Repro::read(&arguments.file).map_err(|error| Failure::new(Exit::Usage, error))?;
    fill(&mut repro, &arguments.parameter)?;
    repro.conditions = repro.conditions.under(arguments.under);
    if arguments.gdb {
        repro.conditions = debugged(repro.conditions)?;
    }
    // The case may be played in another directory. A server without a slash is looked for on the PATH.
    let absolute = |path: &PathBuf| {
        if path.components().count() > 1 { std::path::absolute(path) } else { Ok(path.clone()) }
    };
    let server = arguments.server.as_ref().map(absolute).transpose()?;
    let server = Nbdkit::find(server.as_deref())?;
    become_subreaper()?;
    // Elsewhere, a case is played where the user is.
    if let Some(directory) = repro.directory.as_deref().filter(|directory| directory.is_dir()) {
        std::env::set_current_dir(directory)?;
    }
    let mut out = output();
    writeln!(out, "{}: {}", repro.check, visible_line(&subject::words(&repro.stack)))?;
    let leave = Leave { writes: arguments.allow_writes, programs: arguments.allow_programs };
    let Intent { repro, uses } =
        Intent::of(&repro, &server, leave).map_err(|error| Failure::new(Exit::Usage, error))?;
    uses.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    for op in &repro.script {
        writeln!(out, "  {}", visible_line(&op.to_string()))?;
    }
    out.flush()?;
    let budget = Budget {
        timeout: Duration::from_secs(arguments.timeout),
        time: repro
            .conditions
            .debugger
            .is_none_or(|one| one == Debugger::Backtrace)
            .then(|| arguments.bounds.time()),
        room: arguments.bounds.room()?,
    };
    let was = format!("when the case was written: {}", visible_line(&repro.actual));
    let exit = match replay(&repro, &server, &budget)? {
        Replayed::Broken(Wrong { expected, actual, .. }) => {
            writeln!(out, "expected: {expected}\nactual:   {actual}")?;
            Exit::Violation
        }
        Replayed::Instead(id, Wrong { expected, actual, .. }) => {
            writeln!(out, "{id} is broken instead\nexpected: {expected}\nactual:   {actual}\n{was}")?;
            Exit::Violation
        }
        Replayed::Unjudged(why) => {
            writeln!(out, "it cannot be judged: {why}\n{was}")?;
            Exit::Inconclusive
        }
        Replayed::Holds => {
            writeln!(out, "nothing is broken now; {was}")?;
            Exit::Conformant
        }
    };
    writeln!(out, "exit {}: {}", exit.code(), exit.meaning())?;
    Ok(exit)
}

/// The same conditions, but that gdb is at the server; and nothing else is.
fn debugged(conditions: Conditions) -> Result<Conditions, Failure> {
    if !Debugger::is_there() {
        return Err(ServerError::from(UnderError::NoGdb).into());
    }
    let prompt = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if prompt {
        leave_interrupts_to_others();
    }
    let debugger = Some(if prompt { Debugger::Prompt } else { Debugger::Backtrace });
    Ok(Conditions { under: None, debugger, ..conditions })
}

/// Puts the values of secrets in their places.
fn fill(repro: &mut Repro, given: &[String]) -> Result<(), Failure> {
    let given: Vec<_> = given.iter().map(|word| subject::parameter(word)).collect();
    for parameter in repro.stack.parameters.iter_mut().filter(|one| one.value == HIDDEN) {
        let key = parameter.key.clone().unwrap_or_default();
        let value = given.iter().find(|one| one.key.as_deref() == Some(&key)).map(|one| one.value.clone());
        let missing = || {
            let what =
                format!("the case leaves out the value of `{key}`: give it with --parameter {key}=VALUE");
            Failure::new(Exit::Usage, what)
        };
        parameter.value = value.ok_or_else(missing)?;
    }
    Ok(())
}
