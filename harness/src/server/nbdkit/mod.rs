//! nbdkit: finding it, and starting a stack in it.

mod conditions;
mod debugger;
pub(crate) mod dump_config;
mod path_search;
mod running;
mod under;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layers_behaviour::{
    BEHAVIOUR_VARIABLE, Behaviours, RUN_VARIABLE, TARGET_VARIABLE_PREFIX, VERSION_VARIABLE,
};
use layers_trace::{Kind, TRACE_VARIABLE};
use rustix::fs::{FileType, MemfdFlags, Mode, memfd_create, mknodat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

pub use conditions::{Buffers, Conditions, Malloc};
pub use debugger::Debugger;
use dump_config::Configuration;
use path_search::find_program;
use running::PID_FILE;
pub use running::Server;
pub use under::{Under, UnderError};

use super::descent;
use super::directory::{CAPTIVE, Names};
use super::haproxy::HaproxyError;
use super::observer::Observer;
use super::process::{Launch, Process, above_standard};
use super::shortage::{self, Explained};
use super::tracing::Tracing;
use super::{instruments, interrupt};
use crate::deadline::Deadline;
use crate::history::End;
use crate::run::credentials::Credentials;
use crate::run::stack::{Given, Layers, Stack};
use crate::run::{Run, Start, Tls};
use crate::version::Version;

/// In the same directory: what the command of `--run`, or the server's parent, reads from until it may end.
const HOLD: &str = "hold";

/// How long a server may take to say what it is.
const LOOK: Duration = Duration::from_secs(10);
/// Records of a run in which a module is loaded, and no more.
const FEW_RECORDS: u64 = 1 << 10;

/// The oldest server whose filters the instrument can be.
const OLDEST: Version = Version(1, 26, 0);

/// An installed nbdkit.
#[derive(Clone, Debug)]
pub struct Nbdkit {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its version as it prints it; filters must name exactly this one.
    version_text: String,
    plugins: PathBuf,
    filters: PathBuf,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No such program.
    #[error(
        "cannot find the server `{0}`: install the Debian package nbdkit, or name another with --server PATH"
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
    #[error("`{path}` is not nbdkit: {what}; name the program with --server PATH")]
    NotNbdkit {
        /// The program.
        path: String,
        /// What it did.
        what: String,
    },
    /// It starts nbdkit as a process of its own.
    #[error(
        "`{path}` starts nbdkit as a child process, which hides how the server ends and keeps signals from it: end that script with `exec nbdkit \"$@\"`"
    )]
    Wrapper {
        /// The program.
        path: String,
    },
    /// Older than any version that the instruments know.
    #[error("`{path}` is nbdkit {version}, and layers needs {OLDEST} or newer")]
    TooOld {
        /// The program.
        path: String,
        /// Its version.
        version: Version,
    },
    /// It cannot be looked at as it was asked for.
    #[error(transparent)]
    Under(#[from] UnderError),
    /// The server is the other one.
    #[error(transparent)]
    Haproxy(#[from] HaproxyError),
    /// Something on the harness's side.
    #[error("cannot prepare the run: {}", Explained(.0))]
    Harness(#[from] io::Error),
}

impl Nbdkit {
    /// Asks the server at `path`, or the `nbdkit` on the PATH, what it is.
    pub fn find(path: Option<&Path>) -> Result<Nbdkit, ServerError> {
        let path = path.unwrap_or(Path::new("nbdkit"));
        let shown = path.display().to_string();
        let run_id = descent::new_run_id();
        let launch = Launch { arguments: vec!["--dump-config".into()], ..Launch::of(path, run_id) };
        let mut process = Process::start(launch).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ServerError::Missing(shown.clone()),
            _ => ServerError::CannotRun { path: shown.clone(), source },
        })?;
        let end = process.wait_for_end(Deadline::after(LOOK));
        let not = |what: &str| ServerError::NotNbdkit { path: shown.clone(), what: what.to_owned() };
        match end {
            Some(End::Exited(0)) => {}
            Some(_) => {
                let said = process.stderr();
                let said = said.trim_end().lines().next_back().map_or("without a word", str::trim);
                let limit = shortage::lowest().map_or(String::new(), |limit| format!(" ({limit})"));
                return Err(not(&format!("`--dump-config` fails: {said}{limit}")));
            }
            None => return Err(not("`--dump-config` does not come to an end")),
        }
        let Configuration { version, version_text, plugins, filters } =
            Configuration::read(&process.stdout()).map_err(not)?;
        if version < OLDEST {
            return Err(ServerError::TooOld { path: shown, version });
        }
        let nbdkit = Nbdkit { path: path.to_owned(), version, version_text, plugins, filters };
        nbdkit.is_one_process()?;
        Ok(nbdkit)
    }

    /// Makes sure of a script that it becomes the server, by what process an instrument finds itself in.
    fn is_one_process(&self) -> Result<(), ServerError> {
        let mut start = [0; 2];
        let read = find_program(&self.path).and_then(|file| File::open(file)?.read_exact(&mut start));
        if read.is_err() || start != *b"#!" {
            return Ok(());
        }
        let stack = Stack::reference(0);
        let run = self.describe("find", &stack, Start::Version, false);
        let conditions = Conditions::default();
        let serve = Serve {
            stack: &stack,
            run,
            capacity: FEW_RECORDS,
            keep: None,
            cpu: None,
            command: None,
            conditions,
        };
        let mut server = self.start(&serve)?;
        server.wait_for_end(Deadline::after(LOOK));
        let Some(trace) = server.trace() else { return Ok(()) };
        let events = layers_trace::Reader::of(&trace).events().flatten();
        let elsewhere = |pid| pid != server.process.pid();
        match events.filter(|event| event.kind == Kind::Layer).any(|event| elsewhere(event.pid)) {
            true => Err(ServerError::Wrapper { path: self.path.display().to_string() }),
            false => Ok(()),
        }
    }

    /// The file that the server would load for this plugin: a name, or a path (nbdkit(1), "SYNOPSIS").
    pub fn plugin_file(&self, name: &str) -> PathBuf {
        if name.contains(['/', '.']) {
            return PathBuf::from(name);
        }
        self.plugins.join(format!("nbdkit-{name}-plugin.so"))
    }

    /// The file that the server would load for this filter.
    pub fn filter_file(&self, name: &str) -> PathBuf {
        if name.contains(['/', '.']) {
            return PathBuf::from(name);
        }
        self.filters.join(format!("nbdkit-{name}-filter.so"))
    }

    /// Returns the files of those layers that are somebody else's, the plugin's first.
    pub fn modules(&self, stack: &Stack) -> Vec<PathBuf> {
        self.targets(stack).into_iter().map(|(_, file)| file).collect()
    }

    /// The files of those layers that are somebody else's, by number.
    pub(crate) fn targets(&self, stack: &Stack) -> Vec<(usize, PathBuf)> {
        let (filters, plugin) = match &stack.layers {
            Layers::Reference(_) => return self.replaced(stack),
            Layers::Wrapped { filters, plugin } => (filters, Some(plugin)),
            Layers::Over { filters, .. } => (filters, None),
        };
        let filters = filters.iter().rev().map(|filter| self.filter_file(filter));
        let plugin = plugin.map(|plugin| (0, self.plugin_file(plugin)));
        plugin.into_iter().chain((1..).zip(filters)).collect()
    }

    /// Those among layers of our own.
    fn replaced(&self, stack: &Stack) -> Vec<(usize, PathBuf)> {
        let file = |(layer, name): (&u8, &String)| match layer {
            0 => (0, self.plugin_file(name)),
            filter => (usize::from(*filter), self.filter_file(name)),
        };
        stack.replaced.iter().map(file).collect()
    }

    /// What the first event of a trace of this stack says.
    pub fn describe(&self, scenario: &str, stack: &Stack, start: Start, client_log: bool) -> Run {
        Run {
            server: "nbdkit".to_owned(),
            version: self.version,
            scenario: scenario.to_owned(),
            start,
            filters: stack.filters(),
            parameters: stack.parameters.clone(),
            readonly: stack.readonly,
            tls: stack.tls,
            threads: stack.threads,
            oldstyle: stack.arguments.iter().any(|argument| matches!(argument.as_str(), "-o" | "--oldstyle")),
            no_structured_replies: stack.no_structured_replies,
            hands_on: stack.hands_on(),
            never_exits: stack.never_exits(),
            // Nobody compares them with what the user's own clients have.
            digests: client_log,
            client_log,
        }
    }

    /// Starts a server. It may not be ready yet: see [`Server::wait_ready`].
    pub fn start(&self, launch: &Serve<'_>) -> Result<Server, ServerError> {
        let run_id = descent::new_run_id();
        let tracing = Tracing::begin(&launch.run, run_id, launch.capacity, launch.keep)?;
        let file = tracing.file()?;
        let directory = interrupt::directory(run_id, Names::Text)?;
        let mut pass = vec![file];
        let mut environment: Vec<(String, OsString)> = vec![
            (TRACE_VARIABLE.into(), descriptor_path(file)),
            (VERSION_VARIABLE.into(), self.version_text.clone().into()),
            (RUN_VARIABLE.into(), format!("{run_id:x}").into()),
        ];
        let conditions = launch.conditions;
        environment.extend(conditions.environment());
        let modules = self.modules(launch.stack);
        environment.extend(conditions.under.into_iter().flat_map(|under| under.environment(&modules)));
        let behaviour;
        if let Some(behaviours) = behaviours(&launch.stack.layers) {
            let text = serde_json::to_string(&*behaviours).map_err(io::Error::other)?;
            behaviour = memory("behaviour", text.as_bytes())?;
            environment.push((BEHAVIOUR_VARIABLE.into(), descriptor_path(&behaviour)));
            pass.push(&behaviour);
        }
        let (plugin, filter) = (instruments::plugin()?, instruments::filter()?);
        pass.extend([plugin, filter]);
        let (filters, copies) = filter_files(launch.stack, filter, directory.path())?;
        pass.extend(&copies);
        for (layer, file) in self.targets(launch.stack) {
            environment.push((format!("{TARGET_VARIABLE_PREFIX}{layer}"), file.into()));
        }

        let mut ends = Ends::default();
        let debugger = conditions.debugger.filter(|_| launch.run.start.is_of_one_process());
        let (program, mut arguments) =
            self.under_shell(launch.run.start, debugger.is_some(), directory.path());
        let mut gate = match debugger {
            Some(_) => Some(fifo(directory.path(), HOLD)?),
            None => None,
        };
        let looked_at = conditions
            .under
            .filter(|_| program == self.path)
            .and_then(|under| under.command(program, directory.path()));
        let program = match &looked_at {
            Some((valgrind, before)) => {
                arguments.splice(0..0, before.iter().cloned());
                valgrind.as_path()
            }
            None => program,
        };
        arguments.extend(self.start_arguments(launch, directory.path(), &mut ends)?);
        for file in filters {
            let mut argument = OsString::from("--filter=");
            argument.push(file);
            arguments.push(argument);
        }
        arguments.push(descriptor_path(plugin));
        for parameter in &launch.stack.parameters {
            arguments.push(match &parameter.key {
                Some(key) => format!("{key}={}", parameter.value).into(),
                None => parameter.value.clone().into(),
            });
        }
        let process = Process::start(Launch {
            program,
            arguments,
            environment,
            pass: pass.iter().map(|file| file.as_fd()).collect(),
            socket: ends.server.take(),
            listener: ends.listener.take(),
            cpu: launch.cpu,
            run_id: Some(run_id),
            may_be_traced: debugger.is_some(),
        })
        .map_err(|source| ServerError::CannotRun { path: self.path.display().to_string(), source })?;
        interrupt::began(run_id, process.group());
        let attached = match (debugger, &mut gate) {
            (Some(debugger), Some(gate)) => Some(debugger.attach(process.pid(), gate)?),
            _ => None,
        };
        Ok(Server {
            process,
            tracing,
            observer: Observer::default(),
            socket: ends.socket,
            credentials: ends.credentials,
            client: ends.client,
            address: ends.address,
            hold: ends.hold,
            start: launch.run.start,
            layers: launch.run.filters.saturating_add(1),
            run_id,
            directory: Some(directory),
            attached,
        })
    }

    /// The program to start, and what comes before the server's own arguments: some servers are started by a shell.
    fn under_shell(&self, start: Start, debugged: bool, directory: &Path) -> (&Path, Vec<OsString>) {
        let script = match start {
            _ if debugged => debugger::GATE,
            // The process id is known only in the process that becomes the server.
            Start::Activated => r#"export LISTEN_PID=$$ LISTEN_FDS=1; shift; exec "$@""#,
            // The parent is there until it is told to end.
            Start::ExitWithParent => r#"hold=$1; shift; "$@" & read x <"$hold""#,
            _ => return (&self.path, Vec::new()),
        };
        let hold = directory.join(HOLD);
        let arguments = ["-c".into(), script.into(), "sh".into(), hold.into(), (&self.path).into()];
        (Path::new("/bin/sh"), arguments.into())
    }

    /// The server's own options.
    fn start_arguments(
        &self,
        launch: &Serve<'_>,
        directory: &Path,
        ends: &mut Ends,
    ) -> io::Result<Vec<OsString>> {
        let stack = launch.stack;
        let mut arguments: Vec<OsString> = Vec::new();
        let socket = directory.join("socket");
        match launch.run.start {
            Start::Foreground => arguments.extend(["-f".into(), "-U".into(), socket.clone().into()]),
            Start::Daemon => {
                let pid = directory.join(PID_FILE).into();
                arguments.extend(["-U".into(), socket.clone().into(), "-P".into(), pid]);
            }
            Start::Single => {
                let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                (ends.client, ends.server) = (Some(pair.0), Some(pair.1));
                arguments.push("-s".into());
            }
            Start::Captive => {
                // The command tells where the server listens, and ends when it is told to, or as the scenario says.
                ends.address = Some(fifo(directory, "address")?);
                ends.hold = Some(fifo(directory, HOLD)?);
                // Where that is stands in a file, too: a server that is killed leaves its directory behind. The shell does
                // it by itself: other programs may not be there.
                let folder = quoted(directory);
                let wait = format!("read x < {folder}/{HOLD}");
                let command = launch.command.unwrap_or(&wait);
                let script = format!(
                    r#"for to in {CAPTIVE} address; do printf '%s\n' "$unixsocket" > {folder}/$to; done; {command}"#
                );
                arguments.extend(["-U".into(), "-".into(), "--run".into(), script.into()]);
            }
            Start::Activated => ends.listener = Some(UnixListener::bind(&socket)?.into()),
            Start::ExitWithParent => {
                ends.hold = Some(fifo(directory, HOLD)?);
                arguments.extend(["--exit-with-parent".into(), "-U".into(), socket.clone().into()]);
            }
            Start::DumpPlugin => arguments.push("--dump-plugin".into()),
            Start::Help => arguments.push("--help".into()),
            Start::Version => arguments.push("--version".into()),
            Start::MasterWorker => return Err(io::Error::other("only HAProxy has a master and workers")),
        }
        if !matches!(launch.run.start, Start::Single | Start::Captive) && launch.run.start.serves() {
            ends.socket = Some(socket);
        }
        if stack.readonly {
            arguments.push("-r".into());
        }
        if let Some(threads) = stack.threads {
            arguments.extend(["-t".into(), threads.to_string().into()]);
        }
        if stack.no_structured_replies {
            arguments.push("--no-sr".into());
        }
        // Clients of the user's have keys or certificates of their own.
        if stack.tls != Tls::Off && launch.run.client_log {
            let credentials = Credentials::make(stack.proof, directory)?;
            arguments.extend(credentials.server_arguments().into_iter().map(OsString::from));
            ends.credentials = Some(credentials);
        }
        match stack.tls {
            Tls::Off => {}
            Tls::On => arguments.push("--tls=on".into()),
            Tls::Require => arguments.push("--tls=require".into()),
        }
        arguments.extend(stack.arguments.iter().map(OsString::from));
        Ok(arguments)
    }
}

