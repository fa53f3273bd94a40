//! What the environment asks of the instruments beside recording.

use layers_behaviour::{FAILS_VARIABLE, Failing, WATCHES_VARIABLE};

/// Returns true where the environment asks for a look at what is asked of the system.
pub fn is_watched() -> bool {
    std::env::var_os(WATCHES_VARIABLE).is_some()
}

/// Returns what the environment has fail.
pub(crate) fn failing() -> Option<Failing> {
    std::env::var(FAILS_VARIABLE).ok()?.parse().ok()
}
