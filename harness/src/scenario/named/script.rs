//! The pieces that scenarios are written with: steps of clients, failures and deeds of callbacks.

use layers_behaviour::{Act, Deed, Failure, Telling};
use layers_trace::{Callback, Operation};

use super::super::{Step, command};
use crate::client::nbd::Wishes;
use crate::client::raw::Message;

pub(super) fn connect(client: u32) -> Step {
    Step::Connect(client, Wishes::default())
}

pub(super) fn go(client: u32, export: &str) -> Step {
    Step::Go(client, export.to_owned())
}

pub(super) fn info(client: u32, export: &str) -> Step {
    Step::Info(client, export.to_owned())
}

pub(super) fn say(client: u32, messages: impl Into<Vec<Message>>) -> Step {
    Step::Say(client, messages.into())
}

pub(super) fn read(client: u32) -> Step {
    Step::Request(client, command(Operation::Read, 0, 512, 0))
}

/// Every call of this callback fails with EIO.
pub(super) fn always(callback: Callback) -> Failure {
    Failure { callback, nth: None, errno: libc::EIO, after_next: false, told: Telling::Both }
}

/// Its n-th call fails with EIO.
pub(super) fn nth(callback: Callback, nth: u32) -> Failure {
    Failure { nth: Some(nth), ..always(callback) }
}

/// A filter's n-th call fails after the layer below has succeeded.
pub(super) fn nth_after_next(callback: Callback, n: u32) -> Failure {
    Failure { after_next: true, ..nth(callback, n) }
}

/// This deed in every call of this callback.
pub(super) fn act(callback: Callback, deed: Deed) -> Act {
    Act { callback, nth: None, deed }
}

/// This deed in its n-th call.
pub(super) fn act_nth(callback: Callback, nth: u32, deed: Deed) -> Act {
    Act { nth: Some(nth), ..act(callback, deed) }
}
