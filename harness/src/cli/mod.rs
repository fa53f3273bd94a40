//! The command line: one file a verb. Each parses, calls the library, prints; nothing is decided here.

mod bounds;
mod case_dir;
mod check;
mod config;
mod conform;
mod failure;
mod generate;
mod haproxy_files;
mod output;
mod place;
mod progress;
mod relay;
mod reports;
mod repro;
mod rules;
mod sets;
mod settings;
mod snapshot;
mod snapshot_haproxy;
mod stack_args;
mod trace;
mod validate;
mod validate_haproxy;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::outcome::Exit;
use crate::server::descent;
use crate::server::descent::kill_what_is_left;
use crate::server::guard::Guard;
use crate::server::interrupt;
use crate::server::process::hear_of_children;
use failure::Failure;
use output::{complain, of_output};

/// Reads the text of a layers.toml, for the fuzzer.
#[cfg(feature = "fuzzing")]
pub fn read_settings(text: &str) {
    let _ = config::Config::parse(text, std::path::Path::new("layers.toml"));
}

/// Test and conformance harness for servers that load other people's callbacks.
#[derive(Debug, Parser)]
#[command(name = "layers", version, about, after_help = exit_codes(), max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Judge somebody's plugin and filters
    Validate(Box<validate::Arguments>),
    /// Judge a server with the reference layers
    Conform(conform::Arguments),
    /// Record one run and print its tree of calls
    Trace(trace::Arguments),
    /// Judge every server that a command starts
    Watch(watch::Arguments),
    /// Judge recorded traces
    Check(check::Arguments),
    /// Compare the calls of a stack with stored ones
    Snapshot(Box<snapshot::Arguments>),
    /// Replay one case that was written to a file
    Repro(repro::Arguments),
    /// List the rules, or explain some
    Rules(rules::Arguments),
    /// Print a shell's completions of this command
    Completions(generate::Completions),
    /// Write the manual pages of this command
    Man(generate::Man),
}

impl Verb {
    /// Returns true for what runs servers, and so has something to clean up after.
    fn starts_servers(&self) -> bool {
        match self {
            Verb::Validate(_)
            | Verb::Conform(_)
            | Verb::Trace(_)
            | Verb::Snapshot(_)
            | Verb::Repro(_)
            | Verb::Watch(_) => true,
            Verb::Check(_) | Verb::Rules(_) | Verb::Completions(_) | Verb::Man(_) => false,
        }
    }
}

fn exit_codes() -> String {
    let lines = Exit::ALL.iter().map(|exit| format!("  {exit}\n")).collect::<String>();
    format!("Exit codes:\n{lines}\n{}", Exit::precedence())
}

/// Bytes of stack without which this process cannot do its work, and those that processes usually may have.
const LEAST_STACK: u64 = 2 << 20;
const USUAL_STACK: u64 = 8 << 20;

/// Takes as much stack as this process may have, where it begins with very little; else says how much that is.
fn enough_stack() -> Result<(), u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Stack);
    let Some(bytes) = current.filter(|bytes| *bytes < LEAST_STACK) else { return Ok(()) };
    let most = maximum.unwrap_or(USUAL_STACK).min(USUAL_STACK);
    if most < LEAST_STACK || setrlimit(Resource::Stack, Rlimit { current: Some(most), maximum }).is_err() {
        return Err(bytes.max(most));
    }
    Ok(())
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    // What needs much stack comes in a function of its own.
    match enough_stack() {
        Ok(()) => all(),
        Err(bytes) => {
            let (has, needs) = (bytes >> 10, LEAST_STACK >> 10);
            complain(format!("the stack may have {has} KiB, and {needs} are needed: raise it (`ulimit -s`)"));
            ExitCode::from(Exit::Harness.code())
        }
    }
}

#[inline(never)]
fn all() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is a usage error.
            let answered = error.print();
            let exit = match (error.use_stderr(), answered) {
                (true, _) => Exit::Usage,
                (false, Ok(())) => Exit::Conformant,
                (false, Err(error)) => {
                    complain(of_output(error));
                    Exit::Harness
                }
            };
            return ExitCode::from(exit.code());
        }
    };
    hear_of_children();
    descent::only_runs_are_started();
    let guard = cli.verb.starts_servers().then(Guard::post);
    interrupt::clean_up_on_signals();
    let outcome = match cli.verb {
        Verb::Validate(arguments) => validate::run(&arguments),
        Verb::Snapshot(arguments) => snapshot::run(&arguments),
        Verb::Repro(arguments) => repro::run(&arguments),
        Verb::Conform(arguments) => conform::run(&arguments),
        Verb::Trace(arguments) => trace::run(&arguments),
        // It ends as its command has, where nothing was found.
        Verb::Watch(arguments) => return ended(guard, watch::run(&arguments)),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Rules(arguments) => rules::run(&arguments),
        Verb::Completions(arguments) => generate::completions(&arguments, Cli::command()),
        Verb::Man(arguments) => generate::man(&arguments, Cli::command()),
    };
    ended(guard, outcome.map(Exit::code))
}

/// Leaves nothing behind, and says how this process ends.
fn ended(guard: Option<Guard>, outcome: Result<u8, Failure>) -> ExitCode {
    if let Some(guard) = guard {
        kill_what_is_left();
        guard.dismiss();
    }
    match outcome {
        Ok(code) => ExitCode::from(code),
        // `layers ... | head`: whoever read the output has seen enough.
        Err(failure) if failure.broken_pipe && interrupt::output_is_unread() => interrupt::end_unread(),
        Err(failure) => {
            complain(&failure.message);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The command as clap knows it, for completions and manual pages.
pub fn command() -> clap::Command {
    Cli::command()
}
