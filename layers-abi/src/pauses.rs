//! Pauses of calls, so that those which run side by side meet where they share something.
//!
//! Some calls wait, for a moment at most, until another one comes in on the same layer, and then both go on at once, one of
//! them a little later than the other; some sleep before they begin; some sleep when the target has returned; most sleep
//! somewhere in the middle ([`crate::midway`]). A filter's pause, too, where it calls the layer below: there that layer's
//! calls do the same. Which call does what follows from a number. Only `layers validate` asks for that
//! ([`PAUSES_VARIABLE`]): everywhere else calls go straight on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use layers_behaviour::PAUSES_VARIABLE;

/// A call waits no longer for another one.
const MEETING: Duration = Duration::from_micros(300);
/// So many calls that have met nobody: then only some wait any more.
const MOST_ALONE: u32 = 16;
/// The longest sleep, in microseconds, as a power of two.
const LONGEST: u32 = 8;
/// Places in the middle of a call: it pauses at one of so many, and at one of so many more.
const EARLY: u32 = 6;
const LATE: u32 = 40;
/// The longest delay of one of two calls that have met, in nanoseconds, as a power of two.
const DELAY: u32 = 12;

/// Where the calls of one layer pause.
#[derive(Debug)]
pub struct Pauses {
    seed: u64,
    /// Numbers that were drawn.
    drawn: AtomicU64,
    /// The call that waits for another one; 0 when none does.
    waiting: AtomicU64,
    /// Calls in a row that have met nobody.
    alone: AtomicU32,
}

impl Pauses {
    /// Returns true where the environment asks for them.
    pub(crate) fn are_asked_for() -> bool {
        std::env::var_os(PAUSES_VARIABLE).is_some()
    }

    /// What the environment asks for.
    pub fn asked_for(layer: u8) -> Option<&'static Pauses> {
        let seed: u64 = std::env::var(PAUSES_VARIABLE).ok()?.parse().ok()?;
        // LentString for ever: a thread that is left in a call may come back at any time.
        Some(Box::leak(Box::new(Pauses::new(seed ^ u64::from(layer) << 56))))
    }

    fn new(seed: u64) -> Pauses {
        let (drawn, waiting, alone) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU32::new(0));
        Pauses { seed, drawn, waiting, alone }
    }

    /// The target is called next. Returns the places in the middle of the call at which it pauses.
    pub fn before(&self) -> [u32; 2] {
        let (number, call) = self.draw();
        let has_met = number % 16 < 12 && self.meet(call);
        match number % 16 {
            0..12 if has_met && number & 1 << 8 != 0 => {
                spin(Duration::from_nanos(short(number >> 16, DELAY)));
            }
            12..14 => sleep(short(number >> 16, LONGEST)),
            _ => {}
        }
        // One of the first few places, and one of many.
        [1 + (number >> 32) as u32 % EARLY, 1 + (number >> 40) as u32 % LATE]
    }

    /// The target comes to a place where it is to pause.
    pub(crate) fn midway(&self) {
        let (number, _) = self.draw();
        sleep(short(number >> 16, LONGEST));
    }

    /// The target has returned.
    pub fn after(&self) {
        let (number, _) = self.draw();
        if number.is_multiple_of(16) {
            sleep(short(number >> 16, LONGEST));
        }
    }

    /// A number that follows from the seed, and which one it is.
    fn draw(&self) -> (u64, u64) {
        let nth = self.drawn.fetch_add(1, Ordering::Relaxed);
        let x = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.seed);
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31, nth)
    }

    /// Waits for another call to come in, or goes on with one that waits. Where calls never run side by side few wait.
    fn meet(&self, call: u64) -> bool {
        let there = self.waiting.load(Ordering::Acquire);
        let taken = |there| self.waiting.compare_exchange(there, 0, Ordering::AcqRel, Ordering::Relaxed);
        if there != 0 && taken(there).is_ok() {
            self.alone.store(0, Ordering::Relaxed);
            return true;
        }
        let alone = self.alone.load(Ordering::Relaxed);
        if alone >= MOST_ALONE && !call.is_multiple_of(u64::from(MOST_ALONE)) {
            return false;
        }
        if self.waiting.compare_exchange(0, call, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let begun = Instant::now();
        while self.waiting.load(Ordering::Acquire) == call {
            if begun.elapsed() > MEETING && taken(call).is_ok() {
                self.alone.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }
}

/// A number below a power of two that is none but this one's largest: short times come as often as long ones.
fn short(number: u64, largest: u32) -> u64 {
    (number >> 8) % (1 << (number % u64::from(largest + 1)))
}

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn sleep(microseconds: u64) {
    std::thread::sleep(Duration::from_micros(microseconds));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_meet_and_one_alone_goes_on() {
        let pauses = Pauses::new(1);
        assert!(!pauses.meet(5));
        let met: usize = std::thread::scope(|scope| {
            let call = |number: u64| {
                let pauses = &pauses;
                scope.spawn(move || (0..1000).filter(|nth| pauses.meet(1 + nth * 2 + number)).count())
            };
            [call(0), call(1)].into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert!(met > 0);
    }

    #[test]
    fn what_a_call_does_follows_from_the_seed() {
        let numbers = |seed| {
            let pauses = Pauses::new(seed);
            (0..8).map(|_| pauses.draw().0).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!((0..1000).all(|number| short(number * 77_777, 8) < 256));
    }
}
