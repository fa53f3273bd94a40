//! Keywords of the server: all of them are wrapped, and clients leave in the middle of all that have a handler.

use std::collections::BTreeSet;

use layers::scenario::named::haproxy::{DUMPS, NOT_SWEPT};
use layers_trace::appctx::{FIRST_APPLET, is_registration};
use layers_trace::{Callback, Event, Field};

use super::{asked, is_debians};

/// Lines of the server's help that name no keyword of these words; it is a slip of the server's.
const MISSPELT: &[&str] = &["new ssl crlfile"];

/// Registrations of the server's keywords, with their words.
fn keywords(events: &[Event]) -> Vec<(String, &Event)> {
    let of_server =
        |event: &&Event| is_registration(event) && event.c == 0 && event.handle < u32::from(FIRST_APPLET);
    let words = |event: &Event| String::from_utf8(event.text(Field::Keyword).unwrap().bytes.clone()).unwrap();
    events.iter().filter(of_server).map(|event| (words(event), event)).collect()
}

#[test]
fn every_keyword_of_the_server_is_wrapped() {
    let (events, help) = asked("help");
    let keywords = keywords(&events);
    let words: BTreeSet<&str> = keywords.iter().map(|(words, _)| words.as_str()).collect();
    assert!(!is_debians() || keywords.len() >= 130, "only {}", keywords.len());
    let named = |line: &str| {
        let usage = line.split(" : ").next().unwrap();
        let plain =
            usage.replace(|letter: char| !(letter.is_ascii_alphanumeric() || "-_ ".contains(letter)), " ");
        let parts: Vec<&str> = plain.split_whitespace().collect();
        (1..=parts.len()).any(|count| words.contains(parts[..count].join(" ").as_str()))
    };
    let lines = help.lines().filter(|line| line.starts_with("  ") && line.contains(" : ")).map(str::trim);
    let missing: Vec<&str> = lines
        .filter(|line| !line.starts_with("layers ") && !line.starts_with('@') && !named(line))
        .filter(|line| !["help", "prompt", "quit"].iter().any(|one| line.starts_with(one)))
        .filter(|line| !MISSPELT.iter().any(|slip| line.starts_with(slip)))
        .collect();
    assert_eq!(missing, [""; 0]);
    assert!(help.lines().count() > 100, "{help}");
}

#[test]
fn clients_leave_in_the_middle_of_every_keyword_with_a_handler() {
    let (events, _) = asked("show info");
    let has_handler = |event: &Event| event.a & Callback::IoHandler.bit() != 0;
    let swept = |words: &str| {
        let command = |(_, command): &(&str, &str)| command.split(';').any(|one| one.starts_with(words));
        DUMPS.iter().any(command) || NOT_SWEPT.iter().any(|(left_out, _)| *left_out == words)
    };
    let missing: Vec<String> = keywords(&events)
        .into_iter()
        .filter(|(words, event)| has_handler(event) && !swept(words))
        .map(|(words, _)| words)
        .collect();
    assert_eq!(missing, [""; 0]);
}
