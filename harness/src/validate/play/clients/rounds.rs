//! The same again and again: what each takes from malloc it has given back when its connection is closed.
//!
//! The instrument records how much is in use whenever the plugin has closed a handle. Only what grows in every round, and by
//! as much as every single request or connection could leave, is lost: caches fill up, and threads get memory of their own.
//! A little that grows is looked at for longer: it is lost where each leaves the same of it, to the byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use layers_trace::record::Record;
use layers_trace::{Callback, Kind, Probe, Writer};

use super::stops::{perhaps, whatever};
use super::{Clients, OWN};
use crate::server::Observer;
use crate::server::nbdkit::Server;
use crate::server::process::Woken;
use crate::validate::play::stop::{Stop, Wrong};
use crate::validate::script::op::{DiskRequest, Repeated};

/// Rounds that are compared, behind a first one, which fills what is filled once.
const ROUNDS: usize = 3;
/// More of them where little grows: what grows by chance does not grow in each.
const MORE_ROUNDS: usize = 5;
/// So many for a round to tell a little from nothing.
const TELLING: u64 = 3;
/// One round takes no longer, however slow the subject is, and makes at least so many.
const MOST_TIME: Duration = Duration::from_millis(60);
const FEWEST: u32 = 3;
/// The least that one request or connection can leave behind: what malloc gives at the least, less its own overhead.
const LEAST_EACH: u64 = 16;
/// What malloc gives is a multiple of it.
const GRANULE: u64 = 16;
/// What may come from one round to the next for other reasons.
const SLACK: u64 = 2048;
/// The name of an export that nobody has.
const UNLISTED: &str = "layers: an export that is not listed";

