//! Each check with each entry, side by side: what it says, and what its servers have shown beside that.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use super::acts::{Act, no_answer, steady};
use super::bench::{Bench, Crash, Round, Shown};
use super::checks::{self, Row};
use super::discovery::{Discovered, Handler, discover};
use super::said::Said;
use super::selection::Selection;
use super::subject::HaproxyValidation;
use crate::campaign::halt::{Halt, Limit};
use crate::campaign::schedule::{Items, in_order};
use crate::client::asked::Asked;
use crate::foreign::visible::visible_line;
use crate::outcome::Exit;
use crate::rules;
use crate::server::haproxy::{self, HaproxyError};
use crate::server::nbdkit::ServerError;
use crate::validate::checks::check::ModuleCheck;
use crate::validate::run::listener::Listener;
use crate::validate::verdict::validation::Validation;

/// So often an act with code in Lua is played anew after its server has died of a fault: HAProxy 2.6.12 does of clients
/// that leave all at once, whatever the code is.
const TRIES: usize = 3;

/// Checks that meet the fault that another one has found first.
const FOLLOWS: &[(&str, &str)] = &[
    // A server that has died of an answer takes no new clients.
    ("handler.leave", "handler.answers"),
    ("handler.shared", "handler.crowd"),
    ("handler.reload", "handler.stop"),
    // A session has memory and a descriptor, and a server that stops waits for it.
    ("handler.memory", "handler.sessions"),
    ("handler.descriptors", "handler.sessions"),
    ("handler.stop", "handler.sessions"),
    ("handler.reload", "handler.sessions"),
    // Whoever cannot bear a slow client cannot bear one while the server is busy with something else.
    ("handler.stop", "handler.whole"),
    ("handler.reload", "handler.whole"),
    ("handler.shared", "handler.whole"),
];

/// Checks that hold an answer against an earlier one.
const COMPARED: &[&str] = &[
    "handler.whole",
    "handler.prompt",
    "handler.master",
    "handler.http",
    "handler.shared",
    "handler.stop",
    "handler.reload",
];

/// A validation in progress.
pub(super) struct Run<'a> {
    pub(super) validate: &'a HaproxyValidation,
    server: &'a haproxy::Haproxy,
    pub(super) selection: &'a Selection,
    pub(super) limit: Limit,
    /// What each check says of each entry that it is about.
    pub(super) said: Vec<(&'static ModuleCheck, Handler, Said)>,
    pub(super) of_rules: Vec<(Handler, rules::Finding)>,
    pub(super) servers: u32,
    pub(super) exercised: BTreeMap<&'static str, u64>,
    /// Entries of which a finding says how a server has died.
    explained: Vec<Handler>,
    /// What ended it before everything was played.
    pub(super) halt: Option<Halt>,
}

