//! `layers trace`.

mod arguments;
mod haproxy;
mod nbdkit;
mod show;

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use super::failure::Failure;
use super::output::output;
use super::reports;
use crate::campaign::select::{nearest, or_rather};
use crate::campaign::trace_room;
use crate::conform::verdict_of;
use crate::foreign::pipe::is_pipe;
use crate::outcome::Exit;
use crate::report::html::Traced;
use crate::scenario::{Player, SessionPlayer, named};
use crate::server::Installed;
use crate::server::nbdkit::ServerError;
use crate::server::process::become_subreaper;
use arguments::NO_PLUGIN;
use nbdkit::trace_stack;
use show::{in_time, said, show};

pub(super) use arguments::Arguments;

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
    if let Some(path) = arguments.save.as_deref()
        && arguments.report.iter().any(|report| report.file.as_deref() == Some(path))
    {
        let what = format!("`{}` cannot have both the trace and a report: give each its own", path.display());
        return Err(Failure::new(Exit::Usage, what));
    }
    // Whoever reads a pipe would take a first opening of it for the whole.
    if let Some(path) = arguments.save.as_deref().filter(|path| !is_pipe(path)) {
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
        None if !(arguments.configuration.is_empty() && arguments.modules.is_empty()) => Err(Failure::new(
            Exit::Usage,
            "-f and --module are for HAProxy: `layers trace haproxy -f CONFIG`",
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
    let room = arguments.bounds.room()?.map(trace_room::records);
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
    if arguments.configuration.is_empty() {
        let what = "name a configuration: `layers trace haproxy -f CONFIG -- COMMAND...`";
        return Err(Failure::new(Exit::Usage, what));
    }
    haproxy::run(&haproxy::Session {
        server: arguments.server.as_deref(),
        configuration: &arguments.configuration,
        modules: &arguments.modules,
        asked: &arguments.client,
        clients: arguments.clients,
        timeout: Duration::from_secs(arguments.timeout),
        bounds: &arguments.bounds,
        save: arguments.save.as_deref(),
        pictures: &arguments.report,
    })
}
