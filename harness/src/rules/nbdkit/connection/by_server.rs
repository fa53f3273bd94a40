//! Which calls of a connection the server makes itself.

use layers_trace::Callback::{self, DefaultExport, ListExports, Open};
use layers_trace::Event;

use crate::history::Handle;
use crate::rules::check::{Now, Report, Said};

/// What the server calls because of an option of the client's: list_exports, default_export, open.
pub(super) fn negotiates(callback: Callback) -> bool {
    matches!(callback, ListExports | DefaultExport | Open)
}

/// The handle that the server itself prepares, finalizes or closes with this call. Filters do that too, with contexts
/// of their own; then the call is nested in one of theirs, or the handle is not the server's.
pub(super) fn by_server<'a>(now: &Now<'a>) -> Option<&'a Handle> {
    let call = now.call.filter(|call| call.parent.is_none() || now.history.is_intrusion(call))?;
    now.handle.filter(|handle| handle.layer == call.layer() && now.history.is_servers(handle))
}

/// Of each handle this callback is called once; `first` is its enter before this one.
pub(super) fn once(first: &Option<Event>, now: &Now<'_>, handle: &Handle, report: &mut Report<'_>) -> Said {
    let expected = format!("one {} of L{} for handle {}", now.call?.callback, handle.layer, handle.id);
    report.broken(first.as_ref()?, expected, "another one")
}
