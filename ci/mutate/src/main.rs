//! Draws one-place mutations of C sources, and makes one of them.
//!
//! `mutate list SEED EACH TREE MODULE=FILE,FILE… …` prints a sample: up to EACH places for each module, the modules in turns.
//! `mutate apply TREE NAME` reads such a list from the standard input and prints the file of NAME with its one place changed.
//! `ci/mutants modules` builds and judges what comes of it.

mod operators;
mod place;
mod sample;

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use place::Place;

const USAGE: &str =
    "usage: mutate list SEED EACH TREE MODULE=FILE,FILE… …\n       mutate apply TREE NAME <LIST";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list", seed, each, tree, modules @ ..] if !modules.is_empty() => {
            list(seed, each, Path::new(tree), modules)
        }
        ["apply", tree, name] => apply(Path::new(tree), name),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mutate: {why}");
            ExitCode::FAILURE
        }
    }
}

fn list(seed: &str, each: &str, tree: &Path, modules: &[&str]) -> Result<(), String> {
    let seed = seed.parse().map_err(|_| format!("{seed} is no seed"))?;
    let each = each.parse().map_err(|_| format!("{each} is no number"))?;
    let mut columns = Vec::new();
    for module in modules {
        let (name, files) =
            module.split_once('=').ok_or_else(|| format!("{module}: expected MODULE=FILE,FILE…"))?;
        let mut places = Vec::new();
        for file in files.split(',') {
            places.extend(operators::places(file, &read(tree, file)?)?);
        }
        columns.push(sample::drawn(name, places, each, seed));
    }
    let mut out = io::stdout().lock();
    for row in 0..each {
        for place in columns.iter().filter_map(|column| column.get(row)) {
            writeln!(out, "{place}").map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn apply(tree: &Path, name: &str) -> Result<(), String> {
    let mut list = String::new();
    io::stdin().read_to_string(&mut list).map_err(|error| error.to_string())?;
    let place = list
        .lines()
        .filter_map(Place::read)
        .find(|place| place.name == name)
        .ok_or_else(|| format!("the list has no {name}"))?;
    let changed = place.made_in(&read(tree, &place.file)?)?;
    io::stdout().write_all(changed.as_bytes()).map_err(|error| error.to_string())
}

fn read(tree: &Path, file: &str) -> Result<String, String> {
    fs::read_to_string(tree.join(file)).map_err(|error| format!("{}: {error}", tree.join(file).display()))
}
