//! Numbers of nbdkit's interface that both instruments name (nbdkit-plugin(3), nbdkit-filter(3)).

use std::ffi::c_int;

/// NBDKIT_THREAD_MODEL_PARALLEL
pub const PARALLEL: c_int = 3;
/// NBDKIT_ZERO_NATIVE, NBDKIT_FUA_NATIVE and NBDKIT_CACHE_NATIVE
pub const NATIVE: c_int = 2;
