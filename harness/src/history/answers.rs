//! What a layer's answers come to: with the defaults where it has not the callback, and with what the server concludes
//! from other answers.

use layers_trace::Callback;

use super::connection::ConnectionId;
use super::derived_calls::present;
use super::handle::Handle;
use super::state::History;

/// Values of can_zero, as filters see them: NBDKIT_ZERO_*.
pub const ZERO_EMULATE: i64 = 1;
/// As above.
pub const ZERO_NATIVE: i64 = 2;
/// NBDKIT_FUA_EMULATE
pub const FUA_EMULATE: i64 = 1;
/// NBDKIT_FUA_NATIVE
pub const FUA_NATIVE: i64 = 2;
/// NBDKIT_CACHE_EMULATE
pub const CACHE_EMULATE: i64 = 1;
/// NBDKIT_CACHE_NATIVE
pub const CACHE_NATIVE: i64 = 2;

/// How the server serves something that is asked of a handle.
#[derive(Clone, Copy, Debug)]
pub enum Way<'h> {
    /// With the callback itself, of this handle's layer.
    Native(&'h Handle),
    /// With several calls of this callback, of the layer of `by`.
    Emulated {
        /// The handle whose layer answers that it is to be so, or the plugin's, which has not the callback.
        at: &'h Handle,
        /// The handle that gets the calls.
        by: &'h Handle,
        /// Of these.
        callback: Callback,
    },
    /// Without a call: this handle's layer does not want one.
    Itself(&'h Handle),
    /// Not at all.
    Refused(&'h Handle),
}

impl History {
    /// The answer of the handle's layer to `query`, as the server hands it on: that of the nearest layer inwards that
    /// has the callback, or the plugin's default (nbdkit-plugin(3), on each). Booleans are 0 and 1. `None` where no
    /// answer is known.
    pub fn offered(&self, handle: &Handle, query: Callback) -> Option<i64> {
        use Callback::{CanFastZero, CanFua, CanTrim, CanWrite, CanZero};
        if matches!(query, CanFastZero | CanFua | CanTrim | CanZero)
            && self.offered(handle, CanWrite) == Some(0)
        {
            return Some(0);
        }
        if query == CanWrite && handle.readonly() {
            return Some(0);
        }
        if query == CanFastZero && self.offered(handle, CanZero) == Some(0) {
            return Some(0);
        }
        if !self.records(handle.layer, query) {
            return match handle.layer {
                0 => self.default(handle, query),
                _ => self.below(handle).and_then(|below| self.offered(below, query)),
            };
        }
        let answer = handle.answer(query)?;
        Some(match query {
            CanZero if handle.layer == 0 => 1 + i64::from(answer != 0),
            _ => answer,
        })
    }

    /// What the server answers for a plugin.
    fn default(&self, plugin: &Handle, query: Callback) -> Option<i64> {
        let has = |callback| i64::from(self.implements(plugin, callback));
        Some(match query {
            Callback::CanWrite => has(Callback::Pwrite),
            Callback::CanFlush | Callback::CanFua => has(Callback::Flush),
            Callback::CanTrim => has(Callback::Trim),
            Callback::CanZero => 1 + has(Callback::Zero),
            Callback::CanFastZero => {
                let zeroes = self.offered(plugin, Callback::CanZero)? == ZERO_NATIVE;
                i64::from(!(zeroes && self.implements(plugin, Callback::Zero)))
            }
            Callback::CanExtents => has(Callback::Extents),
            Callback::CanCache => CACHE_NATIVE * has(Callback::Cache),
            Callback::CanMultiConn | Callback::IsRotational => 0,
            _ => return None,
        })
    }

    /// The layer of this handle has the callback, in whatever version of the interface.
    pub fn implements(&self, handle: &Handle, callback: Callback) -> bool {
        let old =
            [Callback::PreadV1, Callback::PwriteV1, Callback::FlushV1, Callback::TrimV1, Callback::ZeroV1];
        self.records(handle.layer, callback)
            || handle.layer == 0 && old.iter().any(|old| present(*old) == callback && self.records(0, *old))
    }

    /// The next handle inwards in the chain of this one.
    pub fn below(&self, handle: &Handle) -> Option<&Handle> {
        let below = |other: &&Handle| other.chain == handle.chain && other.layer < handle.layer;
        self.handles().filter(below).max_by_key(|other| other.layer)
    }

    /// The outermost handle that the server has opened for this connection. `None` once it has begun to close them: what
    /// the outermost one had answered is forgotten.
    pub fn top(&self, connection: ConnectionId) -> Option<&Handle> {
        let own = |handle: &&Handle| handle.connection == Some(connection) && !handle.manual;
        let top = self.handles().filter(own).max_by_key(|handle| handle.layer)?;
        self.first_close(top.chain).is_none().then_some(top)
    }

    /// How the server serves `callback` when it is asked of this handle. `None` where an answer is not known.
    pub fn way<'h>(&'h self, from: &'h Handle, callback: Callback) -> Option<Way<'h>> {
        let mut handle = from;
        loop {
            let emulated = |by| {
                let by = self.server_of(handle, by)?;
                Some(Way::Emulated {
                    at: handle,
                    by,
                    callback: if callback == Callback::Zero { Callback::Pwrite } else { Callback::Pread },
                })
            };
            match callback {
                Callback::Zero => match self.offered(handle, Callback::CanZero)? {
                    0 => return Some(Way::Refused(handle)),
                    ZERO_EMULATE => return emulated(Callback::Pwrite),
                    _ => {}
                },
                Callback::Cache => match self.offered(handle, Callback::CanCache)? {
                    0 => return Some(Way::Refused(handle)),
                    CACHE_EMULATE => return emulated(Callback::Pread),
                    _ => {}
                },
                Callback::Extents if self.offered(handle, Callback::CanExtents)? == 0 => {
                    return Some(Way::Itself(handle));
                }
                _ => {}
            }
            if self.implements(handle, callback) {
                return Some(Way::Native(handle));
            }
            if handle.layer == 0 {
                return match callback {
                    Callback::Zero => emulated(Callback::Pwrite),
                    Callback::Cache => Some(Way::Itself(handle)),
                    _ => Some(Way::Refused(handle)),
                };
            }
            handle = self.below(handle)?;
        }
    }

    /// The nearest handle inwards, this one included, whose layer has the callback.
    fn server_of<'h>(&'h self, handle: &'h Handle, callback: Callback) -> Option<&'h Handle> {
        let mut at = handle;
        while !self.implements(at, callback) {
            at = self.below(at)?;
        }
        Some(at)
    }
}
