//! HAProxy: finding it, and running it with the instrument.

pub(crate) mod asking;
mod configuration;
mod load;
mod master;
mod progress;
pub(crate) mod rounds;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use layers_behaviour::RUN_VARIABLE;
use layers_trace::{TRACE_VARIABLE, Writer};
use rustix::process::{Pid, Signal, kill_process};

use super::descent::{self, kill_escaped};
use super::directory::{Names, RunDirectory};
use super::process::{Launch, Process, Woken};
use super::shortage::Explained;
use super::tracing::Tracing;
use super::{instruments, interrupt};
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::history::End;
use crate::run::{Run, Start};
use crate::version::Version;

pub use configuration::{Configuration, Frontend, UsedService};
pub use load::Loading;
pub use master::reloads;
pub use progress::Progress;

/// In the directory of a run: the command line of the server, or of its workers; full rights.
const CLI: &str = "cli";
/// The configuration.
const CONFIGURATION: &str = "haproxy.cfg";
/// The command line of the master process.
const MASTER: &str = "master";
/// Files of patterns that the configurations name, and how much is in them beside the entry `one`.
const ACL: &str = "acl";
const MAP: &str = "map";
const ENTRIES: usize = 1000;
/// What a server behind the server answers, in words of 22 bytes.
const PAGE: &str = "page";
const PAGE_LINES: usize = 600;
/// Scripts in Lua: commands of the harness's own, and what tells of each function that other scripts register.
const COLLECT: &str = "collect.lua";
const COLLECTS: &str = include_str!("collect.lua");
const TELLING: &str = "telling.lua";
const TELLS: &str = include_str!("telling.lua");
/// Where Debian installs it.
pub const DEBIANS: &str = "/usr/sbin/haproxy";
/// The first command of each run is a client of this number.
const FIRST_CLIENT: u32 = 0;

/// So often it is tried, and each time it may take this long.
const MOST_FIRSTS: u32 = 20;
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// An installed HAProxy.
#[derive(Clone, Debug)]
pub struct Haproxy {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum HaproxyError {
    /// No such program.
    #[error(
        "cannot find the server `{0}`: install the Debian package haproxy, or name another with --server PATH"
    )]
    Missing(String),
    /// It does not run.
    #[error("cannot run the server `{path}`: {}", Explained(source))]
    CannotRun {
        /// The program.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It runs, and is something else.
    #[error(
        "`{0}` is not HAProxy: its `-v` does not say which version it is; name the program with --server PATH"
    )]
    NotHaproxy(String),
    /// Something on the harness's side.
    #[error("cannot prepare the run: {}", Explained(.0))]
    Harness(#[from] io::Error),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ServeHaproxy<'a> {
    /// Name of the scenario.
    pub scenario: &'a str,
    /// Text of the configuration; `{dir}` in it becomes the directory of the run.
    pub configuration: &'a str,
    /// The configuration of a user, behind that text.
    pub users: Option<&'a Configuration>,
    /// Modules of a user that are preloaded.
    pub modules: &'a [PathBuf],
    /// Options of the server, beyond its configuration.
    pub arguments: &'a [&'a str],
    /// How it is started: in the foreground, or as master and workers.
    pub start: Start,
    /// How the instrument gets into it.
    pub load: Loading,
    /// Records that the trace can hold.
    pub capacity: u64,
    /// File for the trace; memory without.
    pub keep: Option<&'a Path>,
}

/// The version that the first line of `haproxy -v` tells.
pub(crate) fn version_of(output: &str) -> Option<Version> {
    let line = output.lines().next()?.to_lowercase();
    line.split_once("version ")?.1.split(' ').next()?.parse().ok()
}

