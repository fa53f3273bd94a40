//! What a client is told in the negotiation, against what the layers have answered.

mod choice;
pub(super) mod export;
pub(super) mod list;
pub(super) mod names;
pub(super) mod options;
pub(super) mod tls;

pub(super) use choice::{Choices, Told, at_told};
