//! Any bytes give events or a typed error, and events that were read are written and read again the same.

#![no_main]

use layers_trace::reader::write_trace;
use layers_trace::{Event, ReadError, Reader};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8]) -> Result<Vec<Event>, ReadError> {
    Reader::new(bytes)?.events().collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::new(bytes) else { return };
    let mut events = reader.events();
    let good: Vec<Event> = events.by_ref().map_while(Result::ok).collect();
    assert!(good.len() as u64 + events.unpublished() <= reader.records());
    assert!(good.windows(2).all(|pair| pair[0].position < pair[1].position));
    for event in &good {
        assert!(reader.events_from(event.position.into()).next() == Some(Ok(event.clone())));
        let _ = (event.callback(), event.operation(), event.probe(), reader.wall_clock(event.time));
    }
    let again = read(&write_trace(&good, reader.run_id()));
    assert_eq!(again, Ok(good));
});
