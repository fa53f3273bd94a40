//! The table of Debian's plugins and filters: no module is forgotten, and what was found is explained.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod subjects;

use std::path::Path;

use layers::server::nbdkit::Nbdkit;

use subjects::{anchor, installed, table};

fn document(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join("docs").join(name)).unwrap()
}

#[test]
fn every_module_that_is_installed_here_has_its_row() {
    let table = table();
    let installed = installed(&Nbdkit::find(None).unwrap(), &table.packages);
    assert!(!installed.is_empty(), "dpkg-query knows no module of {:?}", table.packages);
    let forgotten: Vec<_> = installed
        .iter()
        .filter(|(module, _)| table.subject.iter().all(|subject| subject.module != *module))
        .collect();
    assert!(forgotten.is_empty(), "not in fixtures/debian/subjects.toml: {forgotten:?}");
}

#[test]
fn every_module_that_is_installed_here_is_in_the_tables_of_the_last_run() {
    let rows: serde_json::Value = serde_json::from_str(&document("debian.json")).unwrap();
    let text = document("debian.md");
    for (module, _) in installed(&Nbdkit::find(None).unwrap(), &table().packages) {
        let row = rows.as_array().unwrap().iter().find(|row| row["module"] == module.as_str());
        let row =
            row.unwrap_or_else(|| panic!("{module} is not in docs/debian.json: run ci/validate-debian"));
        assert!(
            row["exit"].is_number() || row["not_run"].is_string(),
            "{module} has neither verdict nor reason"
        );
        let name = module.trim_start_matches("nbdkit-").trim_end_matches(".so");
        assert!(text.contains(&format!("\n| {name} | ")), "{module} is not in docs/debian.md");
    }
}

#[test]
fn every_finding_in_the_table_is_explained() {
    let headings: Vec<String> = document("findings.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    let rows: serde_json::Value = serde_json::from_str(&document("debian.json")).unwrap();
    for row in rows.as_array().unwrap() {
        for found in row["findings"].as_array().unwrap() {
            let heading = found["explained"].as_str().unwrap_or_else(|| panic!("not explained: {found}"));
            assert!(headings.iter().any(|one| one == heading), "docs/findings.md has no `{heading}`");
        }
    }
    for heading in table().subject.iter().flat_map(|subject| subject.findings.values()) {
        assert!(headings.contains(heading), "docs/findings.md has no `{heading}`");
        assert!(
            document("debian.md").contains(&anchor(heading)),
            "docs/debian.md does not link to `{heading}`"
        );
    }
}
