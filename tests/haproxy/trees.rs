//! The calls of the classical sessions, as stored for Debian 12's HAProxy.

use layers::scenario::named;
use layers::server::Which;
use layers::server::haproxy::Haproxy;
use layers::tree::tree;

use super::play;

/// How often a handler is called to write a long answer is for buffers and the client's haste to say: one line stands for
/// all calls in a row that look the same.
fn normalised(tree: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in tree.lines() {
        let again = format!("{line} …");
        match lines.last_mut() {
            Some(last) if *last == again => {}
            Some(last) if last == line => *last = again,
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

fn tree_of(name: &str) -> String {
    normalised(&tree(&play(name).events))
}

/// Sessions that make the same calls each time.
fn repeatable() -> Vec<String> {
    let all = named::of(Which::Haproxy).into_iter();
    all.filter(|scenario| scenario.repeatable).map(|scenario| scenario.name).collect()
}

#[test]
fn every_repeatable_session_makes_the_calls_that_are_stored() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("../snapshots/haproxy-{}", Haproxy::find(None).unwrap().version));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in repeatable() {
            insta::assert_snapshot!(name.replace('/', "."), tree_of(&name));
        }
    });
}

#[test]
fn twenty_runs_make_the_same_tree() {
    for name in ["classical/dump", "classical/context", "classical/chain", "classical/abort"] {
        let first = tree_of(name);
        for run in 2..=20 {
            assert_eq!(tree_of(name), first, "{name}, run {run}");
        }
    }
}
