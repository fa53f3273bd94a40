//! What each check does with an entry: a file a topic.

mod answers;
mod arguments;
mod common;
mod ending;
mod http;
mod keeping;
mod leaving;
mod pools;
mod sessions;
mod several;

pub(super) use answers::{answers, steady, whole};
pub(super) use arguments::{after_refused, level};
pub(super) use common::{Act, no_answer};
pub(super) use ending::{reload, stop};
pub(super) use http::http;
pub(super) use keeping::{descriptors, memory, sessions};
pub(super) use leaving::leave;
pub(super) use pools::{integrity, without_memory};
pub(super) use sessions::{master, prompt};
pub(super) use several::{crowd, shared};
