//! Measuring two things in turns, so that whatever else the machine does meets both.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::time::{Duration, Instant};

/// Rounds of two measurements.
pub(super) struct SideBySide {
    rounds: Vec<(Duration, Duration)>,
}

impl SideBySide {
    /// Takes this many rounds after a few to warm up; the order changes from one to the next.
    pub(super) fn measure(
        rounds: usize,
        mut one: impl FnMut() -> Duration,
        mut other: impl FnMut() -> Duration,
    ) -> SideBySide {
        let warm_up = (rounds / 10).max(1);
        let taken = (0..warm_up + rounds).map(|round| {
            if round % 2 == 0 {
                let first = one();
                (first, other())
            } else {
                let second = other();
                (one(), second)
            }
        });
        SideBySide { rounds: taken.skip(warm_up).collect() }
    }

    /// Median of the one.
    pub(super) fn one(&self) -> Duration {
        median(self.rounds.iter().map(|round| round.0.as_secs_f64()))
            .map_or(Duration::ZERO, Duration::from_secs_f64)
    }

    /// Median of the other.
    pub(super) fn other(&self) -> Duration {
        median(self.rounds.iter().map(|round| round.1.as_secs_f64()))
            .map_or(Duration::ZERO, Duration::from_secs_f64)
    }

    /// Median of what the one takes for each unit of the other, round by round.
    pub(super) fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|(one, other)| one.as_secs_f64() / other.as_secs_f64()))
            .unwrap_or(f64::NAN)
    }
}

/// Wall-clock time of this.
pub(super) fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The value in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// One line: what was measured, what is asked, and whether it is reached.
pub(super) fn verdict(what: &str, measured: String, budget: &str, reached: bool) {
    let word = if reached { "reached" } else { "MISSED" };
    println!("{what:<64} {measured:>14}   budget {budget:<12} {word}");
}
