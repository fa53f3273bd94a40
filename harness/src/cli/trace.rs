//! `layers trace`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use layers_trace::{Reader, Writer};

use super::reports::{self, Opened, Report, Streams};
use super::words::Words;
use super::{Failure, bounds, complain, output, trace_haproxy};
use crate::conform::{is_cut, verdict_of, verdict_of_troubles};
use crate::deadline::Deadline;
use crate::halt::Limit;
use crate::report::html::{self, Traced};
use crate::report::perfetto;
use crate::room;
use crate::rules;
use crate::run::Start;
use crate::scenario::{Player, SessionPlayer, named};
use crate::select::{nearest, or_rather};
use crate::server::Installed;
use crate::server::interrupt;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server, ServerError};
use crate::server::process::{Woken, become_subreaper};
use crate::tree::tree;
use crate::verdict::{Exit, Verdict};

/// Records of a user's own run: 256 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 22;

const NO_PLUGIN: &str = "name a plugin, or a scenario with --scenario (`layers trace --list` lists them)";

#[derive(Debug, Args)]
#[command(
    override_usage = "layers trace [OPTIONS] [nbdkit] [--filter=FILTER]... PLUGIN [KEY=VALUE]... [-- CLIENT COMMAND]\n       \
    layers trace [OPTIONS] haproxy -f CONFIG [-- COMMAND...]\n       layers trace [OPTIONS] --scenario NAME\n       layers trace --list"
)]
pub(super) struct Arguments {
    /// A named scenario with the reference layers, instead of layers of your own
    #[arg(long, value_name = "NAME", conflicts_with_all = ["filters", "plugin", "client"])]
    scenario: Option<String>,
    /// List the named scenarios
    #[arg(long, exclusive = true)]
    list: bool,
    /// The server program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// How to show it, and in which file if not on standard output; may be repeated [default: tree] [formats: tree, perfetto, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    report: Vec<Report<Picture>>,
    /// Keep the trace in this file, for `layers check`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Seconds that the whole run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    #[command(flatten)]
    bounds: bounds::Arguments,
    /// HAProxy's configuration; `{dir}` in it becomes a private directory
    #[arg(short = 'f', value_name = "CONFIG")]
    configuration: Option<PathBuf>,
    #[command(flatten)]
    words: Words,
    /// A program that drives nbdkit (`{uri}` in it becomes the address), or commands for HAProxy; what the program prints
    /// passes as it comes, to standard error
    #[arg(last = true, value_name = "CLIENT COMMAND")]
    client: Vec<String>,
}

/// What is shown of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Picture {
    /// The calls as a tree
    Tree,
    /// A trace for ui.perfetto.dev
    Perfetto,
    /// One page with a picture of the calls, and what the rules say of them
    Html,
}

impl Streams for Picture {}

/// Shows a run in all these ways; those that can be written are, whatever becomes of the others.
pub(super) fn show(pictures: Vec<Opened<Picture>>, run: &Traced<'_>) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for (picture, mut to, mut place) in pictures {
        let written = match picture {
            Picture::Tree => write!(to, "{}", tree(run.events)),
            Picture::Perfetto => perfetto::write(&mut to, run.events),
            Picture::Html => html::write(&mut to, &[*run], None),
        };
        let written = written.and_then(|()| to.flush()).map_err(|error| place.failure(error));
        let placed = written.and_then(|()| place.finish());
        outcome = outcome.and(placed.map_err(|error| reports::unwritten(&error)));
    }
    outcome
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.list {
        let mut out = output();
        for scenario in named::all() {
            writeln!(out, "{:<36} {}", scenario.name, scenario.about)?;
        }
        return Ok(Exit::Conformant);
    }
    if arguments.scenario.is_none() && arguments.words.plugin.is_empty() {
        return Err(Failure::new(Exit::Usage, NO_PLUGIN));
    }
    if let Some(path) = &arguments.save {
        let opened = File::options().create(true).append(true).open(path);
        opened.map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot keep the trace in `{}`: {error}", path.display()))
        })?;
    }
    become_subreaper()?;
    match &arguments.scenario {
        Some(name) => trace_scenario(arguments, name),
        None if arguments.words.plugin.first().is_some_and(|word| word == "haproxy") => {
            trace_session(arguments)
        }
        None if arguments.configuration.is_some() => Err(Failure::new(
            Exit::Usage,
            "-f names a configuration of HAProxy: `layers trace haproxy -f CONFIG`",
        )),
        None => trace_stack(arguments),
    }
}

