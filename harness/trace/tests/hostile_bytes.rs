//! Whatever the bytes, reading them ends in events or in a typed error.

mod support;

use layers_trace::header::HEADER_SIZE;
use layers_trace::reader::write_trace;
use layers_trace::record::RECORD_SIZE;
use layers_trace::{Event, ReadError, Reader};
use proptest::prelude::*;
use support::good_trace;

/// Reads everything there is. Panics where the promise is broken.
fn read(bytes: &[u8]) -> Result<Vec<Event>, ReadError> {
    let reader = Reader::new(bytes)?;
    let mut events = reader.events();
    let mut read = Vec::new();
    for event in events.by_ref() {
        let event = event?;
        assert!(event.position as usize * RECORD_SIZE < bytes.len());
        assert!(read.last().is_none_or(|last: &Event| last.position < event.position));
        read.push(event);
    }
    assert!(read.len() as u64 + events.unpublished() <= reader.records());
    Ok(read)
}

/// One way to damage a file.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Word(usize, u64),
    Cut(usize),
    Drop(usize, usize),
    Repeat(usize, usize),
    Grow(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let anywhere = || any::<usize>();
    // The header's words are at its start, and what a damaged record says is mostly in its first word.
    let header = (0..40usize, any::<u64>()).prop_map(|(word, value)| Damage::Word(8 * word, value));
    let record = (0..80usize, 0..8usize)
        .prop_map(|(n, byte)| Damage::Flip(HEADER_SIZE + n * RECORD_SIZE + byte, 0xff));
    prop_oneof![
        (anywhere(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (anywhere(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()])
            .prop_map(|(at, value)| Damage::Word(at, value)),
        header,
        record,
        anywhere().prop_map(Damage::Cut),
        (anywhere(), 0..200usize).prop_map(|(at, length)| Damage::Drop(at, length)),
        (anywhere(), 0..200usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Damage::Grow),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: Vec<Damage>) -> Vec<u8> {
    for damage in damages {
        let length = bytes.len().max(1);
        let span =
            |at: usize, count: usize| (at % length).min(bytes.len())..(at % length + count).min(bytes.len());
        match damage {
            Damage::Flip(at, bits) => {
                bytes.iter_mut().skip(at % length).take(1).for_each(|byte| *byte ^= bits)
            }
            Damage::Word(at, value) => {
                let to = bytes.iter_mut().skip(at % length);
                to.zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
            }
            Damage::Cut(at) => bytes.truncate(at % length),
            Damage::Drop(at, count) => drop(bytes.drain(span(at, count))),
            Damage::Repeat(at, count) => bytes.extend_from_within(span(at, count)),
            Damage::Grow(more) => bytes.extend(more),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn arbitrary_bytes_end_in_events_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..10_000)) {
        prop_assert_eq!(read(&bytes), Err(ReadError::NotATrace));
    }

    #[test]
    fn arbitrary_records_end_in_events_or_an_error(
        records in prop::collection::vec((0..=11u8, any::<[u8; RECORD_SIZE]>()), 0..100),
    ) {
        let last = records.len().saturating_sub(1) as u32;
        let mut bytes = write_trace(&[], 1);
        for (kind, mut record) in records {
            record[..4].copy_from_slice(&1u32.to_le_bytes());
            record[4] = kind;
            record[7] %= 4;
            bytes.extend(record);
        }
        for offset in [16, 128] {
            bytes[offset..offset + 4].copy_from_slice(&(last + 1).to_le_bytes());
        }
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_traces_end_in_events_or_an_error(
        good in good_trace(),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let _ = read(&damaged(write_trace(&good, 7), damages));
    }

    #[test]
    fn a_trace_that_was_cut_short_is_called_so(good in good_trace(), at in any::<prop::sample::Index>()) {
        let bytes = write_trace(&good, 7);
        let have = 8 + at.index(bytes.len() - 8);
        let error = read(&bytes[..have]).unwrap_err();
        prop_assert!(matches!(error, ReadError::Truncated { have: told, .. } if told == have as u64), "{}", error);
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again(
        good in good_trace(),
        damages in prop::collection::vec(damage(), 0..4),
    ) {
        if let Ok(events) = read(&damaged(write_trace(&good, 7), damages)) {
            prop_assert_eq!(read(&write_trace(&events, 7)), Ok(events));
        }
    }
}

#[test]
fn a_trace_of_another_version_is_refused_by_its_number() {
    let mut bytes = write_trace(&[], 1);
    bytes[8] = 9;
    assert_eq!(read(&bytes), Err(ReadError::Version { found: 9 }));
}

#[test]
fn texts_beyond_the_claimed_records_are_not_read() {
    let mut bytes = write_trace(&[], 1);
    let [mut run, mut text] = [[0; RECORD_SIZE]; 2];
    (run[0], run[4], run[7]) = (1, 7, 1);
    (text[0], text[4], text[6]) = (1, 10, 7);
    bytes.extend(run);
    bytes.extend(text);
    (bytes[16], bytes[128]) = (2, 1);
    assert_eq!(read(&bytes), Err(ReadError::Record { position: 0, what: "its texts" }));
}
