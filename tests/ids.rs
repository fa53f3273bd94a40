//! Ids are for ever: baselines, settings and other people's scripts name them, so that an id that was used once is never used for
//! something else (docs/stability.md).
//!
//! `UPDATE_DOCUMENTS=1 cargo test -p layers --test ids` appends new ids to `schemas/ids.txt`. Nothing is ever taken out of it: what
//! is gone gets ` gone` behind it, by hand, and its line in the changelog.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use layers::{rules, scenario, validate};

/// Returns all ids of today, each with what it is of.
fn ids_of_today() -> BTreeSet<String> {
    let rules = rules::all().map(|rule| format!("rule {}", rule.id));
    let checks =
        validate::checks::all().chain(validate::haproxy::checks()).map(|check| format!("check {}", check.id));
    let scenarios = scenario::named::all().into_iter().map(|scenario| format!("scenario {}", scenario.name));
    rules.chain(checks).chain(scenarios).collect()
}

#[test]
fn an_id_that_was_used_once_is_never_forgotten() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("schemas/ids.txt");
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    let today = ids_of_today();
    let known: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" gone")).collect();
    let gone: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_suffix(" gone")).collect();
    let new: Vec<&String> = today.iter().filter(|id| !known.contains(id.as_str())).collect();
    let lost: Vec<_> = known.iter().filter(|id| !today.contains(**id) && !gone.contains(*id)).collect();
    let back: Vec<_> = gone.iter().filter(|id| today.contains(**id)).collect();
    assert_eq!(known.len(), text.lines().count(), "an id stands twice in {}", path.display());
    assert!(lost.is_empty(), "these ids are gone, and {} does not say so: {lost:?}", path.display());
    assert!(back.is_empty(), "these ids were used before, for something else: {back:?}");
    if new.is_empty() {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_DOCUMENTS").is_some(),
        "these ids are new, and {} does not have them: {new:?}",
        path.display()
    );
    for id in new {
        writeln!(text, "{id}").unwrap();
    }
    fs::write(&path, text).unwrap();
}
