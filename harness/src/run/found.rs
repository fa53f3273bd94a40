//! A server that somebody else has started: what its own command line says of the run.

use layers_behaviour::Found;
use layers_trace::{Event, Field};

use super::options::Line;
use super::parameter::{parameter, shown};
use super::{Run, Start, Tls};
use crate::foreign::visible::visible_line;
use crate::version::Version;

/// Where the version is not known: nothing is held against the server.
const NOTHING_PROMISED: Version = Version(0, 0, 0);
/// As the instrument of HAProxy calls its server.
const HAPROXY: &str = "haproxy";
/// The scenario of a run that nobody has described.
const WATCHED: &str = "watch";

impl Run {
    /// What the first event of a trace says: the harness's description, or, in a server that it has not started, what the
    /// instrument has found there.
    pub(crate) fn of(event: &Event) -> Option<Run> {
        let text = event.text(Field::Json)?;
        let described = serde_json::from_slice(&text.bytes).ok();
        described.or_else(|| Some(FoundServer::of(event)?.run()))
    }

    /// Returns true for a server that somebody else has started.
    pub(crate) fn is_watched(&self) -> bool {
        self.scenario == WATCHED
    }
}

/// A server that somebody else has started.
#[derive(Clone, Debug)]
pub struct FoundServer {
    /// What the instrument says of it.
    pub found: Found,
    /// Its command line.
    pub words: Vec<String>,
    /// The command line is longer than what the trace could keep.
    cut: bool,
}

impl FoundServer {
    /// What the first event of a trace says of a server that the harness has not started.
    pub fn of(event: &Event) -> Option<FoundServer> {
        let found: Found = serde_json::from_slice(&event.text(Field::Json)?.bytes).ok()?;
        let text = event.text(Field::Bytes)?;
        let bytes = text.bytes.strip_suffix(&[0]).unwrap_or(&text.bytes);
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        Some(FoundServer { found, words: words.collect(), cut: text.cut })
    }

    /// The command line in one line, without what must not be told.
    pub fn command_line(&self) -> String {
        let plain = |word: &&String| {
            !word.is_empty() && word.chars().all(|char| char.is_alphanumeric() || "+-_=./,:@%".contains(char))
        };
        let quoted = |word: &String| match Some(word).filter(plain) {
            Some(word) => word.clone(),
            None => format!("'{}'", word.replace('\'', r"'\''")),
        };
        let shown = self.words.iter().map(|word| quoted(&shown(&parameter(word))));
        visible_line(&shown.collect::<Vec<_>>().join(" "))
    }

    /// Its version, where that is known, and so is its whole command line.
    pub fn version(&self) -> Option<Version> {
        self.found.version.parse().ok().filter(|_| !self.cut)
    }

    /// Why nothing can be held against it, where that is so.
    pub fn unknown(&self) -> Option<&'static str> {
        match () {
            () if self.cut => Some("its command line is longer than what a trace keeps of it"),
            () if self.version().is_none() => Some("its version is not known"),
            () => None,
        }
    }

    fn run(&self) -> Run {
        let words = self.words.get(1..).unwrap_or_default();
        // HAProxy has no parameters, and rules of it ask for nothing but how it was started.
        let line = if self.is_haproxy() { Line::default() } else { Line::of(words) };
        let tls = match line.values("tls").next_back() {
            Some("require" | "force") => Tls::Require,
            Some("on" | "1" | "yes" | "true") => Tls::On,
            _ => Tls::Off,
        };
        Run {
            server: self.found.found.clone(),
            version: self.version().unwrap_or(NOTHING_PROMISED),
            scenario: WATCHED.to_owned(),
            start: self.start(&line),
            filters: u8::try_from(line.values("filter").count()).unwrap_or(u8::MAX),
            parameters: line.words.iter().skip(1).map(|word| parameter(word)).collect(),
            readonly: line.has("read-only"),
            tls,
            threads: line.values("threads").next_back().and_then(|number| number.parse().ok()),
            oldstyle: line.has("old-style"),
            no_structured_replies: line.has("no-sr"),
            ..Run::default()
        }
    }

    fn is_haproxy(&self) -> bool {
        self.found.found == HAPROXY
    }

    /// How it serves (HAProxy's management guide, "Starting HAProxy").
    fn start_of_haproxy(&self) -> Start {
        let has = |option: &str| self.words.iter().any(|word| word == option);
        match () {
            () if has("-W") || has("-Ws") => Start::MasterWorker,
            () if has("-v") || has("-vv") || has("-c") => Start::Version,
            () if has("-D") => Start::Daemon,
            () => Start::Foreground,
        }
    }

    /// How it serves (nbdkit(1), "OPTIONS"): the first of these that it was given.
    fn start(&self, line: &Line) -> Start {
        if self.is_haproxy() {
            return self.start_of_haproxy();
        }
        let options = [
            ("help", Start::Help),
            ("version", Start::Version),
            ("dump-plugin", Start::DumpPlugin),
            ("single", Start::Single),
            ("run", Start::Captive),
            ("foreground", Start::Foreground),
            ("exit-with-parent", Start::ExitWithParent),
        ];
        match options.into_iter().find(|(option, _)| line.has(option)) {
            Some((_, start)) => start,
            None if self.found.activated => Start::Activated,
            None => Start::Daemon,
        }
    }
}
