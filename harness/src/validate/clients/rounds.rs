//! The same again and again: what each takes from malloc it has given back when its connection is closed.
//!
//! The instrument records how much is in use whenever the plugin has closed a handle. Only what grows in every round, and by
//! as much as every single request or connection could leave, is lost: caches fill up, and threads get memory of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use layers_trace::record::Record;
use layers_trace::{Kind, Probe, Writer};

use super::super::case::{Stop, Wrong};
use super::super::op::{Repeated, Request};
use super::{Clients, OWN, perhaps, whatever};
use crate::server::nbdkit::Server;
use crate::server::process::Woken;

/// Rounds that are compared; the first one fills what is filled once.
const ROUNDS: usize = 4;
/// One round takes no longer, however slow the subject is, and makes at least so many.
const MOST_TIME: Duration = Duration::from_millis(60);
const FEWEST: u32 = 2;
/// The least that one request or connection can leave behind: what malloc gives at the least, less its own overhead.
const LEAST_EACH: u64 = 16;
/// What may come from one round to the next for other reasons.
const SLACK: u64 = 2048;
/// The name of an export that nobody has.
const UNLISTED: &str = "layers: an export that is not listed";

impl Clients {
    /// So many clients ask for an export that is not listed. A plugin may serve it all the same.
    pub(super) fn refusals(&mut self, server: &mut Server, times: u32) -> Result<(), Stop> {
        for _ in 0..times {
            self.begin_step();
            self.one_refusal(server)?;
        }
        Ok(())
    }

    fn one_refusal(&mut self, server: &mut Server) -> Result<(), Stop> {
        match self.connect(server, OWN, UNLISTED) {
            Ok(()) => self.disconnect(server, OWN),
            Err(Stop::Gone(_)) => Ok(()),
            other => perhaps(other),
        }
    }

    /// Several rounds of so many of these.
    pub(super) fn rounds(
        &mut self,
        server: &mut Server,
        times: u32,
        what: &Repeated,
        export: &str,
    ) -> Result<(), Stop> {
        let mut held = Vec::new();
        let mut most = times;
        // Between the first one and the others there is one without any request: what its connection keeps is not theirs.
        let is_of_requests = matches!(what, Repeated::Request(_));
        let rounds = if is_of_requests { ROUNDS + 1 } else { ROUNDS };
        for round in 0..rounds {
            let is_bare = is_of_requests && round == 1;
            let wanted = if is_bare { 0 } else { most };
            let (done, bytes) = self.round(server, wanted, what, export, round == 0)?;
            most = if is_bare { most } else { done };
            // Without a C library that tells, nothing is known.
            let Some(bytes) = bytes else { return Ok(()) };
            held.push(bytes);
        }
        let grown = |pair: &[u64]| Some(pair.get(1)?.saturating_sub(*pair.first()?));
        let mut growth = held.windows(2).filter_map(grown);
        let of_connection = if is_of_requests { growth.next().unwrap_or(0) } else { 0 };
        let least = (LEAST_EACH * u64::from(most)).max(SLACK);
        let lost = growth.map(|bytes| bytes.saturating_sub(of_connection)).min();
        lost.filter(|lost| *lost >= least).map_or(Ok(()), |lost| {
            let (times, each) = (most, lost / u64::from(most.max(1)));
            Err(Stop::Wrong(Wrong::new(
                format!("{} give back what they allocate", what.many()),
                format!("after each {times} of them {lost} bytes more are in use, {each} for each"),
            )))
        })
    }

    /// How many there were, and the bytes in use behind them.
    fn round(
        &mut self,
        server: &mut Server,
        times: u32,
        what: &Repeated,
        export: &str,
        first: bool,
    ) -> Result<(u32, Option<u64>), Stop> {
        let begun = Instant::now();
        let mut done = 0;
        let goes_on = |done: u32| done < times && !(first && done >= FEWEST && begun.elapsed() > MOST_TIME);
        if let Repeated::Request(request) = what {
            self.begin_step();
            self.connect(server, OWN, export)?;
            while goes_on(done) {
                self.begin_step();
                whatever(self.request(&Request { client: OWN, ..*request }))?;
                done += 1;
            }
        } else {
            while goes_on(done) {
                self.begin_step();
                match what {
                    Repeated::Refusals => self.one_refusal(server)?,
                    Repeated::Listings => whatever(self.list(server))?,
                    _ => {
                        self.connect(server, OWN, export)?;
                        self.disconnect(server, OWN)?;
                    }
                }
                done += 1;
            }
            self.begin_step();
            self.connect(server, OWN, export)?;
        }
        let gone = || Stop::Gone("measuring".to_owned());
        let trace = server.trace().ok_or_else(gone)?;
        let from = trace.cursor();
        self.disconnect(server, OWN)?;
        match server.wait_until(self.deadline, |_| allocated(&trace, from).is_some()) {
            Woken::Happened => {
                Ok((done, allocated(&trace, from).filter(|told| told.a == 1).map(|told| told.b)))
            }
            Woken::Dead => Err(gone()),
            Woken::Late => Err(Stop::NoAnswer("disconnect".to_owned())),
        }
    }
}

/// What the instrument has recorded since.
fn allocated(trace: &Arc<Writer>, from: u64) -> Option<Record> {
    let is_told =
        |record: &Record| (record.kind, record.callback) == (Kind::Probe as u8, Probe::Allocated as u8);
    (from..trace.cursor()).filter_map(|position| trace.published(position)).rfind(is_told)
}