impl Clients {
    /// So many clients ask for an export that is not listed. A plugin may serve it all the same.
    pub(super) fn refusals(&mut self, server: &mut Server, times: u32) -> Result<(), Stop> {
        for _ in 0..times {
            self.goes_on("refusals")?;
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
        let mut most = times;
        // Between the first one and the others there is one with nothing but its last connection: what that keeps is not theirs.
        let is_of_connections = *what == Repeated::Connections;
        let Some(mut before) = self.round(server, &mut most, what, export, true)? else { return Ok(()) };
        let mut growth = Vec::new();
        let mut of_connection = 0;
        if !is_of_connections {
            let Some(bytes) = self.round(server, &mut 0, what, export, false)? else { return Ok(()) };
            of_connection = bytes.saturating_sub(before);
            before = bytes;
        }
        // The connection at whose end it is measured is one more of them.
        let each = |most: u32| u64::from(most) + u64::from(is_of_connections);
        for number in 1..=ROUNDS + MORE_ROUNDS {
            let Some(bytes) = self.round(server, &mut most, what, export, false)? else { return Ok(()) };
            growth.push(bytes.saturating_sub(before).saturating_sub(of_connection));
            before = bytes;
            let least = growth.iter().copied().min().unwrap_or(0);
            let is_a_little = (LEAST_EACH * each(most)..SLACK).contains(&least);
            if number >= ROUNDS && !is_a_little {
                break;
            }
        }
        if lost(&growth, each(most)).is_some() && !is_of_connections {
            // What a connection leaves by itself is not always the same: it is measured again, and the more of it is not theirs.
            let Some(bytes) = self.round(server, &mut 0, what, export, false)? else { return Ok(()) };
            let more = bytes.saturating_sub(before).saturating_sub(of_connection);
            growth.iter_mut().for_each(|growth| *growth = growth.saturating_sub(more));
        }
        lost(&growth, each(most)).map_or(Ok(()), |lost| {
            let (times, each) = (most, lost / each(most).max(1));
            Err(Stop::Wrong(Wrong::new(
                format!("{} give back what they allocate", what.many()),
                format!("after each {times} of them {lost} bytes more are in use, {each} for each"),
            )))
        })
    }

    /// The bytes in use behind so many; where the C library does not tell, nothing is known. The `first` round makes fewer where
    /// they take long, and says how many.
    fn round(
        &mut self,
        server: &mut Server,
        most: &mut u32,
        what: &Repeated,
        export: &str,
        first: bool,
    ) -> Result<Option<u64>, Stop> {
        let begun = Instant::now();
        let (times, mut done) = (*most, 0);
        let goes_on = |done: u32| done < times && !(first && done >= FEWEST && begun.elapsed() > MOST_TIME);
        if let Repeated::Request(request) = what {
            self.begin_step();
            self.connect(server, OWN, export)?;
            while goes_on(done) {
                self.goes_on("rounds")?;
                self.begin_step();
                whatever(self.request(&DiskRequest { client: OWN, ..*request }))?;
                done += 1;
            }
        } else {
            while goes_on(done) {
                self.goes_on("rounds")?;
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
        *most = done;
        let gone = || Stop::Gone("measuring".to_owned());
        let trace = server.trace().ok_or_else(gone)?;
        let from = trace.cursor();
        self.disconnect(server, OWN)?;
        // A filter may serve a client without the plugin: then nothing is measured.
        let enough = |seen: &Observer| {
            allocated(&trace, from).is_some() || seen.entered(0, Callback::Open) == 0 && seen.open() == 0
        };
        match server.wait_until(self.deadline, enough) {
            Woken::Happened => Ok(allocated(&trace, from).filter(|told| told.a == 1).map(|told| told.b)),
            Woken::Dead => Err(gone()),
            Woken::Late => Err(Stop::NoAnswer("disconnect".to_owned())),
        }
    }
}

/// Bytes that a round of so many leaves behind, after what has grown in each of several rounds.
fn lost(growth: &[u64], times: u64) -> Option<u64> {
    let least = growth.iter().copied().min()?;
    // What each leaves is the same. Of what malloc gives a granule may be left over where a round begins, and where it ends.
    let whole = least.next_multiple_of((GRANULE * times).max(1));
    let lacks = |bytes: u64, granules: u64| bytes <= whole && whole - bytes <= granules * GRANULE;
    let is_of_each = lacks(least, 2) && growth.iter().any(|bytes| lacks(*bytes, 1));
    let enough =
        if times >= TELLING && is_of_each { LEAST_EACH * times } else { (LEAST_EACH * times).max(SLACK) };
    (least >= enough).then_some(least)
}

/// What the instrument has recorded since.
fn allocated(trace: &Arc<Writer>, from: u64) -> Option<Record> {
    let is_told =
        |record: &Record| (record.kind, record.callback) == (Kind::Probe as u8, Probe::Allocated as u8);
    (from..trace.cursor()).filter_map(|position| trace.published(position)).rfind(is_told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_in_each_round_is_lost_and_a_little_of_it_where_each_leaves_the_same() {
        assert_eq!(lost(&[4096, 5000, 4100], 16), Some(4096));
        assert_eq!(lost(&[4096, 0, 4100], 16), None);
        assert_eq!(lost(&[800, 544, 1056], 17), Some(544));
        assert_eq!(lost(&[800, 560, 1056], 17), None, "it is not the same for each");
        assert_eq!(lost(&[136, 136, 136], 17), None, "malloc gives no less than 16 bytes");
        assert_eq!(lost(&[96, 96, 96], 2), None, "so few tell nothing");
        assert_eq!(lost(&[1024, 1008, 1024], 16), Some(1008), "64 for each, and a granule was there");
        assert_eq!(lost(&[992, 992, 992], 16), None, "every number of bytes is a multiple of 16");
        assert_eq!(lost(&[1424, 1616, 992, 1024], 16), Some(992), "a granule more in the round before");
        assert_eq!(lost(&[1424, 1616, 976, 1024], 16), None);
        assert_eq!(lost(&[], 16), None);
    }
}
