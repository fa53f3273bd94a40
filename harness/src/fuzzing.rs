//! Parsers of foreign bytes that are no part of the library, for the fuzzer in `harness/fuzz`.

pub use crate::cli::read_settings as settings;
use crate::server::haproxy;
use crate::server::haproxy::reloads;
use crate::server::nbdkit::dump_config::Configuration;

/// Reads what `nbdkit --dump-config` has printed.
pub fn nbdkit_configuration(output: &str) {
    let _ = Configuration::read(output);
}

/// Reads what `haproxy -v` has printed.
pub fn haproxy_version(output: &str) {
    let _ = haproxy::version_of(output);
}

/// Reads what a master process has answered to `show proc`.
pub fn haproxy_processes(answer: &str) {
    let _ = reloads(answer);
}