/// What the server is given as its filters, outermost first, and the copies among them.
fn filter_files(stack: &Stack, filter: &File, directory: &Path) -> io::Result<(Vec<OsString>, Vec<File>)> {
    let (mut files, mut copies) = (Vec::new(), Vec::new());
    for layer in (1..=stack.filters()).rev() {
        files.push(match stack.given.get(&layer) {
            None => descriptor_path(filter),
            Some(Given::Copy) => {
                let copy = instruments::filter_copy()?;
                let path = descriptor_path(&copy);
                copies.push(copy);
                path
            }
            Some(Given::Symlink) => {
                let link = directory.join(format!("layers-filter-{layer}.so"));
                symlink(descriptor_path(filter), &link)?;
                link.into()
            }
        });
    }
    Ok((files, copies))
}

/// What the reference layers among these do.
fn behaviours(layers: &Layers) -> Option<Cow<'_, Behaviours>> {
    match layers {
        Layers::Reference(behaviours) => Some(Cow::Borrowed(behaviours)),
        Layers::Wrapped { .. } => None,
        Layers::Over { plugin, .. } => {
            Some(Cow::Owned(Behaviours { plugin: (**plugin).clone(), ..Behaviours::default() }))
        }
    }
}

/// What to start.
#[derive(Debug)]
pub struct Serve<'a> {
    /// The layers and the options.
    pub stack: &'a Stack,
    /// What the trace says of the run.
    pub run: Run,
    /// Records that the trace can hold.
    pub capacity: u64,
    /// File for the trace; memory without.
    pub keep: Option<&'a Path>,
    /// Run on this one CPU only.
    pub cpu: Option<usize>,
    /// What it runs under.
    pub conditions: Conditions,
    /// For [`Start::Captive`]: the command of `--run`. Without, one that ends when [`Server::release`] says so.
    pub command: Option<&'a str>,
}

/// Our ends of what connects us to the server.
#[derive(Debug, Default)]
struct Ends {
    socket: Option<PathBuf>,
    /// For TLS.
    credentials: Option<Credentials>,
    client: Option<OwnedFd>,
    server: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    /// Where the command of `--run` says where the server listens.
    address: Option<File>,
    /// What keeps that command, or the server's parent, alive.
    hold: Option<File>,
}

/// The path as one word of a shell's. It is UTF-8: a directory of a run always is.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn memory(name: &str, bytes: &[u8]) -> io::Result<File> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
    let mut file = File::from(above_standard(file.as_fd())?);
    file.write_all(bytes)?;
    Ok(file)
}

pub(super) fn descriptor_path(file: &File) -> OsString {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn fifo(directory: &Path, name: &str) -> io::Result<File> {
    let path = directory.join(name);
    mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    // Open for both, so that neither end waits for the other.
    File::options().read(true).write(true).open(path)
}
