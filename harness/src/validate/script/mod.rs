//! What is asked of a subject: facts and claims, and the steps that a check writes out of them.

pub mod claims;
pub mod fact;
pub mod op;
pub(super) mod unfit;
