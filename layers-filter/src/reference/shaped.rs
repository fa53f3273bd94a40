//! One call of a callback of the reference filter, as its behaviour shapes it.

use std::ffi::c_int;

use layers_abi::arguments::{Next, Outcome};
use layers_abi::errno;
use layers_abi::prepared::Fate;
use layers_abi::server::nbdkit_error;
use layers_trace::Callback;

use super::side_effects;
use super::state::{CallContext, Reference, reference};

/// One call: counted, slept in, failed if the behaviour says so, else what `work` does; before it come its deeds, after
/// which `next` may be another one.
pub(super) fn shaped<const LAYER: usize, R: Outcome>(
    mut here: CallContext<'_>,
    work: impl FnOnce(&'static Reference, Next) -> R,
) -> R {
    let Some(reference) = reference(LAYER) else { return R::FAILED };
    let begun = reference.shape.begin(here.callback);
    if !side_effects::all(reference, begun.nth, &mut here) {
        return R::FAILED;
    }
    let result = match begun.fate {
        Fate::Natural | Fate::FailsAfterNext(_) => work(reference, here.next),
        Fate::Fails(_) => R::FAILED,
    };
    match begun.fate {
        Fate::Fails(error) => fail(here.callback, error),
        Fate::FailsAfterNext(error) if !result.is_failure() => fail(here.callback, error),
        Fate::FailsAfterNext(_) | Fate::Natural => result,
    }
}

pub(super) fn fail<R: Outcome>(callback: Callback, error: c_int) -> R {
    let name = callback.name();
    // SAFETY: a constant format; `%.*s` takes a length and that many bytes.
    unsafe {
        let format = c"layers: %.*s fails as its behaviour says".as_ptr();
        nbdkit_error(format, name.len() as c_int, name.as_ptr());
    }
    errno::set(error);
    R::FAILED
}
