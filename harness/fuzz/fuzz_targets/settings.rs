//! Any text is a layers.toml or a typed error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| layers::fuzzing::settings(text));
