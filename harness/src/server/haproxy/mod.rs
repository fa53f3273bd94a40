//! HAProxy: finding it, and running it with the instrument.

mod progress;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use layers_behaviour::RUN_VARIABLE;
use layers_trace::header::HEADER_SIZE;
use layers_trace::record::{RECORD_SIZE, Record};
use layers_trace::writer::record;
use layers_trace::{Field, Kind, TRACE_VARIABLE, Writer};
use rustix::process::Signal;

use super::nbdkit::{POOL, fresh, random};
use super::process::{Launch, Process, Woken, above_standard, kill_escaped};
use super::{instruments, interrupt};
use crate::client::haproxy_cli::{CliError, Client};
use crate::deadline::Deadline;
use crate::history::End;
use crate::run::{Run, Start, Tls};
use crate::version::Version;

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
const ENTRIES: usize = 300;
/// What stands in a configuration for the directory of the run.
const DIRECTORY_MARK: &str = "{dir}";
/// Where Debian installs it.
pub const DEBIANS: &str = "/usr/sbin/haproxy";
/// The first command of each run is a client of this number.
const FIRST_CLIENT: u32 = 0;

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
    #[error("cannot run the server `{path}`: {source}")]
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
    #[error("cannot prepare the run: {0}")]
    Harness(#[from] io::Error),
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Serve<'a> {
    /// Name of the scenario.
    pub scenario: &'a str,
    /// Text of the configuration; `{dir}` in it becomes the directory of the run.
    pub configuration: &'a str,
    /// Options of the server, beyond its configuration.
    pub arguments: &'a [&'a str],
    /// How it is started: in the foreground, or as master and workers.
    pub start: Start,
    /// Records that the trace can hold.
    pub capacity: u64,
    /// File for the trace; memory without.
    pub keep: Option<&'a Path>,
}

impl Haproxy {
    /// Asks the server at `path`, or the `haproxy` on the PATH, which one it is.
    pub fn find(path: Option<&Path>) -> Result<Haproxy, HaproxyError> {
        let path = path.map_or_else(on_path, Path::to_owned);
        let shown = path.display().to_string();
        let launch = Launch {
            program: &path,
            arguments: vec!["-v".into()],
            environment: Vec::new(),
            pass: Vec::new(),
            socket: None,
            listener: None,
            cpu: None,
        };
        let mut process = Process::start(launch).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HaproxyError::Missing(shown.clone()),
            _ => HaproxyError::CannotRun { path: shown.clone(), source },
        })?;
        let end = process.wait_for_end(Deadline::after(Duration::from_secs(10)));
        let output = process.stdout();
        let version = output
            .lines()
            .next()
            .filter(|_| end == Some(End::Exited(0)))
            .and_then(|line| line.to_lowercase().split_once("version ").map(|(_, rest)| rest.to_owned()))
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        match version {
            Some(version) => Ok(Haproxy { path, version }),
            None => Err(HaproxyError::NotHaproxy(shown)),
        }
    }

    /// What the first event of a trace says.
    fn describe(&self, serve: &Serve<'_>) -> Run {
        Run {
            server: "haproxy".to_owned(),
            version: self.version,
            scenario: serve.scenario.to_owned(),
            start: serve.start,
            filters: 0,
            parameters: Vec::new(),
            readonly: false,
            tls: Tls::Off,
            threads: None,
            oldstyle: false,
            no_structured_replies: false,
            client_log: true,
        }
    }

    /// Starts a server. It may not be ready yet: see [`Server::wait_ready`].
    pub fn start(&self, serve: &Serve<'_>) -> Result<Server, HaproxyError> {
        let run_id = random();
        let (file, trace) = match serve.keep {
            Some(path) => {
                let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
                let file = File::from(above_standard(file.as_fd())?);
                let trace = Writer::create(&file, serve.capacity, run_id)?;
                (file, trace)
            }
            None => POOL.take(serve.capacity, run_id, || fresh(serve.capacity, run_id))?,
        };
        let description = serde_json::to_string(&self.describe(serve)).map_err(io::Error::other)?;
        trace.note(record(Kind::Run, 0, 0), &[(Field::Json, description.as_bytes())]);

        let directory = interrupt::directory(run_id)?;
        let folder = directory.path();
        let shown = folder.to_string_lossy();
        std::fs::write(folder.join(CONFIGURATION), serve.configuration.replace(DIRECTORY_MARK, &shown))?;
        for (name, entry) in [(ACL, "one"), (MAP, "one value")] {
            let more: String = (0..ENTRIES).map(|number| format!("key{number} value{number}\n")).collect();
            std::fs::write(folder.join(name), format!("{entry}\n{more}"))?;
        }
        let applet = instruments::applet()?;
        let environment: Vec<(String, OsString)> = vec![
            (TRACE_VARIABLE.into(), lasting_path(&file)),
            ("LD_PRELOAD".into(), lasting_path(applet)),
            (RUN_VARIABLE.into(), format!("{run_id:x}").into()),
        ];
        let mut arguments: Vec<OsString> = vec!["-f".into(), folder.join(CONFIGURATION).into()];
        match serve.start {
            Start::MasterWorker => {
                arguments.extend(["-W".into(), "-S".into(), folder.join(MASTER).into()]);
            }
            _ => arguments.push("-db".into()),
        }
        arguments.extend(serve.arguments.iter().map(OsString::from));
        let process = Process::start(Launch {
            program: &self.path,
            arguments,
            environment,
            pass: Vec::new(),
            socket: None,
            listener: None,
            cpu: None,
        })
        .map_err(|source| HaproxyError::CannotRun { path: self.path.display().to_string(), source })?;
        interrupt::began(run_id, process.group());
        Ok(Server {
            process,
            trace: Some((file, Arc::new(trace))),
            run_id,
            kept: serve.keep.is_some(),
            recorded_end: false,
            directory: Some(directory),
            progress: Progress::default(),
        })
    }
}

