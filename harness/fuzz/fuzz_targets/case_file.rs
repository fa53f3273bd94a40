//! Any file is a case that reads back as it was, or a typed error.

#![no_main]

use std::io::Write;
use std::os::fd::AsRawFd;

use layers::validate::repro::Repro;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let mut file = std::fs::File::from(memfd_create("case", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match Repro::read(path.as_ref()) {
        Ok(repro) => drop(repro.plan()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
