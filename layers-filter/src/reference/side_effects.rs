//! What the reference filter does beside its work.

use std::ffi::{CStr, c_int};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use layers_abi::arguments::{Buffer, Count, ErrorPointer, Flags, Next, Offset};
use layers_abi::server::Services;
use layers_abi::{errno, side_effects};
use layers_behaviour::Deed;
use layers_trace::Callback;

use super::asking::ask;
use super::contexts::{self, set_next};
use super::state::{CallContext, HandleState, Reference};
use crate::wrapped::wrapped;

/// Bytes of a request that the filter makes on its own account.
const BLOCK: usize = 512;

/// Does all that is to be done in this call; false as soon as something does not go well.
pub(super) fn all(reference: &Reference, nth: u32, here: &mut CallContext<'_>) -> bool {
    reference.shape.deeds(here.callback, nth).all(|deed| {
        let Some(wrapped) = wrapped(reference.number) else { return true };
        let of_any_layer = side_effects::perform(deed, &wrapped.layer, Services::of_server());
        of_any_layer.unwrap_or_else(|| perform(reference, deed, here))
    })
}

fn perform(reference: &Reference, deed: Deed, here: &mut CallContext<'_>) -> bool {
    let next = here.next;
    match (deed, here.held) {
        (Deed::AskSize, _) => next.0.is_null() || ask_size(reference, next),
        (Deed::Write, _) => next.0.is_null() || write(reference, next),
        (Deed::OpenShared, _) => here.backend.0.is_null() || open_shared(reference, here),
        (Deed::ReadShared, _) => {
            let shared = Next(reference.shared.load(Ordering::Acquire));
            shared.0.is_null() || read(reference, shared)
        }
        (Deed::CloseShared, _) => {
            let shared = Next(reference.shared.swap(null_mut(), Ordering::AcqRel));
            // SAFETY: opened and prepared by `open_shared`; nobody is served any more.
            shared.0.is_null() || unsafe { contexts::close(reference, shared, true) }
        }
        (Deed::OpenExtra, Some(held)) => held.open_prepared(reference).map(|next| held.keep(next)).is_some(),
        (Deed::ReadExtra, Some(held)) => held.kept().into_iter().all(|next| read(reference, next)),
        (Deed::CloseExtra, Some(held)) => contexts::close_extra(reference, held),
        (Deed::Associate, Some(held)) => {
            held.take().is_none_or(|next| associate(reference, held, here, next))
        }
        (Deed::Adopt, Some(held)) => {
            held.open(reference).is_some_and(|next| associate(reference, held, here, next))
        }
        (Deed::Reopen, Some(held)) => reopen(reference, held, here),
        _ => true,
    }
}

fn ask_size(reference: &Reference, next: Next) -> bool {
    // SAFETY: the `next` of a callback.
    unsafe { reference.below.get_size(reference.log(), next) >= 0 }
}

fn open_shared(reference: &Reference, here: &CallContext<'_>) -> bool {
    const NAME: &CStr = c"";
    // SAFETY: the filter's own backend.
    let shared = unsafe { contexts::open(reference, here.backend, 0, NAME, true) };
    // SAFETY: just opened.
    let shared = shared.filter(|next| unsafe { contexts::prepare(reference, *next) });
    if let Some(next) = shared {
        reference.shared.store(next.0, Ordering::Release);
    }
    shared.is_some()
}

fn associate(reference: &Reference, held: &HandleState, here: &mut CallContext<'_>, next: Next) -> bool {
    // SAFETY: a context of this handle's, which now becomes the server's to manage.
    let old = unsafe { set_next(reference, held, next.0) };
    here.next = next;
    let in_open = here.callback == Callback::Open;
    // SAFETY: what was associated is this filter's now; in open the server has not yet prepared it.
    let closed = old.0.is_null() || unsafe { contexts::close(reference, old, !in_open) };
    closed && (in_open || ask_all(reference, next))
}

/// As the retry filter does.
fn reopen(reference: &Reference, held: &HandleState, here: &mut CallContext<'_>) -> bool {
    // SAFETY: NULL is always allowed.
    let old = unsafe { set_next(reference, held, null_mut()) };
    here.next = Next(null_mut());
    // SAFETY: what was associated is this filter's now, and prepared.
    if !old.0.is_null() && !unsafe { contexts::close(reference, old, true) } {
        errno::set(libc::ESHUTDOWN);
        return false;
    }
    let Some(next) = held.open_prepared(reference) else {
        errno::set(libc::ESHUTDOWN);
        return false;
    };
    // SAFETY: just opened and prepared for this handle.
    unsafe { set_next(reference, held, next.0) };
    here.next = next;
    ask_all(reference, next)
}

/// Nothing of a new context is known yet, and the server insists on most questions before requests.
fn ask_all(reference: &Reference, next: Next) -> bool {
    // SAFETY: a context that is prepared.
    unsafe { ask(reference, next, |_| true) }
}

fn read(reference: &Reference, next: Next) -> bool {
    request(|buffer, err| {
        // SAFETY: a prepared context and our own variables. The server wants the size to be asked first.
        unsafe {
            match reference.below.get_size(reference.log(), next) {
                -1 => -1,
                _ => reference.below.pread(reference.log(), next, buffer, COUNT, Offset(0), Flags(0), err),
            }
        }
    })
}

fn write(reference: &Reference, next: Next) -> bool {
    request(|buffer, err| {
        let log = reference.log();
        // SAFETY: a prepared context and our own variables. The server wants both questions to be asked first.
        unsafe {
            match (reference.below.get_size(log, next), reference.below.can_write(log, next)) {
                (0.., 1) => reference.below.pwrite(log, next, buffer, COUNT, Offset(0), Flags(0), err),
                _ => -1,
            }
        }
    })
}

const COUNT: Count = Count(BLOCK as u32);

/// A request with a buffer of its own. Whether it went well.
fn request(work: impl FnOnce(Buffer, ErrorPointer) -> c_int) -> bool {
    let mut block = [0_u8; BLOCK];
    let mut err = libc::EIO;
    let well = work(Buffer(block.as_mut_ptr().cast()), ErrorPointer(&raw mut err)) == 0;
    if !well {
        errno::set(err);
    }
    well
}
