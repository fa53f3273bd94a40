//! What cases say: of the check that each was played for, of the server as a process, and which layer is at fault.

pub(super) mod blame;
pub(super) mod cause;
pub(super) mod discovery;
pub(super) mod hints;
pub(super) mod judging;
pub(super) mod processes;
pub(super) mod quoted;
pub(super) mod refusers;
pub(super) mod suspects;