impl Haproxy {
    /// Asks the server at `path`, or the `haproxy` on the PATH, which one it is.
    pub fn find(path: Option<&Path>) -> Result<Haproxy, HaproxyError> {
        let path = path.map_or_else(on_path, Path::to_owned);
        let shown = path.display().to_string();
        let run_id = descent::new_run_id();
        let launch = Launch { arguments: vec!["-v".into()], ..Launch::of(&path, run_id) };
        let mut process = Process::start(launch).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HaproxyError::Missing(shown.clone()),
            _ => HaproxyError::CannotRun { path: shown.clone(), source },
        })?;
        let end = process.wait_for_end(Deadline::after(Duration::from_secs(10)));
        let output = process.stdout();
        match version_of(&output).filter(|_| end == Some(End::Exited(0))) {
            Some(version) => Ok(Haproxy { path, version }),
            None => Err(HaproxyError::NotHaproxy(shown)),
        }
    }

    /// What the first event of a trace says.
    fn describe(&self, serve: &ServeHaproxy<'_>) -> Run {
        Run {
            server: "haproxy".to_owned(),
            version: self.version,
            scenario: serve.scenario.to_owned(),
            start: serve.start,
            client_log: true,
            ..Run::default()
        }
    }

    /// Starts a server. It may not be ready yet: see [`HaproxyServer::wait_ready`].
    pub fn start(&self, serve: &ServeHaproxy<'_>) -> Result<HaproxyServer, HaproxyError> {
        let run_id = descent::new_run_id();
        let tracing = Tracing::begin(&self.describe(serve), run_id, serve.capacity, serve.keep)?;
        let directory = interrupt::directory(run_id, Names::Words)?;
        let folder = directory.path();
        let configuration = load::configuration(serve.configuration, serve.load, folder)?;
        std::fs::write(folder.join(CONFIGURATION), configuration)?;
        for (name, entry) in [(ACL, "one"), (MAP, "one value")] {
            let more: String = (0..ENTRIES).map(|number| format!("key{number} value{number}\n")).collect();
            std::fs::write(folder.join(name), format!("{entry}\n{more}"))?;
        }
        for name in numbered(serve.configuration) {
            std::fs::write(folder.join(name), "one value\nother value\n")?;
        }
        std::fs::write(folder.join(COLLECT), COLLECTS)?;
        std::fs::write(folder.join(TELLING), TELLS)?;
        std::fs::write(folder.join(PAGE), "All work and no play. ".repeat(PAGE_LINES))?;
        let mut environment: Vec<(String, OsString)> = vec![
            (TRACE_VARIABLE.into(), instruments::lasting_path(tracing.file()?)),
            (RUN_VARIABLE.into(), format!("{run_id:x}").into()),
        ];
        if serve.users.is_some() {
            // What is in use is told of one arena alone.
            environment.push(("MALLOC_ARENA_MAX".into(), "1".into()));
        }
        let modules = serve.modules.iter().map(File::open).collect::<io::Result<Vec<File>>>()?;
        environment.extend(load::environment(serve.load, &modules)?);
        let mut arguments: Vec<OsString> = vec!["-f".into(), folder.join(CONFIGURATION).into()];
        let mut names = vec![(folder.join(CONFIGURATION).display().to_string(), CONFIGURATION.to_owned())];
        for (number, (name, text)) in serve.users.iter().flat_map(|users| &users.files).enumerate() {
            let file = folder.join(format!("{number}.cfg"));
            std::fs::write(&file, load::configuration(text, Loading::Preload, folder)?)?;
            names.push((file.display().to_string(), name.clone()));
            arguments.extend(["-f".into(), file.into()]);
        }
        match serve.start {
            Start::MasterWorker => {
                arguments.extend(["-W".into(), "-S".into(), folder.join(MASTER).into()]);
            }
            _ => arguments.push("-db".into()),
        }
        arguments.extend(serve.arguments.iter().map(OsString::from));
        let launch = Launch { arguments, environment, ..Launch::of(&self.path, run_id) };
        let process = Process::start(launch)
            .map_err(|source| HaproxyError::CannotRun { path: self.path.display().to_string(), source })?;
        interrupt::began(run_id, process.group());
        let (directory, progress) = (Some(directory), Progress::default());
        Ok(HaproxyServer { process, run_id, directory, progress, names, _modules: modules, tracing })
    }
}

/// Files of patterns with a number behind their name that a configuration names.
fn numbered(configuration: &str) -> BTreeSet<&str> {
    let names = configuration.split(load::DIRECTORY_MARK).filter_map(|rest| rest.strip_prefix('/'));
    let names = names.filter_map(|rest| rest.split(|letter: char| !letter.is_ascii_alphanumeric()).next());
    let is_numbered = |name: &&str| {
        let number = [ACL, MAP].iter().find_map(|kind| name.strip_prefix(kind));
        number.is_some_and(|number| number.parse::<u16>().is_ok())
    };
    names.filter(is_numbered).collect()
}

/// What a line of level ALERT says, without its time and its process.
pub fn alert(line: &str) -> Option<&str> {
    let (_, said) = line.split_once("[ALERT]")?;
    Some(said.split_once(") : ").map_or(said, |(_, said)| said).trim())
}

/// What a line says of an error in a function in Lua.
pub fn lua_error(line: &str) -> Option<&str> {
    alert(line).filter(|said| said.starts_with("Lua "))
}

/// Every thread of the process waits for something.
fn all_sleep(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
    })
}

/// Debian installs it where the PATH of users does not lead.
fn on_path() -> PathBuf {
    let usual = PathBuf::from(DEBIANS);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).map(|folder| folder.join("haproxy")).find(|file| file.exists());
    named.unwrap_or(usual)
}

/// A running HAProxy.
#[derive(Debug)]
pub struct HaproxyServer {
    /// The process; with workers, the master.
    pub process: Process,
    run_id: u64,
    directory: Option<RunDirectory>,
    progress: Progress,
    /// The files of the configuration, each with the name that it has for its user.
    names: Vec<(String, String)>,
    /// Open, for whatever process of the server's loads them.
    _modules: Vec<File>,
    /// Last, so that everything else is gone when it is given back.
    tracing: Tracing,
}

impl HaproxyServer {
    /// The trace, for clients to write to.
    pub fn trace(&self) -> Option<Arc<Writer>> {
        self.tracing.writer().map(Arc::clone)
    }

