//! The catalogue of rules, its page of documentation, and the reference that it is taken from agree.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use layers::report::catalogue::catalogue;
use layers::rules::{self, Kind, Rule};
use layers::server::Which;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `INSTA_UPDATE=always cargo test -p layers --test catalogue` writes the page anew.
#[test]
fn the_page_is_what_the_rules_say() {
    let path = root().join("docs/catalogue.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
        std::fs::write(&path, catalogue()).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == catalogue(), "docs/catalogue.md is old: `layers rules --markdown > docs/catalogue.md`");
}

#[test]
fn no_two_rules_have_the_same_id() {
    let mut ids: Vec<&str> = rules::all().map(|rule| rule.id).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

/// Kind and since of each rule in the reference's tables, as they stand there.
fn reference(text: &str) -> BTreeMap<&str, (&str, &str)> {
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").collect());
    let rows = rows.filter(|columns: &Vec<&str>| columns.len() == 7);
    rows.filter_map(|columns| {
        let id = columns[0].strip_prefix("| `")?.strip_suffix('`')?;
        Some((id, (columns[3], columns[4])))
    })
    .collect()
}

/// `R (daemon), O (rest)` allows either.
fn kind_agrees(rule: &Rule, column: &str) -> bool {
    let letter = match rule.kind {
        Kind::Required => "R",
        Kind::Forbidden => "F",
        Kind::Observed => "O",
        Kind::Unspecified => "U",
    };
    column.split(|c: char| !c.is_ascii_uppercase()).any(|word| word == letter)
}

/// `1.15.x` allows any patch, `1.21.20 / 1.15.2` either.
fn since_agrees(rule: &Rule, column: &str) -> bool {
    let since = rule.since.to_string();
    let (minor, _) = since.rsplit_once('.').unwrap();
    let mut numbers = column.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).peekable();
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    if !column.contains(|c: char| c.is_ascii_digit()) {
        return true;
    }
    numbers.any(|number| {
        is_number(number)
            && match number.strip_suffix(".x") {
                Some(beginning) => beginning == minor || beginning == minor.split('.').next().unwrap(),
                None => number == since || format!("{number}.0") == since,
            }
    })
}

/// Rules that are not in the reference, which they came after: what instruments see of buffers and results, and families of
/// rules of what clients get and are told.
const BEYOND: &[&str] = &[
    "data.pread.fills",
    "data.pwrite.const",
    "data.buffer.bounds",
    "data.error.wire",
    "data.zero.fast",
    "data.extents.",
    "data.fua.passed",
    "data.handed.bytes",
    "data.read.bytes",
    "data.read.whole",
    "data.write.bytes",
    "answer.",
    "applet.released-once",
    "finalize.last-use",
    "command.",
    "level.",
    "result.known",
    "result.usual",
    "errno.",
    "wire.",
    "dump.fields",
    "dump.own-fields",
    "dump.thread-models",
    "nego.meta_context.holds",
    "nego.meta_context.told",
    "nego.name.opened",
    "nego.starttls.forgets",
    "nego.tls.required",
    "nego.told.block_size",
    "nego.told.description",
    "nego.told.flags",
    "nego.told.list",
    "nego.told.name",
    "nego.told.size",
];

/// The reference stands beside the repository where this project is written, and nowhere else.
#[test]
fn the_rules_are_those_of_the_reference() {
    let Ok(text) = std::fs::read_to_string(root().join("../shared/reference/nbdkit.md")) else { return };
    let wanted = reference(&text);
    assert!(wanted.len() > 100, "the tables are there");
    let mut wrong = Vec::new();
    for rule in rules::of(Which::Nbdkit) {
        match wanted.get(rule.id) {
            None if BEYOND.iter().any(|one| rule.id.starts_with(one)) => {}
            None => wrong.push(format!("{}: not in the reference", rule.id)),
            Some((kind, since)) => {
                if !kind_agrees(rule, kind) {
                    wrong.push(format!("{}: {} here, `{kind}` there", rule.id, rule.kind));
                }
                if !since_agrees(rule, since) {
                    wrong.push(format!("{}: since {} here, `{since}` there", rule.id, rule.since));
                }
            }
        }
    }
    let missing = wanted.keys().filter(|id| rules::find(id).is_none());
    wrong.extend(missing.map(|id| format!("{id}: only in the reference")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
