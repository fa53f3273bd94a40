//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

pub mod close;
pub mod default_export;
pub mod disconnect;
pub mod finalize;
pub mod list;
mod nesting;
pub mod open;
pub mod open_fails;
pub mod preconnect;
pub mod prepare;
mod survival;
pub mod tls;

use layers_trace::Callback;

use super::{Now, Rule};
use crate::history::Handle;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    preconnect::RULES,
    list::RULES,
    default_export::RULES,
    tls::RULES,
    open::RULES,
    open_fails::RULES,
    prepare::RULES,
    finalize::RULES,
    close::RULES,
    disconnect::RULES,
];

/// What the server calls because of an option of the client's: list_exports, default_export, open.
fn negotiates(callback: Callback) -> bool {
    matches!(callback, Callback::ListExports | Callback::DefaultExport | Callback::Open)
}

/// The handle that the server itself prepares, finalizes or closes with this call. Filters do that too, with contexts
/// of their own; then the call is nested in one of theirs, or the handle is not the server's.
fn by_server<'a>(now: &Now<'a>) -> Option<&'a Handle> {
    let call = now.call.filter(|call| call.parent.is_none())?;
    now.handle.filter(|handle| handle.layer == call.layer() && now.history.is_servers(handle))
}
