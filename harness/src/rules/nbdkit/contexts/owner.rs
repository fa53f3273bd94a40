//! Whom a context belongs to.

use layers_trace::Callback::Open;

use crate::history::{Call, Handle};
use crate::rules::check::Now;

/// The handle of this call is one that a filter has opened itself, and this is the layer right below that filter.
pub(super) fn top_of_manual<'a>(now: &Now<'a>) -> Option<&'a Handle> {
    now.handle.filter(|handle| handle.manual && handle.open.position == handle.chain.0)
}

/// The call is made by the filter that has opened the handle.
pub(super) fn by_owner(now: &Now<'_>, handle: &Handle) -> bool {
    now.parent().is_some_and(|parent| Some(parent.layer()) == handle.owner)
}

/// This `open` begins a context of a filter's own.
pub(super) fn opens_manual(call: &Call) -> Option<u8> {
    let first = call.callback == Open && call.chain.is_some_and(|chain| chain.0 == call.id());
    call.owner.filter(|_| first)
}
