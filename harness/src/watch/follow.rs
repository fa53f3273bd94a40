//! One trace, read while its server writes it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use layers_trace::header::HEADER_SIZE;
use layers_trace::record::{RECORD_SIZE, Record};
use layers_trace::writer::record;
use layers_trace::{Event, Kind, ReadError, Reader, Writer};

use super::circumstances::Circumstances;
use super::end::Ended;
use super::seen::{News, Seen};
use crate::campaign::event_budget::ROOM;
use crate::rules::{Judge, Rule, RuleResult, judge_of, judgement_of};
use crate::run::FoundServer;
use crate::server::watched::is_over;

/// Records after which those who write are told that there is room again.
const STEP: u64 = 1 << 12;
/// Part of the places of a trace that wraps; there is no hurry before so many are taken.
const LAZY: u64 = 8;

/// A trace, as far as it was read.
pub(super) struct Follower<'a> {
    pub(super) path: PathBuf,
    file: File,
    writer: Writer,
    rules: &'a [&'static Rule],
    next: u64,
    /// Of the trace, when it was looked at last.
    cursor: u64,
    unpublished: u64,
    damaged: Option<ReadError>,
    server: Option<FoundServer>,
    judge: Option<Judge>,
    /// Its events, where they are to be drawn, as far as there is room.
    events: Vec<Event>,
    draws: bool,
    /// Rules of which it was told that they are broken.
    told: Vec<&'static str>,
}

impl<'a> Follower<'a> {
    /// Opens the trace, of which nothing is read yet.
    pub(super) fn open(path: &Path, rules: &'a [&'static Rule], draws: bool) -> io::Result<Follower<'a>> {
        let file = File::options().read(true).write(true).open(path)?;
        let writer = Writer::resume(&file)?;
        Ok(Follower {
            path: path.to_owned(),
            file,
            writer,
            rules,
            next: 0,
            cursor: 0,
            unpublished: 0,
            damaged: None,
            server: None,
            judge: None,
            events: Vec::new(),
            draws,
            told: Vec::new(),
        })
    }

    /// So much was recorded that it is time to read it.
    pub(super) fn is_urgent(&self) -> bool {
        self.writer.wraps() && self.writer.cursor().saturating_sub(self.next) > self.writer.capacity() / LAZY
    }

    /// Returns true when its server has ended: then nothing more is recorded.
    pub(super) fn is_over(&self) -> bool {
        is_over(&self.file)
    }

    /// Reads what there is by now. Where its server `is_over`, that is all.
    pub(super) fn read(&mut self, is_over: bool) {
        // What was published since it began is read as well, but not without end.
        loop {
            let before = self.next;
            self.read_once(is_over);
            if !self.is_urgent() || self.next == before {
                return;
            }
        }
    }

    fn read_once(&mut self, is_over: bool) {
        let reader = Reader::of(&self.writer);
        self.damaged = self.damaged.take().or(reader.header_damage());
        if self.damaged.is_some() {
            return;
        }
        let mut events = reader.events_from(self.next);
        if !is_over {
            events = events.waiting();
        }
        let mut step = self.next;
        while let Some(event) = events.next() {
            match event {
                Ok(event) => {
                    self.next = events.position();
                    let judge = self.judge.get_or_insert_with(|| {
                        self.server =
                            Some(&event).filter(|event| event.kind == Kind::Run).and_then(FoundServer::of);
                        judge_of(Some(&event), self.rules.iter().copied())
                    });
                    judge.feed(&event);
                    if self.draws && self.events.len() < ROOM {
                        self.events.push(event);
                    }
                }
                Err(error) => {
                    self.damaged = Some(error);
                    return;
                }
            }
            if self.next - step >= STEP {
                step = self.next;
                self.has_read();
            }
        }
        self.next = events.position();
        self.unpublished += events.unpublished();
        self.has_read();
    }

    fn has_read(&self) {
        if self.writer.wraps() {
            self.writer.has_read(self.next);
        }
    }

    /// What is broken, and was not told of yet; `None` for nothing.
    pub(super) fn news(&mut self) -> Option<News> {
        let (judge, server) = (self.judge.as_ref()?, self.server.as_ref()?);
        let is_new = |result: &RuleResult| !self.told.contains(&result.rule.id);
        let broken: Vec<RuleResult> = judge.broken().filter(is_new).collect();
        self.told.extend(broken.iter().map(|result| result.rule.id));
        (!broken.is_empty()).then(|| News {
            server: server.clone(),
            ended: Ended::Running,
            broken,
            circumstances: Circumstances::of(judge.history()),
        })
    }

    /// The rules of which it was told.
    pub(super) fn told(&self) -> &[&'static str] {
        &self.told
    }

    /// How many places its trace has, where that wraps.
    pub(super) fn places(&self) -> Option<u64> {
        self.writer.wraps().then(|| self.writer.capacity())
    }

    /// Something was recorded since this was asked last.
    pub(super) fn has_moved(&mut self) -> bool {
        let cursor = self.writer.cursor();
        std::mem::replace(&mut self.cursor, cursor) != cursor
    }

    /// What it says. Where its server has ended, the trace says so afterwards, and its file is as long as it is full.
    pub(super) fn finish(mut self, is_over: bool) -> io::Result<Seen> {
        let Some(server) = self.server.take() else {
            let what = self
                .damaged
                .map_or("it is not the trace of a watched server".to_owned(), |why| why.to_string());
            return Err(io::Error::other(what));
        };
        let mut judge = self.judge.take().unwrap_or_else(|| judge_of(None, self.rules.iter().copied()));
        let stopped = Reader::of(&self.writer).stopped().is_some();
        let ended = match (is_over, stopped) {
            (false, _) => Ended::Running,
            (true, true) => Ended::Unrecorded,
            (true, false) => self.note_end(&mut judge),
        };
        let judgement = judgement_of(judge, &Reader::of(&self.writer), self.unpublished, self.damaged.take());
        if is_over && !self.writer.wraps() {
            let records = self.writer.cursor().min(self.writer.capacity());
            drop(self.writer);
            self.file.set_len(HEADER_SIZE as u64 + records * RECORD_SIZE as u64)?;
        }
        let circumstances = Circumstances::of(&judgement.history);
        let (line, events) = (server.command_line(), self.events.into());
        Ok(Seen { path: self.path, server, line, ended, judgement, circumstances, events })
    }

    /// Adds to the trace how its server has ended, as far as it has noted that, and judges it by that.
    fn note_end(&mut self, judge: &mut Judge) -> Ended {
        if let Some(end) = judge.history().end() {
            return Ended::of(end);
        }
        let Some(end) = judge.history().noted_end() else { return Ended::Unseen };
        let (next, damaged) = (self.next, self.damaged.is_some());
        self.writer.note(Record { a: end.status(), ..record(Kind::End, 0, 0) }, &[]);
        for event in Reader::of(&self.writer).events_from(next).flatten().filter(|_| !damaged) {
            judge.feed(&event);
            self.events.extend(self.draws.then_some(event));
        }
        Ended::of(end)
    }
}
