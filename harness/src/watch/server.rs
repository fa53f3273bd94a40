//! What the trace of one server says.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use layers_trace::handover::TRACES;
use layers_trace::{Kind, Reader};

use super::end::{Ended, settle};
use crate::campaign::event_budget::Events;
use crate::deadline::Deadline;
use crate::rules::{self, Judgement, Rule};
use crate::run::Server;
use crate::server::interrupt;
use crate::server::watched::wait_until_over;

/// How often it is looked whether this process was told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A server that has made a trace.
#[derive(Debug)]
pub struct Seen {
    /// The trace.
    pub path: PathBuf,
    /// What it is.
    pub server: Server,
    /// What has become of it.
    pub ended: Ended,
    /// What the rules say of it.
    pub judgement: Judgement,
    /// Its events, where they are to be drawn.
    pub events: Events,
}

/// A server that could not be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Its process, where that is known.
    pub pid: Option<u32>,
    /// Why.
    pub why: String,
}

/// The traces in this directory, the oldest server's first.
pub fn traces_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let within = directory.join(TRACES);
    let within = if within.is_dir() { within } else { directory.to_owned() };
    let mut traces: Vec<PathBuf> = std::fs::read_dir(within)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .collect();
    traces.sort_by_key(|path| path.file_stem().map(|name| name.to_owned()));
    Ok(traces)
}

/// Waits until every server has ended that writes to a trace in this directory, until the deadline, or until this process is
/// told to stop.
pub fn wait_for(directory: &Path, deadline: Option<Deadline>) -> io::Result<()> {
    let files: io::Result<Vec<File>> = traces_in(directory)?.iter().map(File::open).collect();
    let (over, ended) = mpsc::channel();
    let files = files?;
    std::thread::spawn(move || {
        files.iter().for_each(wait_until_over);
        // Nobody waits for it any more where the deadline has passed.
        let _ = over.send(());
    });
    loop {
        let left = deadline.map_or(LOOK, |deadline| deadline.left().min(LOOK));
        let is_late = || deadline.is_some_and(|deadline| deadline.left().is_zero());
        match ended.recv_timeout(left) {
            Err(mpsc::RecvTimeoutError::Timeout) if !is_late() && interrupt::told_to_stop().is_none() => {}
            _ => return Ok(()),
        }
    }
}

/// Judges servers by these rules, each once.
#[derive(Debug)]
pub struct Watch<'a> {
    directory: &'a Path,
    rules: &'a [&'static Rule],
    draws: bool,
    seen: Vec<Seen>,
    unreadable: Vec<(PathBuf, String)>,
}

impl<'a> Watch<'a> {
    /// Of those that leave something in this directory; keeps their events where they are to be drawn.
    pub fn new(directory: &'a Path, rules: &'a [&'static Rule], draws: bool) -> Watch<'a> {
        Watch { directory, rules, draws, seen: Vec::new(), unreadable: Vec::new() }
    }

    /// Judges those that have ended since it was asked last, and gives them; the others, too, where `all`.
    pub fn look(&mut self, all: bool) -> io::Result<&[Seen]> {
        let before = self.seen.len();
        for path in traces_in(self.directory)? {
            let known = self.seen.iter().any(|one| one.path == path);
            if known || self.unreadable.iter().any(|(one, _)| *one == path) {
                continue;
            }
            match judge(&path, self.rules, self.draws, all) {
                Ok(Some(one)) => self.seen.push(one),
                Ok(None) => {}
                Err(error) => self.unreadable.push((path, error.to_string())),
            }
        }
        Ok(self.seen.get(before..).unwrap_or_default())
    }

    /// All that have been judged, in the order in which they began, and those that could not be.
    pub fn finish(self) -> io::Result<(Vec<Seen>, Vec<Unseen>)> {
        let mut seen = self.seen;
        seen.sort_by_cached_key(|one| one.path.file_stem().map(|name| name.to_owned()));
        let mut unseen = notes_in(&self.directory.join(TRACES))?;
        let why = |(path, error): (PathBuf, String)| format!("`{}`: {error}", path.display());
        unseen.extend(self.unreadable.into_iter().map(|one| Unseen { pid: None, why: why(one) }));
        Ok((seen, unseen))
    }
}

/// What servers have noted that could not be watched.
fn notes_in(traces: &Path) -> io::Result<Vec<Unseen>> {
    let mut notes: Vec<Unseen> = Vec::new();
    for entry in std::fs::read_dir(traces)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix("unwatched-") {
            let why = std::fs::read_to_string(entry.path()).unwrap_or_default();
            notes.push(Unseen { pid: pid.parse().ok(), why: why.trim_end().to_owned() });
        }
    }
    notes.sort_by_key(|note| note.pid);
    Ok(notes)
}

/// `None` for one that has not ended, unless `all`.
fn judge(path: &Path, rules: &[&'static Rule], draws: bool, all: bool) -> io::Result<Option<Seen>> {
    let file = File::options().read(true).write(true).open(path)?;
    let ended = settle(&file)?;
    if ended == Ended::Running && !all {
        return Ok(None);
    }
    // SAFETY: the mapping is private and read-only. What a server adds meanwhile the reader is made for, and only this
    // process cuts the file, when no server is left that writes to it.
    let bytes = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) }?;
    let reader = Reader::new(&bytes).map_err(io::Error::other)?;
    let first = reader.events().flatten().next().filter(|event| event.kind == Kind::Run);
    let server = first.as_ref().and_then(Server::of);
    let server = server.ok_or_else(|| io::Error::other("it is not the trace of a watched server"))?;
    let judgement = rules::judge(&reader, rules.iter().copied());
    let events = if draws { reader.events().flatten().collect() } else { Events::default() };
    Ok(Some(Seen { path: path.to_owned(), server, ended, judgement, events }))
}
