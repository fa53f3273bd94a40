//! Makes the trace of HAProxy that an example describes.

use super::Example;

pub(super) fn play(text: &str) -> Example {
    todo!("{text}")
}
