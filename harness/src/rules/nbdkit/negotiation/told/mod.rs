//! What a client is told in the negotiation, against what the layers have answered.

mod choice;
pub mod export;
pub mod list;
pub mod names;
pub mod options;
pub mod tls;

pub(super) use choice::{Choices, Told, at_told};