/// What came of one check with one entry.
struct Played {
    said: Said,
    shown: Shown,
    /// How a server with code in Lua has died, for which the code is to blame.
    crash: Option<Crash>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        validate: &'a HaproxyValidation,
        server: &'a haproxy::Haproxy,
        selection: &'a Selection,
        limit: Limit,
    ) -> Run<'a> {
        Run {
            validate,
            server,
            selection,
            limit,
            said: Vec::new(),
            of_rules: Vec::new(),
            servers: 0,
            exercised: BTreeMap::new(),
            explained: Vec::new(),
            halt: None,
        }
    }

    /// Plays all of it.
    pub(super) fn play(&mut self, listener: &mut dyn Listener) -> Result<Validation, HaproxyError> {
        let version = self.server.version.to_string();
        let bench = Bench::new(self.validate, self.server, self.limit);
        let discovered = discover(self.validate, &bench)?;
        self.servers += bench.take_shown().servers;
        let discovered = match discovered {
            Ok(discovered) => discovered,
            Err(complaint) => return Ok(self.unloadable(complaint, &version)),
        };
        let rows = self.selection.rows.clone();
        let (first, others): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|row| row.check.id == checks::ANSWERS.id);
        let count = rows.len();
        self.play_rows(&discovered, &first, (0, count), listener)?;
        self.play_rows(&discovered, &others, (first.len(), count), listener)?;
        listener.playing(count, count, &checks::SURVIVES);
        self.halt = self.limit.reached().or(self.halt);
        self.settle();
        Ok(self.validation(&discovered, &version))
    }

    /// Plays each of these rows with each entry; `done` of all `count` are played.
    fn play_rows(
        &mut self,
        discovered: &Discovered,
        rows: &[&'static Row],
        (done, count): (usize, usize),
        listener: &mut dyn Listener,
    ) -> Result<(), HaproxyError> {
        let entries: Vec<&Handler> =
            discovered.entries.iter().filter(|entry| entry.asked.is_some()).collect();
        let acts: Vec<(usize, Act, &Handler)> = rows
            .iter()
            .enumerate()
            .filter_map(|(number, row)| Some((number, row.act?)))
            .flat_map(|(number, act)| entries.iter().map(move |entry| (number, act, *entry)))
            .collect();
        let (Some(_), Some(row)) = (acts.first(), rows.first()) else { return Ok(()) };
        listener.playing(done, count, row.check);
        let unanswered: Vec<Handler> = self
            .said
            .iter()
            .filter(|(check, _, said)| check.id == checks::ANSWERS.id && *said != Said::Holds)
            .map(|(_, entry, _)| entry.clone())
            .collect();
        let refused = Mutex::new(None);
        let player = Player { validate: self.validate, server: self.server, limit: self.limit };
        let work = |item: usize| {
            let Some((number, act, entry)) = acts.get(item) else { return Ok(None) };
            let row = rows.get(*number).filter(|_| goes_on(&refused));
            let Some(row) = row.filter(|_| player.limit.reached().is_none()) else { return Ok(None) };
            if row.compares && unanswered.contains(entry) {
                return Ok(Some(Played::unfit(entry)));
            }
            player.play(row.check.id, *act, entry).map(Some).or_else(|error| {
                let error = ServerError::from(error);
                match (Halt::of(&error), error) {
                    (Some(halt), _) => {
                        *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(halt);
                        Ok(None)
                    }
                    (None, ServerError::Haproxy(error)) => Err(error),
                    (None, error) => Err(HaproxyError::Harness(std::io::Error::other(error))),
                }
            })
        };
        let items =
            Items { alone: vec![false; acts.len()], jobs: self.validate.jobs.unwrap_or(NonZeroUsize::MIN) };
        let mut told = 0;
        let mut results = Vec::new();
        let (limit, validate) = (self.limit, self.validate);
        in_order(&items, work, |item, played| {
            let (Some((number, _, entry)), Some(played)) = (acts.get(item), played) else { return };
            if let Some(row) = rows.get(*number) {
                if *number > told {
                    told = *number;
                    listener.playing(done + told, count, row.check);
                }
                if played.fails(row.check, validate) {
                    limit.found();
                }
                results.push((row.check, (*entry).clone(), played));
            }
        })?;
        for (check, entry, played) in results {
            self.take(check, &entry, played);
        }
        let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.halt = self.halt.or(refused);
        Ok(())
    }

    /// Takes in what is said, and what the servers have shown beside it: a crash that it has explained is no finding of its
    /// own.
    fn take(&mut self, check: &'static ModuleCheck, entry: &Handler, played: Played) {
        let explained = matches!(played.said, Said::Broken { .. });
        let crashes = played.shown.rounds.iter().filter_map(|round| round.crash.as_ref());
        let how =
            crashes.filter(|crash| !entry.lua || !crash.is_fault).map(|crash| crash.how.as_str()).next();
        self.say(check, entry, how.map_or_else(|| played.said.clone(), |how| played.said.clone().with(how)));
        self.servers += played.shown.servers;
        for (id, times) in played.shown.exercised {
            *self.exercised.entry(id).or_default() += times;
        }
        let blamed = played.crash;
        if explained && played.shown.rounds.iter().any(|round| round.crash.is_some()) {
            self.explained.push(entry.clone());
        }
        for round in played.shown.rounds {
            let Round { crash, lua, findings, .. } = round;
            // Of a fault of the server's only what is left after a control is the code's in Lua.
            let crash = crash.filter(|crash| !entry.lua || !crash.is_fault).or(blamed.clone());
            let survived = match crash.filter(|_| !explained) {
                Some(crash) => Said::broken("the server lives", crash.how),
                None => Said::Holds,
            };
            self.say(&checks::SURVIVES, entry, survived);
            if entry.lua {
                let said = lua
                    .into_iter()
                    .next()
                    .map_or(Said::Holds, |line| Said::broken("no error of Lua", visible_line(&line)));
                self.say(&checks::LUA_ERROR, entry, said);
            }
            let wanted = findings
                .into_iter()
                .filter(|found| self.selection.rules.iter().any(|rule| rule.id == found.rule));
            self.of_rules.extend(wanted.map(|found| (entry.clone(), found)));
        }
    }

    /// A fault has one finding: what only shows it again stands under that, and says nothing of its own.
    fn settle(&mut self) {
        let broken: Vec<(&str, Handler)> = self
            .said
            .iter()
            .filter(|(.., said)| matches!(said, Said::Broken { .. }))
            .map(|(check, entry, _)| (check.id, entry.clone()))
            .collect();
        for (check, entry, said) in &mut self.said {
            let first = FOLLOWS.iter().find(|(later, first)| {
                *later == check.id && broken.iter().any(|(id, one)| id == first && one == entry)
            });
            let told = check.id == checks::SURVIVES.id && self.explained.contains(entry);
            if matches!(said, Said::Broken { .. }) && (first.is_some() || told) {
                let first = first.map_or("the other finding", |(_, first)| first);
                *said = Said::Unfit(format!("what it has met is told by {first}"));
            }
        }
    }

    fn say(&mut self, check: &'static ModuleCheck, entry: &Handler, said: Said) {
        if self.selection.has(check.id) {
            self.said.push((check, entry.clone(), said));
        }
    }
}

fn goes_on(refused: &Mutex<Option<Halt>>) -> bool {
    refused.lock().unwrap_or_else(PoisonError::into_inner).is_none()
}

