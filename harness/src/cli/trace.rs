//! `layers trace`.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use layers_trace::{Reader, Writer};

use super::reports::{self, Opened, Report};
use super::words::Words;
use super::{Failure, trace_haproxy};
use crate::conform::{verdict_of, verdict_of_troubles};
use crate::deadline::Deadline;
use crate::report::html::{self, Traced};
use crate::report::perfetto;
use crate::report::tree::tree;
use crate::rules;
use crate::run::Start;
use crate::scenario::{Player, SessionPlayer, named};
use crate::server::Installed;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server, ServerError};
use crate::server::process::{Woken, become_subreaper};
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
    /// HAProxy's configuration; `{dir}` in it becomes a private directory
    #[arg(short = 'f', value_name = "CONFIG")]
    configuration: Option<PathBuf>,
    #[command(flatten)]
    words: Words,
    /// A program that drives nbdkit (`{uri}` in it becomes the address), or commands for HAProxy
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

/// Shows a run in all these ways.
pub(super) fn show(pictures: Vec<Opened<Picture>>, run: &Traced<'_>) -> std::io::Result<()> {
    for (picture, mut to) in pictures {
        match picture {
            Picture::Tree => write!(to, "{}", tree(run.events))?,
            Picture::Perfetto => perfetto::write(&mut to, run.events)?,
            Picture::Html => html::write(&mut to, &[*run], None)?,
        }
    }
    Ok(())
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    if arguments.list {
        let mut out = anstream::stdout().lock();
        for scenario in named::all() {
            writeln!(out, "{:<36} {}", scenario.name, scenario.about)?;
        }
        return Ok(Exit::Conformant);
    }
    if arguments.scenario.is_none() && arguments.words.plugin.is_empty() {
        return Err(Failure::new(Exit::Usage, NO_PLUGIN));
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
        Failure::new(
            Exit::Usage,
            format!("there is no scenario `{name}`: `layers trace --list` lists them all"),
        )
    })?;
    let pictures = reports::open(&arguments.report)?;
    let (keep, timeout) = (arguments.save.as_deref(), Duration::from_secs(arguments.timeout));
    let server = Installed::find(scenario.server(), arguments.server.as_deref())?;
    if let Some(why) = scenario.unplayable(&server) {
        return Err(Failure::new(Exit::NothingJudged, format!("`{name}` is not judged: {why}")));
    }
    let recording = match server {
        Installed::Nbdkit(server) => {
            Player { keep_events: true, keep, timeout, ..Player::new(&server) }.play(&scenario)?
        }
        Installed::Haproxy(server) => {
            let player = SessionPlayer { keep_events: true, keep, timeout, ..SessionPlayer::new(&server) };
            player.play(&scenario).map_err(ServerError::from)?
        }
    };
    let verdict = verdict_of(&recording, &scenario);
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
        save: arguments.save.as_deref(),
        pictures: &arguments.report,
    })
}

/// Says what went astray, if anything did, and gives the exit code for it.
pub(super) fn said(verdict: &Verdict) -> Exit {
    if let Some(reason) = verdict.reason() {
        anstream::eprintln!("layers: {}: {reason}", verdict.word());
    }
    verdict.exit()
}

fn trace_stack(arguments: &Arguments) -> Result<Exit, Failure> {
    let pictures = reports::open(&arguments.report)?;
    let nbdkit = Nbdkit::find(arguments.server.as_deref())?;
    let stack = arguments.words.stack(NO_PLUGIN)?;
    let deadline = Deadline::after(Duration::from_secs(arguments.timeout));
    let run = nbdkit.describe("trace", &stack, Start::Foreground, false);
    let serve = Serve {
        stack: &stack,
        run,
        capacity: CAPACITY,
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
        Woken::Late => return Err(Failure::new(Exit::Violation, "the server hangs: it does not get ready")),
    }
    let hung = drive(arguments, &mut server, deadline, Duration::from_secs(arguments.timeout))?;
    let Some(trace) = server.trace() else { return Ok(said(&hung.unwrap_or(Verdict::Pass))) };
    server.save_trace()?;
    let verdict = show_trace(pictures, &trace, hung)?;
    Ok(said(&verdict))
}

/// Shows what is in a trace, and says what became of the server: what hung, if anything did, or what the trace tells.
pub(super) fn show_trace(
    pictures: Vec<Opened<Picture>>,
    trace: &Arc<Writer>,
    hung: Option<Verdict>,
) -> std::io::Result<Verdict> {
    let reader = Reader::of(trace);
    // The rules are asked only where what they say is shown.
    let judged = pictures.iter().any(|(picture, _)| *picture == Picture::Html);
    let judgement = rules::judge(&reader, rules::all().filter(|_| judged));
    let events = reader.events().flatten().collect();
    let verdict = hung.or_else(|| verdict_of_troubles(&judgement.troubles)).unwrap_or(Verdict::Pass);
    show(pictures, &Traced { name: "trace", judgement: &judgement, events: &events, verdict: &verdict })?;
    Ok(verdict)
}

/// Runs the client, waits for the closes, stops the server. Says what hung, if anything did.
///
/// However long the client takes, the server then has `own` time to close handles and to end in.
fn drive(
    arguments: &Arguments,
    server: &mut Server,
    deadline: Deadline,
    own: Duration,
) -> Result<Option<Verdict>, Failure> {
    let mut slow = None;
    if let Some((program, rest)) = arguments.client.split_first()
        && !run_client(program, rest, server, deadline)?
    {
        let how = format!("the client `{program}` did not end within {} s, and was killed", own.as_secs());
        slow = Some(Verdict::Inconclusive(how));
    }
    let deadline = Deadline::after(own);
    if server.wait_until(deadline, |seen| seen.open() == 0) == Woken::Late {
        return Ok(Some(Verdict::Hang("handles stay open after the client has ended".to_owned())));
    }
    // It may have died of what the client did: the trace says so.
    if server.process.end().is_none() {
        let _ = server.signal(rustix::process::Signal::TERM);
    }
    let late = server.wait_for_end(Deadline::after(own)).is_none();
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
        Some(status) => anstream::eprintln!("layers: the client `{program}` ended with {status}"),
        None => return Ok(false),
    }
    Ok(true)
}