    /// Takes in what the trace shows since the last look.
    pub fn look(&mut self) {
        if let Some(trace) = self.tracing.writer() {
            self.progress.look(trace);
        }
    }

    /// What it showed then.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits for something that the trace shows. A trace that is full shows nothing more: then it waits no longer.
    pub fn wait_until(&mut self, deadline: Deadline, mut happened: impl FnMut(&Progress) -> bool) -> Woken {
        let Some(trace) = self.tracing.writer() else { return Woken::Dead };
        let (progress, process) = (&mut self.progress, &mut self.process);
        process.wait_until(deadline, || {
            progress.look(trace);
            happened(progress) || trace.is_full()
        })
    }

    /// A file in the directory of the run: `cli`, `operator`, `user`, `http` or `master` are sockets.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.as_ref().map_or_else(PathBuf::new, |directory| directory.path().join(name))
    }

    /// Connects to one of its sockets.
    pub fn connect(&self, number: u32, socket: &str, deadline: Deadline) -> Result<CliClient, CliError> {
        let trace = self.trace().ok_or(CliError::Closed)?;
        CliClient::connect(number, &self.file(socket), trace, deadline)
    }

    /// Waits until it has answered a first command; by it the instrument learns the rest of what it needs to know.
    pub fn wait_ready(&mut self, deadline: Deadline) -> Woken {
        let socket = self.file(CLI);
        for _ in 0..MOST_FIRSTS {
            let mut first = None;
            let woken = self.process.wait_until(deadline, || {
                first = UnixStream::connect(&socket).ok();
                first.is_some()
            });
            let (Some(stream), Some(trace)) = (first, self.trace()) else { return woken };
            let patience = Deadline::after(FIRST_ANSWER.min(deadline.left()));
            let mut client = CliClient::connected(FIRST_CLIENT, stream, trace, patience);
            let answered = client.send(b"layers plain\n").and_then(|()| client.read_to_end());
            client.hang_up();
            self.look();
            match answered {
                Err(CliError::Timeout) if deadline.left().is_zero() => return Woken::Late,
                Err(CliError::Timeout) => {}
                // Whoever has no memory left for a connection closes it: the next one may be served.
                _ if self.progress.handled() == 0 => {}
                Ok(_) => return Woken::Happened,
                Err(_) => return Woken::Dead,
            }
        }
        Woken::Dead
    }

    /// Waits until every thread of the server sleeps, and the trace stands still: until it hears of its clients again, or a
    /// timer of its own runs out, nothing will happen.
    pub fn wait_idle(&mut self, deadline: Deadline) -> Woken {
        let Some(trace) = self.tracing.writer() else { return Woken::Dead };
        let pid = self.process.pid();
        let mut before = None;
        self.process.wait_until(deadline, || {
            let now = Some(trace.cursor());
            let still = std::mem::replace(&mut before, now) == now;
            still && all_sleep(pid)
        })
    }

    /// One command on a connection of its own, and its whole answer.
    pub fn ask(&self, client: u32, command: &str, deadline: Deadline) -> Result<String, CliError> {
        let mut client = self.connect(client, CLI, deadline)?;
        client.send(format!("{command}\n").as_bytes())?;
        let answer = client.read_to_end()?;
        client.hang_up();
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Why it does not start, in its own words: everything that it is alarmed about, else what the instrument said, else the
    /// last line that it printed.
    pub fn complaint(&self) -> String {
        let printed = self.printed();
        let alerts: Vec<&str> = printed.lines().filter_map(alert).collect();
        if !alerts.is_empty() {
            return alerts.join("\n    ");
        }
        let of_instrument =
            printed.lines().find_map(|line| line.split_once("layers: error: ").map(|(_, said)| said));
        of_instrument.or(printed.lines().last()).unwrap_or("it printed nothing").to_owned()
    }

    /// What it has printed on standard error, with the files of the configuration under the names that they have for their
    /// user.
    pub fn printed(&self) -> String {
        let printed = self.process.stderr();
        self.names.iter().fold(printed, |text, (file, name)| text.replace(file, name))
    }

    /// Sends a signal, and writes so into the trace first.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.tracing.signal(signal);
        self.process.signal(signal)
    }

    /// Kills a worker of the server, and writes so into the trace first: what it was writing there has no end.
    pub fn kill_worker(&self, worker: Pid) -> io::Result<()> {
        self.tracing.signal(Signal::KILL);
        Ok(kill_process(worker, Signal::KILL)?)
    }

    /// Waits until the server is dead, and writes into the trace how it ended.
    pub fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        let end = self.process.wait_for_end(deadline)?;
        self.tracing.end(end, &[]);
        Some(end)
    }

    /// Writes the trace to the file in which it is to be kept, if there is one (see `Serve::keep`).
    pub fn save_trace(&self) -> io::Result<()> {
        self.tracing.save()
    }
}

impl Drop for HaproxyServer {
    fn drop(&mut self) {
        self.process.kill();
        kill_escaped(self.run_id);
        drop(self.directory.take());
        interrupt::ended(self.run_id);
    }
}