/// A server started anew opens its files anew: by a path that does not depend on what it has kept open.
fn lasting_path(file: &File) -> OsString {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
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
pub struct Server {
    /// The process; with workers, the master.
    pub process: Process,
    trace: Option<(File, Arc<Writer>)>,
    run_id: u64,
    kept: bool,
    recorded_end: bool,
    directory: Option<tempfile::TempDir>,
    progress: Progress,
}

impl Server {
    /// The trace, for clients to write to.
    pub fn trace(&self) -> Option<Arc<Writer>> {
        self.trace.as_ref().map(|(_, trace)| Arc::clone(trace))
    }

    /// Takes in what the trace shows since the last look.
    pub fn look(&mut self) {
        if let Some((_, trace)) = &self.trace {
            self.progress.look(trace);
        }
    }

    /// What it showed then.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits for something that the trace shows.
    pub fn wait_until(&mut self, deadline: Deadline, mut happened: impl FnMut(&Progress) -> bool) -> Woken {
        let Some((_, trace)) = &self.trace else { return Woken::Dead };
        let (progress, process) = (&mut self.progress, &mut self.process);
        process.wait_until(deadline, || {
            progress.look(trace);
            happened(progress)
        })
    }

    /// A file in the directory of the run: `cli`, `operator`, `user`, `http` or `master` are sockets.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.as_ref().map_or_else(PathBuf::new, |directory| directory.path().join(name))
    }

    /// Connects to one of its sockets.
    pub fn connect(&self, number: u32, socket: &str, deadline: Deadline) -> Result<Client, CliError> {
        let trace = self.trace().ok_or(CliError::Closed)?;
        Client::connect(number, &self.file(socket), trace, deadline)
    }

    /// Waits until it has answered a first command; by it the instrument learns the rest of what it needs to know.
    pub fn wait_ready(&mut self, deadline: Deadline) -> Woken {
        let (socket, mut first) = (self.file(CLI), None);
        let woken = self.process.wait_until(deadline, || {
            first = UnixStream::connect(&socket).ok();
            first.is_some()
        });
        let (Some(stream), Some(trace)) = (first, self.trace()) else { return woken };
        let mut client = Client::connected(FIRST_CLIENT, stream, trace, deadline);
        let answered = client.send(b"layers plain\n").and_then(|()| client.read_to_end());
        client.hang_up();
        match answered {
            Ok(_) => Woken::Happened,
            Err(CliError::Timeout) => Woken::Late,
            Err(_) => Woken::Dead,
        }
    }

    /// One command on a connection of its own, and its whole answer.
    pub fn ask(&self, client: u32, command: &str, deadline: Deadline) -> Result<String, CliError> {
        let mut client = self.connect(client, CLI, deadline)?;
        client.send(format!("{command}\n").as_bytes())?;
        let answer = client.read_to_end()?;
        client.hang_up();
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Why it does not start, in its own words: what the instrument said, else the last line that it printed.
    pub fn complaint(&self) -> String {
        let printed = self.process.stderr();
        let of_instrument =
            printed.lines().find_map(|line| line.split_once("layers: error: ").map(|(_, said)| said));
        of_instrument.or(printed.lines().last()).unwrap_or("it printed nothing").to_owned()
    }

    /// Sends a signal, and writes so into the trace first.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let Some((_, trace)) = &self.trace {
            let number = signal.as_raw().cast_unsigned().into();
            trace.note(Record { a: number, ..record(Kind::Signal, 0, 0) }, &[]);
        }
        self.process.signal(signal)
    }

    /// Waits until the server is dead, and writes into the trace how it ended.
    pub fn wait_for_end(&mut self, deadline: Deadline) -> Option<End> {
        let end = self.process.wait_for_end(deadline)?;
        if !std::mem::replace(&mut self.recorded_end, true) {
            let status = match end {
                End::Exited(code) => code << 8,
                End::Killed(signal) => signal,
            };
            if let Some((_, trace)) = &self.trace {
                trace.note(Record { a: status.cast_unsigned().into(), ..record(Kind::End, 0, 0) }, &[]);
            }
        }
        Some(end)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        kill_escaped(self.run_id);
        drop(self.directory.take());
        if let Some((file, trace)) = self.trace.as_ref().filter(|_| self.kept) {
            let records = trace.cursor().min(trace.capacity()) * RECORD_SIZE as u64;
            let _ = file.set_len(HEADER_SIZE as u64 + records);
        }
        interrupt::ended(self.run_id);
        if let Some((file, trace)) = self.trace.take()
            && !self.kept
            && let Ok(trace) = Arc::try_unwrap(trace)
        {
            POOL.give(file, trace);
        }
    }
}
