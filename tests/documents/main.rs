//! What README.md and docs/ name does exist.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

mod commands;
mod fences;

use layers::rules;
use layers::scenario::named;
use layers::validate::{checks, haproxy};
use layers::verdict::Exit;

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn docs() -> PathBuf {
    root().join("docs")
}

/// Name and text of every document; those in docs/ are named from there.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for folder in [docs(), docs().join("reports")] {
        paths.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(docs()).or_else(|_| path.strip_prefix(root())).unwrap();
        (name.to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
    };
    paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")).map(read).collect()
}

/// Words as ids, names and commands are written, wherever they stand: in the text, in a command, in its output.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || "._-/*".contains(letter)))
        .map(|word| word.trim_end_matches('.'))
}

/// Those words of a document that begin like one of `all`, up to `separator`, and are none of them. A `*` stands for any
/// end.
fn unknown<'t>(text: &'t str, all: &[&str], separator: char) -> Vec<&'t str> {
    let is_known = |word: &str| match word.strip_suffix('*') {
        Some(beginning) => all.iter().any(|one| one.starts_with(beginning)),
        None => all.contains(&word),
    };
    words(text)
        .filter(|word| {
            let family =
                word.split_once(separator).filter(|(_, rest)| !rest.is_empty()).map(|(family, _)| family);
            family.is_some_and(|family| all.iter().any(|one| one.split(separator).next() == Some(family)))
        })
        .filter(|word| !is_known(word))
        .collect()
}

#[test]
fn every_rule_that_is_named_exists() {
    let checks = layers::validate::checks::all().map(|check| check.id);
    let of_haproxy = layers::validate::haproxy::checks().map(|check| check.id);
    let ids: Vec<&str> = rules::all().map(|rule| rule.id).chain(checks).chain(of_haproxy).collect();
    for (name, text) in documents() {
        assert_eq!(unknown(&text, &ids, '.'), [""; 0], "{name} names rules that are not in the catalogue");
    }
}

#[test]
fn every_scenario_that_is_named_exists() {
    let all = named::all();
    let names: Vec<&str> =
        all.iter().map(|scenario| scenario.name.as_str()).filter(|name| name.contains('/')).collect();
    // The mutants of that page have names of the same form.
    for (name, text) in documents().into_iter().filter(|(name, _)| name != "self-test.md") {
        assert_eq!(unknown(&text, &names, '/'), [""; 0], "{name} names scenarios that do not exist");
    }
}

#[test]
fn every_scenario_of_the_reference_has_its_row() {
    let text = std::fs::read_to_string(root().join("docs/scenarios.md")).unwrap();
    let number = |line: &str| line.strip_prefix("| ")?.split_once(' ')?.0.parse().ok();
    let rows: Vec<u32> = text.lines().filter_map(number).collect();
    assert_eq!(rows, (1..=51).collect::<Vec<u32>>());
}

#[test]
fn every_assertion_of_test_layers_is_covered_by_a_rule() {
    let text = std::fs::read_to_string(root().join("docs/test-layers.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| callback "))
        .map(|line| line.split('|').collect())
        .collect();
    assert!(rows.len() > 8, "the table is there");
    for row in rows {
        let covering: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(!covering.is_empty(), "{} is covered", row[1]);
        for id in covering {
            assert!(rules::find(id).is_some(), "{id} is in the catalogue");
        }
    }
}

#[test]
fn the_readme_has_the_exit_codes() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.meaning());
        assert!(readme.contains(&row), "{row}");
    }
}

#[test]
fn links_lead_to_files() {
    for (name, text) in documents() {
        let file = [root(), docs()].map(|folder| folder.join(&name)).into_iter().find(|file| file.exists());
        let directory = file.unwrap().parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            assert!(path.contains("://") || directory.join(path).exists(), "{name} links to {link}");
        }
    }
}

#[test]
fn a_word_that_is_no_rule_is_found() {
    let all = ["close.last", "config.phase"];
    assert_eq!(unknown("`close.lats`, close.last, close.* and nginx.conf", &all, '.'), ["close.lats"]);
    assert_eq!(unknown("config.x* of `.close`.", &all, '.'), ["config.x*"]);
}

/// `UPDATE_DOCUMENTS=1 cargo test -p layers --test documents` writes it anew.
#[test]
fn the_list_of_checks_is_the_table_in_the_source() {
    let path = root().join("docs/checks.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("| id |").unwrap();
    let (_, between) = rest.split_once("\n\n").unwrap();
    let (between, _) = between.split_once("| id |").unwrap();
    let of_nbdkit = checks::markdown(checks::all());
    let now = format!("{before}{of_nbdkit}\n{between}{}", checks::markdown(haproxy::checks()));
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), now, "docs/checks.md is as the source says");
}
