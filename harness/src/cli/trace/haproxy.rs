//! `layers trace haproxy -f CONFIG -- COMMANDS`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::super::bounds;
use super::super::failure::Failure;
use super::super::reports::{self, Report};
use super::show::{Picture, in_time, kept, not_ready, said, show_trace};
use crate::client::haproxy_cli::CliError;
use crate::deadline::Deadline;
use crate::foreign::bounded;
use crate::foreign::visible::visible;
use crate::outcome::{Exit, Verdict};
use crate::run::Start;
use crate::server::haproxy::{Haproxy, HaproxyError, Loading, ServeHaproxy};
use crate::server::nbdkit::ServerError;
use crate::server::process::Woken;
use crate::server::shortage::Explained;

/// Records of a user's own run.
const CAPACITY: u64 = 1 << 20;

/// What to run.
pub(super) struct Session<'a> {
    /// The program, if it is not the usual one.
    pub(super) server: Option<&'a Path>,
    /// File of the configuration; `{dir}` in it becomes a private directory, with the socket `cli` in it.
    pub(super) configuration: &'a Path,
    /// Commands, each on a connection of its own.
    pub(super) commands: &'a [String],
    /// For the whole run.
    pub(super) timeout: Duration,
    /// What all of it may take.
    pub(super) bounds: &'a bounds::Arguments,
    /// Keep the trace in this file.
    pub(super) save: Option<&'a Path>,
    /// How to show it.
    pub(super) pictures: &'a [Report<Picture>],
}

/// Runs it, prints what the server answers on standard error, and shows its calls.
pub(super) fn run(session: &Session<'_>) -> Result<Exit, Failure> {
    let pictures = reports::open(session.pictures)?;
    let shown = session.configuration.display();
    let configuration = bounded::text(session.configuration).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the configuration `{shown}`: {error}"))
    })?;
    let configuration = with_command_line(&configuration);
    let limit = session.bounds.limit();
    let deadline = Deadline::after(limit.of(session.timeout));
    let haproxy = Haproxy::find(session.server).map_err(ServerError::from)?;
    let serve = ServeHaproxy {
        scenario: "trace",
        configuration: &configuration,
        arguments: &[],
        start: Start::Foreground,
        load: Loading::Preload,
        capacity: session.bounds.records(CAPACITY)?,
        keep: session.save,
    };
    let mut server = haproxy.start(&serve).map_err(|error: HaproxyError| ServerError::from(error))?;
    match server.wait_ready(deadline) {
        Woken::Happened => {}
        Woken::Dead => {
            let complaint = server.complaint();
            return Err(Failure::new(Exit::Usage, format!("the server did not start: {complaint}")));
        }
        Woken::Late => return not_ready(limit),
    }
    let mut hung = None;
    for (number, command) in (1..).zip(session.commands) {
        match server.ask(number, command, deadline) {
            Ok(answer) => {
                let _ = write!(anstream::stderr(), "{}", visible(&answer));
            }
            Err(CliError::Io(error)) => {
                let why = format!("`{command}` could not be asked: {}", Explained(&error));
                hung = Some(Verdict::Inconclusive(why));
                break;
            }
            Err(error) => {
                hung = Some(Verdict::Hang(format!("no answer to `{command}`: {error}")));
                break;
            }
        }
    }
    let _ = server.signal(Signal::TERM);
    if server.wait_for_end(deadline).is_none() {
        hung = hung.or(Some(Verdict::Hang("the server does not end after SIGTERM".to_owned())));
    }
    let Some(trace) = server.trace() else { return Ok(Exit::Harness) };
    let saved = server.save_trace();
    let hung = hung.map(|verdict| in_time(verdict, limit));
    let exit = said(&show_trace(pictures, &trace, hung)?);
    kept(saved, session.save).map(|()| exit)
}

/// A configuration need not have the command line that the harness asks.
fn with_command_line(text: &str) -> String {
    match text.contains("{dir}/cli") {
        true => text.to_owned(),
        false => format!("global\n    stats socket {{dir}}/cli level admin mode 600\n\n{text}"),
    }
}
