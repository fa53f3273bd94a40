//! Whatever a program prints, it is read as what a server says of itself, or not.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    layers::fuzzing::nbdkit_configuration(&text);
    layers::fuzzing::haproxy_version(&text);
    layers::fuzzing::haproxy_processes(&text);
});
