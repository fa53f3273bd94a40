//! `layers trace haproxy -f CONFIG -- COMMANDS AND REQUESTS`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layers_trace::Reader;
use rustix::process::Signal;

use super::super::bounds;
use super::super::failure::Failure;
use super::super::haproxy_files::{asked, configuration};
use super::super::output::complain;
use super::super::reports::{self, Report};
use super::show::{Picture, in_time, kept, not_ready, said, show_judged};
use crate::client::asked::{Asked, HttpRequest};
use crate::client::haproxy_cli::CliError;
use crate::conform::{exit_of, is_ground};
use crate::deadline::Deadline;
use crate::foreign::visible::visible;
use crate::outcome::{Exit, Verdict};
use crate::report::human::write_broken;
use crate::rules::{self, Judgement};
use crate::run::Start;
use crate::server::haproxy::{
    Configuration, Haproxy, HaproxyError, HaproxyServer, Loading, ServeHaproxy, alert, lua_error,
};
use crate::server::nbdkit::ServerError;
use crate::server::process::Woken;
use crate::server::shortage::Explained;

/// Records of a user's own run.
const CAPACITY: u64 = 1 << 20;

/// What to run.
pub(in crate::cli) struct Session<'a> {
    /// The program, if it is not the usual one.
    pub(in crate::cli) server: Option<&'a Path>,
    /// Files of the configuration; `{dir}` in them becomes a private directory, with the socket `cli` in it.
    pub(in crate::cli) configuration: &'a [PathBuf],
    /// Modules that are preloaded.
    pub(in crate::cli) modules: &'a [PathBuf],
    /// Commands and requests, each on a connection of its own.
    pub(in crate::cli) asked: &'a [String],
    /// So many clients at the same time ask all of it.
    pub(in crate::cli) clients: u32,
    /// For the whole run.
    pub(in crate::cli) timeout: Duration,
    /// What all of it may take.
    pub(in crate::cli) bounds: &'a bounds::Arguments,
    /// Keep the trace in this file.
    pub(in crate::cli) save: Option<&'a Path>,
    /// How to show it.
    pub(in crate::cli) pictures: &'a [Report<Picture>],
}

/// Runs it, prints what the server answers on standard error, shows its calls, and says what is broken.
pub(in crate::cli) fn run(session: &Session<'_>) -> Result<Exit, Failure> {
    let pictures = reports::open(session.pictures)?;
    let users = configuration(session.configuration)?;
    let asked = asked(&users, session.asked)?;
    let limit = session.bounds.limit();
    let deadline = Deadline::after(limit.of(session.timeout));
    let haproxy = Haproxy::find(session.server).map_err(ServerError::from)?;
    let serve = ServeHaproxy {
        scenario: "trace",
        configuration: "global\n",
        users: Some(&users),
        modules: session.modules,
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
    let mut hung = ask_all(session, &server, &users, &asked, deadline);
    let _ = server.signal(Signal::TERM);
    if server.wait_for_end(deadline).is_none() {
        hung = hung.or(Some(Verdict::Hang("the server does not end after SIGTERM".to_owned())));
    }
    let Some(trace) = server.trace() else { return Ok(Exit::Harness) };
    let saved = server.save_trace();
    let hung = hung.map(|verdict| in_time(verdict, limit));
    let judgement = rules::judge(&Reader::of(&trace), rules::all());
    let verdict = show_judged(pictures, &trace, &judgement, hung)?;
    write_broken(&mut anstream::stderr(), &judgement)?;
    let printed = server.printed();
    for line in printed.lines().filter_map(alert) {
        complain(format!("the server is alarmed: {}", visible(line)));
    }
    let of_lua = if printed.lines().any(|line| lua_error(line).is_some()) {
        Exit::Violation
    } else {
        Exit::Conformant
    };
    let exit = Exit::of([said(&verdict), of_rules(&judgement), of_lua]);
    kept(saved, session.save).map(|()| exit)
}

/// What the rules that are broken make of the exit code; nothing is made of rules that had nothing to say.
fn of_rules(judgement: &Judgement) -> Exit {
    match exit_of(judgement) {
        Exit::Violation if is_ground(&judgement.troubles) => Exit::Violation,
        _ => Exit::Conformant,
    }
}

/// Asks all of it, by all clients. Says what hung, if anything did.
fn ask_all(
    session: &Session<'_>,
    server: &HaproxyServer,
    users: &Configuration,
    asked: &[Asked],
    deadline: Deadline,
) -> Option<Verdict> {
    let one = |client: u32| asked.iter().find_map(|what| ask(server, users, client, what, deadline).err());
    let clients = session.clients.max(1);
    std::thread::scope(|scope| {
        let started: Vec<_> = (1..=clients).map(|client| scope.spawn(move || one(client))).collect();
        let ended: Vec<_> = started.into_iter().map(|thread| thread.join().unwrap_or(None)).collect();
        ended.into_iter().flatten().next()
    })
}

fn ask(
    server: &HaproxyServer,
    users: &Configuration,
    client: u32,
    asked: &Asked,
    deadline: Deadline,
) -> Result<(), Verdict> {
    let answer = match asked {
        Asked::Command(command) => server.ask(client, command, deadline),
        Asked::Request(request) => request_answered(server, users, client, request, deadline),
    };
    match answer {
        Ok(answer) => {
            let _ = write!(anstream::stderr(), "{}", visible(&answer));
            Ok(())
        }
        Err(CliError::Io(error)) => {
            let why = format!("`{asked}` could not be asked: {}", Explained(&error));
            Err(Verdict::Inconclusive(why))
        }
        Err(error) => Err(Verdict::Hang(format!("no answer to `{asked}`: {error}"))),
    }
}

/// The whole answer, head and body as they come.
fn request_answered(
    server: &HaproxyServer,
    users: &Configuration,
    client: u32,
    request: &HttpRequest,
    deadline: Deadline,
) -> Result<String, CliError> {
    let frontend = users.frontend(&request.frontend).ok_or(CliError::Closed)?;
    let mut client = server.connect(client, &frontend.socket, deadline)?;
    client.send(request.text(true).as_bytes())?;
    let answer = client.read_to_end()?;
    client.hang_up();
    Ok(String::from_utf8_lossy(&answer).into_owned() + "\n")
}
