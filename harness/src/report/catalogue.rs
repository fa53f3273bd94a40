//! The catalogue of rules as a page of documentation.

use crate::rules::{self, Rule};
use crate::server::Which;

/// All rules, as docs/catalogue.md has them: for each server, a table for each family.
pub fn catalogue() -> String {
    let mut page = String::from(
        "# The catalogue\n\nEvery rule that `layers` knows, written by `layers rules --markdown`. [rules.md](rules.md) says \
         what a rule\nis and how it is judged; `layers rules ID` explains one, with its clause of the manual.\n",
    );
    for server in [Which::Nbdkit, Which::Haproxy] {
        page += &format!("\n## {}\n", server.name());
        let mut family = "";
        for rule in rules::of(server) {
            let this = rule.id.split('.').next().unwrap_or_default();
            if this != family {
                family = this;
                page += &format!(
                    "\n### {family}\n\n| id | kind | since | party | statement |\n|---|---|---|---|---|\n"
                );
            }
            page += &row(rule);
        }
    }
    page
}

fn row(rule: &Rule) -> String {
    let Rule { id, kind, since, party, statement, .. } = rule;
    format!("| `{id}` | {kind} | {since} | {party} | {} |\n", statement.replace('|', "\\|"))
}
