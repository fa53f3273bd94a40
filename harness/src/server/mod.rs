//! Real servers as child processes: start, wait, stop, reap; nothing is left behind.

pub mod haproxy;
pub mod instruments;
pub mod interrupt;
pub mod nbdkit;
mod observer;
pub mod process;

pub use observer::Observer;
