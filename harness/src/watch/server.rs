//! The servers of a run: which there are, and when each is read and judged.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layers_trace::handover::TRACES;

use super::follow::Follower;
use super::seen::{News, Seen, Unseen};
use crate::rules::Rule;
use crate::version::Which;

/// The traces that watched servers have made in this directory, the oldest server's first.
pub fn traces_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let within = directory.join(TRACES);
    let within = if within.is_dir() { within } else { directory.to_owned() };
    let mut traces: Vec<PathBuf> = std::fs::read_dir(within)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_of_server(path))
        .collect();
    traces.sort_by_key(|path| path.file_stem().map(|name| name.to_owned()));
    Ok(traces)
}

/// A server has made this trace: its name is the server's, when it began, and its process.
fn is_of_server(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let parts: Vec<&str> = name.split('-').collect();
    let is_number = |part: &str| part.parse::<u64>().is_ok();
    path.extension().is_some_and(|extension| extension == EXTENSION)
        && matches!(parts[..], [server, since, process] if Which::named(server).is_some() && is_number(since) && is_number(process))
}

/// What the name of a trace ends with.
const EXTENSION: &str = "trace";

/// How servers are watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions<'a> {
    /// They leave something in this directory.
    pub directory: &'a Path,
    /// They are judged by these.
    pub rules: &'a [&'static Rule],
    /// Their events are to be drawn.
    pub draws: bool,
    /// The traces stay.
    pub keeps: bool,
    /// What is found is to be told as soon as it can be.
    pub eager: bool,
}

/// Watches servers, and judges each once, while it runs or when it has ended.
pub struct Watcher<'a> {
    how: WatchOptions<'a>,
    known: HashSet<OsString>,
    following: Vec<Follower<'a>>,
    seen: Vec<Seen>,
    unseen: Vec<Unseen>,
    unreadable: Vec<(PathBuf, String)>,
    exercised: BTreeMap<&'static str, u64>,
    pause: Duration,
}

/// How often it is looked how much there is to read: where nothing has happened for a while, and where something has.
const LONGEST: Duration = Duration::from_millis(160);
/// As above.
const SHORTEST: Duration = Duration::from_millis(20);
/// Events that a server records in a second, at most, as far as anybody has seen.
const EVENTS_A_SECOND: u32 = 4_000_000;
/// This part of the places of a trace is looked for in time.
const PART: u64 = 2;

impl<'a> Watcher<'a> {
    /// Of those that begin from now on.
    pub fn new(how: WatchOptions<'a>) -> Watcher<'a> {
        Watcher {
            how,
            known: HashSet::new(),
            following: Vec::new(),
            seen: Vec::new(),
            unseen: Vec::new(),
            unreadable: Vec::new(),
            exercised: BTreeMap::new(),
            pause: SHORTEST,
        }
    }

    /// There is a file of this name among the traces.
    pub fn begins(&mut self, name: OsString) {
        let path = self.how.directory.join(TRACES).join(&name);
        if !is_of_server(&path) || !self.known.insert(name) {
            return;
        }
        match Follower::open(&path, self.how.rules, self.how.draws) {
            Ok(follower) => self.following.push(follower),
            Err(error) => self.unreadable.push((path, error.to_string())),
        }
    }

    /// Where they leave something.
    pub fn directory(&self) -> &'a Path {
        self.how.directory
    }

    /// This process cannot be watched, for this reason.
    pub fn cannot(&mut self, pid: u32, why: String) {
        if !self.unseen.iter().any(|one| one.pid == Some(pid)) {
            self.unseen.push(Unseen { pid: Some(pid), why });
        }
    }

    /// Looks for servers of which it was not told.
    pub fn look_around(&mut self) -> io::Result<()> {
        for path in traces_in(self.how.directory)? {
            self.begins(path.file_name().unwrap_or_default().to_owned());
        }
        Ok(())
    }

    /// Reads what servers have recorded where it is time for that, and judges those to their ends that have ended. Gives
    /// what has been found, where that is to be told at once.
    pub fn look(&mut self) -> io::Result<Vec<News>> {
        let (mut news, mut moved) = (Vec::new(), false);
        for mut follower in std::mem::take(&mut self.following) {
            moved |= follower.has_moved();
            let is_over = follower.is_over();
            if is_over || self.how.eager || follower.is_urgent() {
                follower.read(is_over);
            }
            if !is_over {
                if self.how.eager {
                    news.extend(follower.news());
                }
                self.following.push(follower);
            } else {
                let told = follower.told().to_vec();
                news.extend(self.end(follower, true).map(|one| one.news(&told)));
            }
        }
        self.pause = if moved { Duration::ZERO } else { (self.pause * 2).min(LONGEST) }.max(SHORTEST);
        Ok(news)
    }

    /// How long nothing need be looked at, unless a server begins or ends; `None` for as long as that.
    pub fn pause(&self) -> Option<Duration> {
        let places = self.following.iter().filter_map(Follower::places).min();
        let quickest = places.map(|places| Duration::from_secs(places / PART) / EVENTS_A_SECOND);
        let pause = quickest.map(|quickest| self.pause.min(quickest));
        let eager = (self.how.eager && self.is_waiting()).then_some(self.pause);
        pause.into_iter().chain(eager).min().map(|pause| pause.max(Duration::from_millis(1)))
    }

    /// Some server still runs.
    pub fn is_waiting(&self) -> bool {
        !self.following.is_empty()
    }

    fn end(&mut self, follower: Follower<'a>, is_over: bool) -> Option<&Seen> {
        let path = follower.path.clone();
        match follower.finish(is_over) {
            Ok(mut one) => {
                one.lighten(&mut self.exercised, self.how.draws);
                self.seen.push(one);
            }
            Err(error) => {
                self.unreadable.push((path, error.to_string()));
                return None;
            }
        }
        if is_over && !self.how.keeps {
            // Its directory goes in the end.
            let _ = std::fs::remove_file(path);
        }
        self.seen.last()
    }

    /// All servers, those that still run judged up to now.
    pub fn finish(mut self) -> io::Result<Watched> {
        for mut follower in std::mem::take(&mut self.following) {
            let is_over = follower.is_over();
            follower.read(is_over);
            self.end(follower, is_over);
        }
        let mut seen = self.seen;
        seen.sort_by_cached_key(|one| one.path.file_stem().map(|name| name.to_owned()));
        let mut unseen = notes_in(&self.how.directory.join(TRACES))?;
        unseen.extend(self.unseen);
        let why = |(path, error): (PathBuf, String)| format!("`{}`: {error}", path.display());
        unseen.extend(self.unreadable.into_iter().map(|one| Unseen { pid: None, why: why(one) }));
        Ok(Watched { seen, unseen, exercised: self.exercised })
    }
}

/// What was watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// All that have been judged, in the order in which they began.
    pub seen: Vec<Seen>,
    /// Those that could not be.
    pub unseen: Vec<Unseen>,
    /// How often each rule was put to the test, in all of them.
    pub exercised: BTreeMap<&'static str, u64>,
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
