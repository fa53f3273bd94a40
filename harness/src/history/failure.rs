//! Why a layer's request has failed, as the server must take it.

use layers_trace::{Callback, Event};

use super::derived_calls::present;
use super::layers::Layers;

impl Layers {
    /// The error number with which this exit of a data callback has failed. A filter leaves it in `*err`
    /// (nbdkit-filter(3), "ERROR HANDLING"); a plugin gives it to nbdkit_set_error, or leaves it in errno if that is
    /// preserved, or the server takes EIO (nbdkit_error(3), "Setting errno"). `None` where it has not failed, or where the
    /// number is not known.
    pub(super) fn failure(&self, callback: Callback, exit: &Event) -> Option<u32> {
        if !callback.is_data() {
            return None;
        }
        if exit.layer > 0 {
            return exit.err().filter(|error| exit.result() < 0 && *error != 0);
        }
        let preserved = self.get(0)?.errno_is_preserved?;
        if exit.result() >= 0 {
            // A list without an extent is none (nbdkit-plugin(3), "Extents list").
            let empty = present(callback) == Callback::Extents && exit.b == 0;
            return empty.then_some(libc::EINVAL.cast_unsigned());
        }
        Some(match (exit.d, exit.errno()) {
            (0, 0) => libc::EIO.cast_unsigned(),
            (0, errno) if preserved => errno,
            (0, _) => libc::EIO.cast_unsigned(),
            (told, _) => told,
        })
    }
}
