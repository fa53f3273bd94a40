//! Texts of any length and content come back whole, or marked as cut.

#![allow(clippy::unwrap_used, reason = "what comes back is checked by looking at it")]

mod support;

use layers_trace::reader::write_trace;
use layers_trace::writer::record;
use layers_trace::{Event, Field, Kind, Reader, Text};
use proptest::prelude::*;
use support::{events, field, good_trace, trace};

/// What the reader makes of texts that a server's writer and `write_trace` were given.
fn through_both_writers(given: &[(Field, Vec<u8>)]) -> [Vec<Text>; 2] {
    let (_file, writer) = trace(1000);
    let parts: Vec<(Field, &[u8])> = given.iter().map(|(field, bytes)| (*field, bytes.as_slice())).collect();
    writer.note(record(Kind::Run, 0, 0), &parts);
    let mut recorded = events(&writer);
    let event = recorded.pop().unwrap();
    let texts = given.iter().map(|(field, bytes)| Text { field: *field, bytes: bytes.clone(), cut: false });
    let made = Event { texts: texts.collect(), ..event.clone() };
    let bytes = write_trace(&[made], 1);
    let mut read = Reader::new(&bytes).unwrap().events();
    [event.texts, read.next().unwrap().unwrap().texts]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn texts_come_back_whole_or_cut_at_the_end(
        given in prop::collection::vec((field(), prop::collection::vec(any::<u8>(), 0..20_000)), 0..5),
    ) {
        let [recorded, made] = through_both_writers(&given);
        prop_assert_eq!(&recorded, &made);
        prop_assert_eq!(recorded.len(), given.len());
        for (text, (field, bytes)) in recorded.iter().zip(&given) {
            prop_assert_eq!(text.field, *field);
            prop_assert!(bytes.starts_with(&text.bytes));
            prop_assert_eq!(text.cut, text.bytes.len() < bytes.len());
        }
        let total: usize = given.iter().map(|(_, bytes)| bytes.len()).sum();
        // Each text may leave its last record partly empty.
        if total <= Text::MOST - 56 * given.len() {
            prop_assert!(recorded.iter().all(|text| !text.cut));
        }
    }

    #[test]
    fn events_come_back_as_they_were_written(good in good_trace()) {
        let bytes = write_trace(&good, 42);
        let reader = Reader::new(&bytes).unwrap();
        let read: Vec<Event> = reader.events().map(Result::unwrap).collect();
        prop_assert_eq!(read, good);
        prop_assert_eq!((reader.run_id(), reader.lost()), (42, 0));
    }
}

#[test]
fn a_text_after_one_that_is_too_long_still_comes_back() {
    let long = vec![b'x'; Text::MOST + 1];
    let [recorded, made] = through_both_writers(&[(Field::Value, long), (Field::Key, b"key".to_vec())]);
    for texts in [recorded, made] {
        assert_eq!(texts[0].bytes.len(), Text::MOST - 56);
        assert!(texts[0].cut);
        assert_eq!(texts[1], Text { field: Field::Key, bytes: b"key".to_vec(), cut: false });
    }
}

#[test]
fn the_longest_text_comes_back_whole() {
    let [recorded, _] = through_both_writers(&[(Field::Json, vec![0xff; Text::MOST])]);
    assert_eq!(recorded, [Text { field: Field::Json, bytes: vec![0xff; Text::MOST], cut: false }]);
}

#[test]
fn of_more_texts_than_an_event_can_have_the_first_come_back() {
    let given: Vec<_> = (0..300).map(|n| (Field::Export, vec![n as u8])).collect();
    let [recorded, made] = through_both_writers(&given);
    assert_eq!(recorded.len(), 255);
    assert_eq!(recorded, made);
    assert!(recorded.iter().zip(&given).all(|(text, (_, bytes))| text.bytes == *bytes));
}