impl Played {
    /// Nothing is played: there is no answer to compare with.
    fn unfit(entry: &Handler) -> Played {
        let asked = entry.asked.clone().unwrap_or_else(|| Asked::Command(entry.name.clone()));
        Played { said: Said::Unfit(no_answer(&asked)), shown: Shown::default(), crash: None }
    }

    /// Something is found that fails the run.
    fn fails(&self, check: &ModuleCheck, validate: &HaproxyValidation) -> bool {
        let broken = matches!(self.said, Said::Broken { .. });
        let counts = self.said.verdict(check).exit() == Exit::Violation || validate.denies(check.id);
        let shown = self.shown.rounds.iter().any(|round| !round.lua.is_empty() || !round.findings.is_empty());
        (broken && counts && !validate.knows(check.id)) || self.crash.is_some() || shown
    }
}

/// Plays one check with one entry, in a thread of its own.
struct Player<'a> {
    validate: &'a HaproxyValidation,
    server: &'a haproxy::Haproxy,
    limit: Limit,
}

impl Player<'_> {
    fn play(&self, id: &str, act: Act, entry: &Handler) -> Result<Played, HaproxyError> {
        let mut shown = Shown::default();
        let mut last = None;
        for _ in 0..TRIES {
            let (said, now) = self.once(act, entry)?;
            let fault =
                now.rounds.iter().filter_map(|round| round.crash.clone()).find(|crash| crash.is_fault);
            shown.add(now);
            match (fault.filter(|_| entry.lua), self.limit.reached()) {
                // What is late because the run is over is not late by itself.
                (_, Some(halt)) if halt != Halt::Found && matches!(said, Said::Broken { .. }) => {
                    let said = Said::Undecided(halt.reason());
                    return Ok(Played { said, shown: Shown { rounds: Vec::new(), ..shown }, crash: None });
                }
                (None, _) => {
                    let said = self.of_the_code(act, entry, said, &mut shown)?;
                    let said = match COMPARED.contains(&id) {
                        true => self.whatever_the_time(entry, said, &mut shown)?,
                        false => said,
                    };
                    return Ok(Played { said, shown, crash: None });
                }
                (Some(fault), _) => last = Some(fault),
            }
        }
        let Some(fault) = last else { return Ok(Played { said: Said::Holds, shown, crash: None }) };
        let how = &fault.how;
        let control = self.control(act, entry, &mut shown)?;
        let (said, crash) = match control {
            Control::Dies => {
                (format!("the server dies of a command in Lua that does no harm, too: {how}"), None)
            }
            Control::Fails | Control::Holds => (format!("the server dies of it: {how}"), Some(fault)),
        };
        Ok(Played { said: Said::Undecided(said), shown, crash })
    }

    fn once(&self, act: Act, entry: &Handler) -> Result<(Said, Shown), HaproxyError> {
        let bench = Bench::new(self.validate, self.server, self.limit);
        let said = act(&bench, entry)?;
        Ok((said, bench.take_shown()))
    }

    /// What is said of code in Lua, unless the server does the same with a command in Lua that does no harm: HAProxy 3.3.0 cuts
    /// answers short when there are several at a time.
    fn of_the_code(
        &self,
        act: Act,
        entry: &Handler,
        said: Said,
        shown: &mut Shown,
    ) -> Result<Said, HaproxyError> {
        if !entry.lua || entry.service || !matches!(said, Said::Broken { .. }) {
            return Ok(said);
        }
        Ok(match self.control(act, entry, shown)? {
            Control::Holds => said,
            Control::Dies | Control::Fails => {
                Said::Unfit("this server does the same with a command in Lua that does no harm".to_owned())
            }
        })
    }

    /// What is said of code, unless what it answers changes with time by itself: answers that are compared do not come at once.
    fn whatever_the_time(
        &self,
        entry: &Handler,
        said: Said,
        shown: &mut Shown,
    ) -> Result<Said, HaproxyError> {
        if !matches!(said, Said::Broken { .. }) {
            return Ok(said);
        }
        let (steady, now) = self.once(steady, entry)?;
        shown.servers += now.servers;
        Ok(if steady == Said::Holds { said } else { steady })
    }

    /// Plays the same with a command in Lua of our own.
    fn control(&self, act: Act, entry: &Handler, shown: &mut Shown) -> Result<Control, HaproxyError> {
        let asked = Some(Asked::Command("layers lines".to_owned()));
        let control = Handler { name: "layers lines".to_owned(), service: false, asked, ..entry.clone() };
        for _ in 0..TRIES {
            let (said, now) = self.once(act, &control)?;
            let dies = now.rounds.iter().any(|round| round.crash.is_some());
            shown.servers += now.servers;
            if dies {
                return Ok(Control::Dies);
            }
            if matches!(said, Said::Broken { .. }) {
                return Ok(Control::Fails);
            }
        }
        Ok(Control::Holds)
    }
}

/// What comes of a check with a command in Lua that does no harm.
enum Control {
    /// The server dies.
    Dies,
    /// The check finds something.
    Fails,
    /// Nothing is found.
    Holds,
}
