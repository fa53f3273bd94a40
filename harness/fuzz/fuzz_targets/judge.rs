//! Whatever a trace holds, all rules judge it, and the tree of its calls is drawn.

#![no_main]

use layers::rules;
use layers::trace::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::new(bytes) else { return };
    let judgement = rules::judge(&reader, rules::all());
    for finding in judgement.findings() {
        let _ = format!("{finding:?}");
    }
});
