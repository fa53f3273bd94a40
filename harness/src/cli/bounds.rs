//! What a whole run may take: time, and memory for traces.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use crate::campaign::halt::Limit;
use crate::campaign::trace_room::{self, MOST_MIB};
use crate::outcome::Exit;

/// Seconds for a whole run, where it is bounded and nobody has said otherwise.
const TIME: u64 = 600;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// Seconds that the whole run may take; what is not over by then cannot be judged [default: 600]
    #[arg(long, value_name = "SECONDS")]
    time: Option<NonZeroU64>,
    /// MiB of memory for the trace, of which every event takes 64 bytes or more [default: 256, or 64 for HAProxy]
    #[arg(long, value_name = "MIB")]
    trace_room: Option<NonZeroU64>,
}

impl Arguments {
    /// The end of the run that begins now.
    pub(super) fn limit(&self) -> Limit {
        Limit::new(Some(self.time()))
    }

    pub(super) fn time(&self) -> Duration {
        time(self.time)
    }

    /// MiB for the trace, where it was said.
    pub(super) fn room(&self) -> Result<Option<u64>, Failure> {
        mib(self.trace_room)
    }

    /// Records for which the trace has room.
    pub(super) fn records(&self, usual: u64) -> Result<u64, Failure> {
        Ok(self.room()?.map_or(usual, trace_room::records))
    }
}

/// What a whole run may take.
pub(super) fn time(seconds: Option<NonZeroU64>) -> Duration {
    Duration::from_secs(seconds.map_or(TIME, NonZeroU64::get))
}

/// MiB for a trace; more than a trace can have is an error.
pub(super) fn mib(asked: Option<NonZeroU64>) -> Result<Option<u64>, Failure> {
    match asked.map(NonZeroU64::get) {
        Some(mib) if mib > MOST_MIB => {
            let what = format!("a trace cannot have {mib} MiB, and {MOST_MIB} at most (--trace-room)");
            Err(Failure::new(Exit::Usage, what))
        }
        asked => Ok(asked),
    }
}

/// The same as a number of records.
pub(super) fn records(asked: Option<NonZeroU64>) -> Result<Option<u64>, Failure> {
    Ok(mib(asked)?.map(trace_room::records))
}
