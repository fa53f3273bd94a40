//! Whatever `nbdkit --dump-plugin` prints, the rules about it judge it.

#![no_main]

use layers::rules;
use layers::trace::reader::write_trace;
use layers::trace::{Event, Field, Kind, Reader};
use libfuzzer_sys::fuzz_target;

/// Of nbdkit 1.32.5 with the reference plugin and one filter.
const RECORDED: &[u8] = include_bytes!("../seeds/dump-plugin.trace");

fuzz_target!(|bytes: &[u8]| {
    let reader = Reader::new(RECORDED).unwrap();
    let mut events: Vec<Event> = reader.events().map(Result::unwrap).collect();
    let end = events.iter_mut().rfind(|event| event.kind == Kind::End).unwrap();
    let printed = end.texts.iter_mut().find(|text| text.field == Field::Message).unwrap();
    printed.bytes = bytes.to_vec();
    let trace = write_trace(&events, reader.run_id());
    let reader = Reader::new(&trace).unwrap();
    drop(rules::judge(&reader, rules::all()));
});
