//! The harness inside of somebody's own tests.

pub mod libtest;
#[cfg(feature = "proptest")]
pub mod strategies;
