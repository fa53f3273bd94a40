//! nbdkit-plugin(3) and nbdkit-filter(3): what a connection is made of, from `preconnect` to the last `close`.

pub mod close;
pub mod disconnect;
pub mod finalize;
pub mod preconnect;
pub mod prepare;

use super::{Now, Rule};
use crate::history::Handle;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] =
    &[preconnect::RULES, prepare::RULES, finalize::RULES, close::RULES, disconnect::RULES];

/// The handle that the server itself prepares, finalizes or closes with this call. Filters do that too, with contexts
/// of their own; then the call is nested in one of theirs, or the handle is not the server's.
fn by_server<'a>(now: &Now<'a>) -> Option<&'a Handle> {
    let call = now.call.filter(|call| call.parent.is_none())?;
    now.handle.filter(|handle| handle.layer == call.layer() && now.history.is_servers(handle))
}
