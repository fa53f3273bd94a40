//! One run of a scenario with somebody's stack, as a text that is the same on every machine.

use std::path::{Path, PathBuf};

use layers_trace::{Callback, Event, Kind};

use crate::conform::verdict_of;
use crate::history::End;
use crate::outcome::Verdict;
use crate::scenario::{Mishap, Player, Recording, Scenario, Step};
use crate::server::nbdkit::ServerError;
use crate::tree::tree;

/// What came of a run.
#[derive(Debug)]
pub(super) enum Played {
    /// It went to its end.
    Tree(String),
    /// The server did not get as far as serving, for this reason.
    NotStarted(String),
    /// It went astray: a crash, a hang, or something that cannot be told.
    Astray(Verdict),
}

/// What stands for the working directory in a tree and in a header.
const HERE: &str = ".";

pub(super) fn play(player: &Player<'_>, scenario: &Scenario) -> Result<Played, ServerError> {
    let mut recording = player.play(scenario)?;
    if ended_by_itself(&recording, scenario) {
        recording.mishaps.clear();
    }
    Ok(match verdict_of(&recording, scenario) {
        Verdict::Inconclusive(_) if not_started(&recording).is_some() => {
            Played::NotStarted(not_started(&recording).unwrap_or_default())
        }
        Verdict::Pass if asks_for_an_export(scenario) && !opened(&recording) => Played::Astray(
            Verdict::Inconclusive("no export was opened, so there is little to compare".to_owned()),
        ),
        Verdict::Pass => Played::Tree(without_directory(&tree(&recording.events)).trim_end().to_owned()),
        verdict => Played::Astray(verdict),
    })
}

/// What a server complained of that did not get as far as serving.
pub(super) fn not_started(recording: &Recording) -> Option<String> {
    let Some(Mishap::NotStarted { complaint }) = recording.mishaps.first() else { return None };
    Some(without_directory(complaint))
}

/// The script came to its end, and so had the server, well, before it was told to: some filters do that.
fn ended_by_itself(recording: &Recording, scenario: &Scenario) -> bool {
    let at_the_end =
        |mishap: &Mishap| matches!(mishap, Mishap::Script { step, .. } if *step > scenario.script.len());
    recording.end == Some(End::Exited(0)) && recording.mishaps.iter().all(at_the_end)
}

fn asks_for_an_export(scenario: &Scenario) -> bool {
    scenario.script.iter().any(|step| matches!(step.plain(), Step::Go(..)))
}

/// Some layer has opened something.
fn opened(recording: &Recording) -> bool {
    let open = |event: &Event| event.kind == Kind::Exit && event.callback() == Some(Callback::Open);
    recording.events.iter().any(|event| open(event) && event.result() != 0)
}

/// The text with the working directory replaced, under both names that it may have.
pub(super) fn without_directory(text: &str) -> String {
    let physical = std::env::current_dir().ok();
    let logical =
        std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.canonicalize().ok() == physical);
    let mut names: Vec<PathBuf> = physical.into_iter().chain(logical).collect();
    names.dedup();
    names.iter().fold(text.to_owned(), |text, name| without(&text, name))
}

/// The text with this directory replaced where it stands as a whole.
fn without(text: &str, directory: &Path) -> String {
    let Some(name) = directory.to_str().filter(|name| name.len() > 1) else { return text.to_owned() };
    let goes_on =
        |rest: &str| rest.starts_with(|letter: char| letter.is_alphanumeric() || "._-+".contains(letter));
    let mut parts = text.split(name);
    let mut made = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        // A longer name, or the end of a longer path, is another directory.
        let begins = made.ends_with(|letter: char| letter.is_alphanumeric() || "._-+/".contains(letter));
        made.push_str(if begins || goes_on(rest) { name } else { HERE });
        made.push_str(rest);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_replaced_where_it_is_named_as_a_whole() {
        let short = |text: &str| without(text, Path::new("/home/me"));
        assert_eq!(short("\"script\"=\"/home/me/a.sh\" \"/home/me\""), "\"script\"=\"./a.sh\" \".\"");
        assert_eq!(short("/home/mel /srv/home/me /home/me.old"), "/home/mel /srv/home/me /home/me.old");
        assert_eq!(without("a / b", Path::new("/")), "a / b");
    }
}