fn trace_scenario(arguments: &Arguments, name: &str) -> Result<Exit, Failure> {
    let scenario = named::find(name).ok_or_else(|| {
        let all = named::all();
        let near = or_rather(nearest(name, all.iter().map(|scenario| scenario.name.as_str())));
        let text = format!("there is no scenario `{name}`{near}: `layers trace --list` lists them all");
        Failure::new(Exit::Usage, text)
    })?;
    let pictures = reports::open(&arguments.report)?;
    let (keep, limit) = (arguments.save.as_deref(), arguments.bounds.limit());
    let timeout = limit.of(Duration::from_secs(arguments.timeout));
    let room = arguments.bounds.room()?.map(room::records);
    let server = Installed::find(scenario.server(), arguments.server.as_deref())?;
    if let Some(why) = scenario.unplayable(&server) {
        return Err(Failure::new(Exit::NothingJudged, format!("`{name}` is not judged: {why}")));
    }
    let recording = match server {
        Installed::Nbdkit(server) => {
            Player { keep_events: true, keep, timeout, room, ..Player::new(&server) }.play(&scenario)?
        }
        Installed::Haproxy(server) => {
            let player =
                SessionPlayer { keep_events: true, keep, timeout, room, ..SessionPlayer::new(&server) };
            player.play(&scenario).map_err(ServerError::from)?
        }
    };
    let verdict = in_time(verdict_of(&recording, &scenario), limit);
    let (judgement, events) = (&recording.judgement, recording.events.into());
    show(pictures, &Traced { name, judgement, events: &events, verdict: &verdict })?;
    Ok(said(&verdict))
}

fn trace_session(arguments: &Arguments) -> Result<Exit, Failure> {
    let configuration = arguments.configuration.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "name a configuration: `layers trace haproxy -f CONFIG -- COMMAND...`")
    })?;
    trace_haproxy::run(&trace_haproxy::Session {
        server: arguments.server.as_deref(),
        configuration,
        commands: &arguments.client,
        timeout: Duration::from_secs(arguments.timeout),
        bounds: &arguments.bounds,
        save: arguments.save.as_deref(),
        pictures: &arguments.report,
    })
}

/// What the run is said to be, if it had all its time: of what has not come about by the end of that nothing is known.
pub(super) fn in_time(verdict: Verdict, limit: Limit) -> Verdict {
    match (&verdict, limit.reached()) {
        (Verdict::Hang(_) | Verdict::Inconclusive(_), Some(halt)) => Verdict::Inconclusive(halt.reason()),
        _ => verdict,
    }
}

/// Says what went astray, if anything did, and gives the exit code for it.
pub(super) fn said(verdict: &Verdict) -> Exit {
    interrupt::wait_for_the_end();
    if let Some(reason) = verdict.reason() {
        complain(format!("{}: {reason}", verdict.word()));
    }
    verdict.exit()
}

fn trace_stack(arguments: &Arguments) -> Result<Exit, Failure> {
    let pictures = reports::open(&arguments.report)?;
    let nbdkit = Nbdkit::find(arguments.server.as_deref())?;
    let stack = arguments.words.stack(NO_PLUGIN)?;
    let limit = arguments.bounds.limit();
    let deadline = Deadline::after(limit.of(Duration::from_secs(arguments.timeout)));
    let run = nbdkit.describe("trace", &stack, Start::Foreground, false);
    let serve = Serve {
        stack: &stack,
        run,
        capacity: arguments.bounds.records(CAPACITY)?,
        keep: arguments.save.as_deref(),
        cpu: None,
        command: None,
        conditions: Conditions::default(),
    };
    let mut server = nbdkit.start(&serve)?;
    match server.wait_ready(deadline) {
        Woken::Happened => {}
        Woken::Dead => {
            let complaint = server.complaint();
            return Err(Failure::new(Exit::Unloadable, format!("the server did not start: {complaint}")));
        }
        Woken::Late => return not_ready(limit),
    }
    let hung = drive(arguments, &mut server, deadline, limit)?.map(|verdict| in_time(verdict, limit));
    let Some(trace) = server.trace() else { return Ok(said(&hung.unwrap_or(Verdict::Pass))) };
    let saved = server.save_trace();
    let exit = said(&show_trace(pictures, &trace, hung)?);
    kept(saved, arguments.save.as_deref()).map(|()| exit)
}

