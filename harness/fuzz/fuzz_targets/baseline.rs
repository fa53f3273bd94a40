//! Any file is a baseline, of a server or of somebody's module, or an error with its place.

#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;

use layers::baseline::Baseline;
use layers::validate::Known;
use layers::version::Version;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let mut file = std::fs::File::from(memfd_create("baseline", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Err(error) = Baseline::load(path.as_ref(), "nbdkit", Version(1, 32, 5)) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = Known::load(path.as_ref()) {
        assert!(!error.to_string().is_empty());
    }
});
