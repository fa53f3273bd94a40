//! What the server asks about a handle while it negotiates: sizes, abilities, descriptions.

mod asked_again;
mod bad_answer;
pub mod flags;
pub mod info;
pub mod questions;
pub mod shortcuts;
pub mod told;

use crate::history::{Call, History};
use crate::rules::check::Rule;

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[
    questions::RULES,
    shortcuts::RULES,
    info::RULES,
    flags::RULES,
    bad_answer::RULES,
    told::export::RULES,
    told::names::RULES,
    told::list::RULES,
    told::options::RULES,
    told::tls::RULES,
];

/// The server asks this by itself: no layer's call asks it, and it is not a filter's own thread that does.
fn asked_by_server(history: &History, call: &Call) -> bool {
    let own = history.handle(call.handle()).is_some_and(|handle| history.is_servers(handle));
    let negotiates = call.connection.and_then(|id| history.connection(id)).map(|connection| connection.tid);
    let top =
        history.is_complete() && history.layers().last().map(|layer| layer.number) == Some(call.layer());
    call.parent.is_none() && own && (top || negotiates == Some(call.enter.tid))
}