/// Says where the trace could not be kept, if it could not: what it shows is shown by then.
pub(super) fn kept(saved: io::Result<()>, path: Option<&Path>) -> Result<(), Failure> {
    saved.map_err(|error| {
        let shown = path.unwrap_or(Path::new("")).display();
        Failure::new(Exit::Harness, format!("cannot keep the trace in `{shown}`: {error}"))
    })
}

/// Ends a run in which the server does not get ready.
pub(super) fn not_ready(limit: Limit) -> Result<Exit, Failure> {
    let hang = Verdict::Hang("the server does not get ready".to_owned());
    Ok(said(&in_time(hang, limit)))
}

/// Shows what is in a trace, and says what became of the server: what hung, if anything did, or what the trace tells.
pub(super) fn show_trace(
    pictures: Vec<Opened<Picture>>,
    trace: &Arc<Writer>,
    hung: Option<Verdict>,
) -> Result<Verdict, Failure> {
    let reader = Reader::of(trace);
    // The rules are asked only where what they say is shown.
    let judged = pictures.iter().any(|(picture, ..)| *picture == Picture::Html);
    let judgement = rules::judge(&reader, rules::all().filter(|_| judged));
    let events = reader.events().flatten().collect();
    // What has not come about behind the last record of a full trace is not known.
    let hung = hung.filter(|hung| !(matches!(hung, Verdict::Hang(_)) && is_cut(&judgement.troubles)));
    let verdict = hung.or_else(|| verdict_of_troubles(&judgement.troubles)).unwrap_or(Verdict::Pass);
    show(pictures, &Traced { name: "trace", judgement: &judgement, events: &events, verdict: &verdict })?;
    Ok(verdict)
}

/// Runs the client, waits for the closes, stops the server. Says what hung, if anything did.
///
/// However long the client takes, the server then has time of its own to close handles and to end in.
fn drive(
    arguments: &Arguments,
    server: &mut Server,
    deadline: Deadline,
    limit: Limit,
) -> Result<Option<Verdict>, Failure> {
    let (mut slow, own) = (None, Duration::from_secs(arguments.timeout));
    if let Some((program, rest)) = arguments.client.split_first()
        && !run_client(program, rest, server, deadline)?
    {
        let how = format!("the client `{program}` did not end within {} s, and was killed", own.as_secs());
        slow = Some(Verdict::Inconclusive(how));
    }
    let deadline = Deadline::after(limit.of(own));
    if server.wait_until(deadline, |seen| seen.open() == 0) == Woken::Late {
        return Ok(Some(Verdict::Hang("handles stay open after the client has ended".to_owned())));
    }
    // It may have died of what the client did: the trace says so.
    if server.process.end().is_none() {
        let _ = server.signal(rustix::process::Signal::TERM);
    }
    let late = server.wait_for_end(Deadline::after(limit.of(own))).is_none();
    Ok(late.then(|| Verdict::Hang("the server does not end after SIGTERM".to_owned())).or(slow))
}

/// The path as it stands in the query of a URI (RFC 3986, 2.1).
fn escaped(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    let bytes = path.as_os_str().as_bytes().iter();
    bytes
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Runs the client until it ends; false when it had to be killed.
fn run_client(program: &str, rest: &[String], server: &Server, deadline: Deadline) -> Result<bool, Failure> {
    let socket = server.socket().unwrap_or(Path::new(""));
    let uri = format!("nbd+unix:///?socket={}", escaped(socket));
    let filled = rest.iter().map(|word| word.replace("{uri}", &uri));
    let mut client = Command::new(program.replace("{uri}", &uri));
    client.args(filled);
    let ended = server
        .run_client(client, deadline)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot run the client `{program}`: {error}")))?;
    match ended {
        Some(status) if status.success() => {}
        Some(status) => complain(format!("the client `{program}` ended with {status}")),
        None => return Ok(false),
    }
    Ok(true)
}
