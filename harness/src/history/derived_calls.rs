//! What is asked of a layer and what the server makes of it: the data calls made for a client's request, or below a data call
//! of a filter. Emulation shows there: one request for zeroes, and several writes.

use layers_trace::{Callback, Event, Operation, digest};

/// NBDKIT_FLAG_MAY_TRIM
pub const MAY_TRIM: u32 = 1 << 0;
/// NBDKIT_FLAG_FUA
pub const FUA: u32 = 1 << 1;
/// NBDKIT_FLAG_REQ_ONE
pub const REQ_ONE: u32 = 1 << 2;
/// NBDKIT_FLAG_FAST_ZERO
pub const FAST_ZERO: u32 = 1 << 3;

/// Calls that are remembered of one request: 4 GiB in pieces of 64 MiB, and some more.
const MOST_MADE: usize = 80;

/// A data call made for something.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its enter.
    pub enter: Event,
    /// Its callback.
    pub callback: Callback,
    /// Its exit, once it has returned.
    pub exit: Option<Event>,
    /// What happened inside it.
    pub inside: Inside,
}

/// What happened inside a call that has returned, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// Calls of the plugin's flush.
    pub flushes: u32,
    /// Writes of the plugin that were looked at and had other bytes than zero.
    pub nonzero: u32,
    /// Writes of the plugin that were looked at.
    pub looked_at: u32,
}

/// Data calls made one after another for the same thing.
#[derive(Clone, Debug, Default)]
pub struct MadeList {
    calls: Vec<Made>,
    more: u32,
}

impl MadeList {
    /// The calls, in order.
    pub fn calls(&self) -> &[Made] {
        &self.calls
    }

    /// Nothing is missing in it because there were too many.
    pub fn is_whole(&self) -> bool {
        self.more == 0
    }

    pub(super) fn push(&mut self, enter: &Event, callback: Callback) {
        if self.calls.len() >= MOST_MADE {
            self.more += 1;
            return;
        }
        self.calls.push(Made { enter: enter.clone(), callback, exit: None, inside: Inside::default() });
    }

    /// The call that entered here has returned, after these calls inside it.
    pub(super) fn returned(&mut self, exit: &Event, enter: &Event, inside: &MadeList) {
        if let Some(made) = self.calls.iter_mut().rev().find(|made| made.enter.position == enter.position) {
            made.exit = Some(exit.clone());
            made.inside = sum_of(exit, made.callback, inside);
        }
    }
}

impl Made {
    /// 0 is the plugin.
    pub fn layer(&self) -> u8 {
        self.enter.layer
    }

    /// It has returned, with success.
    pub fn succeeded(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.result() == 0)
    }

    /// It has returned, with a failure.
    pub fn failed(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.result() < 0)
    }
}

fn sum_of(exit: &Event, callback: Callback, inside: &MadeList) -> Inside {
    let mut sum = Inside::default();
    for made in &inside.calls {
        sum.flushes += made.inside.flushes;
        sum.nonzero += made.inside.nonzero;
        sum.looked_at += made.inside.looked_at;
    }
    if exit.layer == 0 {
        sum.flushes += u32::from(callback == Callback::Flush);
        if callback == Callback::Pwrite {
            sum.nonzero += u32::from(![digest::NONE, digest::ZEROES].contains(&exit.b));
            sum.looked_at += u32::from(exit.b != digest::NONE);
        }
    }
    sum
}

/// The callback that serves this operation, where nothing is emulated.
pub fn callback_of(operation: Operation) -> Option<Callback> {
    Some(match operation {
        Operation::Read => Callback::Pread,
        Operation::Write => Callback::Pwrite,
        Operation::Flush => Callback::Flush,
        Operation::Trim => Callback::Trim,
        Operation::Zero => Callback::Zero,
        Operation::Cache => Callback::Cache,
        Operation::BlockStatus => Callback::Extents,
        _ => return None,
    })
}

/// The same callback in the present version of the plugin interface.
pub fn present(callback: Callback) -> Callback {
    match callback {
        Callback::PreadV1 => Callback::Pread,
        Callback::PwriteV1 => Callback::Pwrite,
        Callback::FlushV1 => Callback::Flush,
        Callback::TrimV1 => Callback::Trim,
        Callback::ZeroV1 => Callback::Zero,
        other => other,
    }
}
