//! What a layer does beside its work: end the server, sleep, manage contexts.

use layers_trace::Callback;
use serde::{Deserialize, Serialize};

/// A callback in which a filter may leave out its call of `next` (nbdkit-filter(3), "Next config, open and close"; for
/// `config` see [`crate::Behaviour::swallow`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// The layers below get no `config_complete`.
    ConfigComplete,
    /// The layers below are not opened.
    Open,
}

/// One thing done in one callback: before the layer does or asks anything else there, but in `open` after the layer
/// below is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// In which callback.
    pub callback: Callback,
    /// In which of its calls in this layer, counted from 1 over the whole run; absent means in every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u32>,
    /// What.
    pub deed: Deed,
}

/// What a layer can do. Where a deed fails, so does the callback. Those from [`Deed::AskSize`] on are a filter's; a layer or
/// callback that lacks what a deed needs leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// `nbdkit_shutdown`.
    Shutdown,
    /// `nbdkit_disconnect` with this `force`. Servers before 1.34 have no such function.
    Disconnect(bool),
    /// `nbdkit_nanosleep` for this many milliseconds; its result goes into the trace.
    Nanosleep(u32),
    /// Asks for the export's name and for TLS, and writes the answers into the trace (plugin).
    Identify,
    /// exit(3) with this status.
    Exit(i32),
    /// abort(3).
    Abort,
    /// Never returns.
    Hang,
    /// Asks the size of the layer below.
    AskSize,
    /// Writes a block through `next`.
    Write,
    /// Opens and prepares a context that is shared by all connections (`after_fork`).
    OpenShared,
    /// Reads a block from it (any callback with a handle).
    ReadShared,
    /// Finalizes and closes it (`cleanup`).
    CloseShared,
    /// Opens and prepares a further context of this connection, kept with the handle (`open`, or any callback with a handle).
    OpenExtra,
    /// Reads a block from each of those.
    ReadExtra,
    /// Finalizes and closes them.
    CloseExtra,
    /// Makes the oldest of those the handle's `next`. What was the `next` before is finalized and closed.
    Associate,
    /// Opens a context, unprepared, and makes it the handle's `next` (`open`).
    Adopt,
    /// Finalizes and closes `next`, opens and prepares another one and makes that the `next`, as the retry filter does. If
    /// that fails the handle has no `next` any more.
    Reopen,
}
