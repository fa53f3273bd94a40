//! CLOCK_MONOTONIC, read as cheaply as the processor allows.
//!
//! clock_gettime(2) is most of the cost of a recorded event, and most of that is its ordering of instructions, which
//! a trace does not need: the cursor orders events. Where the kernel itself trusts the time stamp counter, a trace
//! carries the rate of that counter, and times are counter readings turned into nanoseconds.

use std::sync::OnceLock;

/// Shortest time over which the counter is compared with the clock. A comparison is good to some 20 ns, so that a
/// trace's clock is off by at most one part in ten thousand, and its start is exact.
const CALIBRATION: u64 = 200_000;

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Wall clock, nanoseconds since 1970.
pub(crate) fn realtime() -> u64 {
    read(libc::CLOCK_REALTIME)
}

fn read(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// One instant on both clocks, and the rate between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(crate) monotonic: u64,
    /// Counter reading.
    pub(crate) ticks: u64,
    /// Nanoseconds a tick, times 2^32; 0 where the counter cannot be trusted.
    pub(crate) rate: u64,
}

impl Anchor {
    /// The present instant. The first call in a process takes [`CALIBRATION`] nanoseconds.
    pub(crate) fn now() -> Anchor {
        static FIRST: OnceLock<Option<(u64, u64)>> = OnceLock::new();
        let Some((first_ticks, first)) = FIRST.get_or_init(|| counter_is_trusted().then(instant)) else {
            return Anchor { monotonic: monotonic(), ticks: 0, rate: 0 };
        };
        loop {
            let (ticks, monotonic) = instant();
            let elapsed = monotonic.saturating_sub(*first);
            if elapsed >= CALIBRATION {
                let ticked = u128::from(ticks.saturating_sub(*first_ticks).max(1));
                let rate = u64::try_from((u128::from(elapsed) << 32) / ticked).unwrap_or(0);
                return Anchor { monotonic, ticks, rate };
            }
            std::hint::spin_loop();
        }
    }

    /// CLOCK_MONOTONIC now, in nanoseconds, as the rate tells it.
    #[inline]
    pub(crate) fn time(self) -> u64 {
        if self.rate == 0 { monotonic() } else { self.at(ticks()) }
    }

    #[inline]
    fn at(self, ticks: u64) -> u64 {
        // A processor whose counter lags by a few ticks must not turn them into centuries.
        let elapsed = u128::from(ticks.saturating_sub(self.ticks)) * u128::from(self.rate);
        self.monotonic.wrapping_add((elapsed >> 32) as u64)
    }
}

/// Both clocks at one instant: of a few readings, the one that was interrupted least.
fn instant() -> (u64, u64) {
    let reading = || {
        let before = ticks();
        let monotonic = monotonic();
        let width = ticks().saturating_sub(before);
        (width, before + width / 2, monotonic)
    };
    let best =
        (0..4).map(|_| reading()).fold(reading(), |best, next| if next.0 < best.0 { next } else { best });
    (best.1, best.2)
}

/// The kernel has checked that the counter runs at one rate and agrees between processors.
fn counter_is_trusted() -> bool {
    cfg!(target_arch = "x86_64")
        && std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source == b"tsc\n")
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux allows it to every program.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ticks() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_keeps_to_the_real_one() {
        let anchor = Anchor::now();
        let start = monotonic();
        while monotonic() < start + 1_000_000 {}
        let (before, time, after) = (monotonic(), anchor.time(), monotonic());
        // One part in a thousand, ten times what the calibration promises.
        assert!(time + 1_000 >= before && time <= after + 1_000, "{before} {time} {after}");
    }

    #[test]
    fn a_counter_behind_the_anchor_reads_as_the_anchor() {
        let anchor = Anchor { monotonic: 500, ticks: 1_000, rate: 1 << 32 };
        assert_eq!(anchor.at(999), 500);
        assert_eq!(anchor.at(1_007), 507);
    }

    #[test]
    fn without_a_rate_the_clock_is_asked() {
        let before = monotonic();
        let time = Anchor { monotonic: 0, ticks: 0, rate: 0 }.time();
        assert!((before..=monotonic()).contains(&time));
    }
}
