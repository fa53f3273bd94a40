//! The zoo: each animal in `fixtures/zoo` is caught by its own checks and rules, and by no others; those without fault
//! come out clean; and there is no check and no rule of modules that no animal breaks, but for a reason.
//!
//! `fixtures/zoo/zoo.toml` says what must fire. With `LAYERS_ZOO_RUNS=20` the cases that showed it are played 20 times in all,
//! and must show it each time; with `LAYERS_ZOO_ALL=1`, too, all of the judgement is repeated. With `LAYERS_ZOO_ONLY=TEXT`
//! only animals with this text in their name are judged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod side_by_side;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use layers::server::nbdkit::Nbdkit;
use layers::server::process::become_subreaper;
use layers::validate::{
    Budget, Level, ModuleFinding, Replayed, Validate, Validation, checks, module_rules, replay,
};
use serde::Deserialize;
use side_by_side::each;

/// Stands for the file that is the disk of some animals.
const DISK: &str = "$DISK";
/// For one case: several times what the slowest good one takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For one case of an animal that hangs.
const HANGS: Duration = Duration::from_secs(2);
/// Less than what a flood asks for, and much more than any other animal needs.
const MEMORY: u64 = 512 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    animal: Vec<Animal>,
    /// Checks and rules that no animal breaks, each with the reason.
    unbroken: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Animal {
    /// Source, in `fixtures/zoo`.
    file: String,
    /// For a filter: the plugin below it, in `fixtures/zoo`; `plugins/good.c` unless said otherwise.
    over: Option<String>,
    /// What the user gives to the plugin.
    #[serde(default)]
    parameters: Vec<String>,
    /// It is judged by all checks, those of level pedantic, too.
    #[serde(default)]
    pedantic: bool,
    /// For one case, where the usual time is too short.
    seconds: Option<u64>,
    /// Checks that take too long for this kind of animal.
    #[serde(default)]
    skip: Vec<String>,
    /// Checks and rules that must fire, and no others.
    fires: BTreeSet<String>,
    /// Checks and rules that fire in some runs only, with the reason; the others must fire in all of them.
    #[serde(default)]
    may: BTreeMap<String, String>,
    /// The server cannot load it, and so it cannot be judged any further.
    #[serde(default)]
    unloadable: bool,
    /// It is of a kind that was reported as a case, in which validate said the wrong thing.
    kind: Option<String>,
    /// What the run ends with, where that is held against it: a warning is no failure.
    exit: Option<u8>,
    /// A fault that nothing catches so far, and why.
    missed: Option<String>,
}

impl Animal {
    fn is_bad(&self) -> bool {
        !self.name().starts_with("good")
    }

    /// Hundreds of connections: for those that are good, and those whose fault it is to keep something.
    fn skips_cycles(&self) -> bool {
        self.is_bad() && !self.fires.iter().any(|id| id.starts_with("resources."))
    }

    /// For one case. Of those that hang every case may: that is what they are for.
    fn timeout(&self) -> Duration {
        let hangs = self.fires.contains("process.hang");
        let usual = if hangs { HANGS } else { TIMEOUT };
        self.seconds.map_or(usual, Duration::from_secs)
    }

    /// Its cases cannot be played alone: there are none.
    fn is_judged_whole(&self) -> bool {
        self.unloadable
    }

    fn name(&self) -> &str {
        Path::new(&self.file).file_stem().unwrap().to_str().unwrap()
    }
}

fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fixtures/zoo")
}

fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("zoo")
}

fn manifest() -> Manifest {
    toml::from_str(&std::fs::read_to_string(zoo().join("zoo.toml")).unwrap()).unwrap()
}

/// What nbdkit loads for this source.
fn module(file: &str) -> PathBuf {
    let path = Path::new(file);
    let stem = path.file_stem().unwrap().to_str().unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "c" => built().join(path.with_extension("so")),
        "rs" => built().join(format!("rust/debug/examples/lib{stem}.so")),
        _ => zoo().join(path),
    }
}

/// Files with this extension in a folder of the zoo, as they stand in the manifest.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(zoo().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    let name = |path: PathBuf| format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
    let mut names: Vec<String> = wanted.map(name).collect();
    names.sort();
    names
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// Compiles what is older than its source.
fn compile(file: &str) {
    let (source, library) = (zoo().join(file), module(file));
    let sources = [source.clone(), zoo().join("plugin.h"), zoo().join("filter.h"), zoo().join("stored.h")];
    let newest = sources.iter().filter_map(|path| modified(path)).max();
    if modified(&library) > newest {
        return;
    }
    std::fs::create_dir_all(library.parent().unwrap()).unwrap();
    let flags = ["-O1", "-g", "-Wall", "-Werror", "-fPIC", "-shared", "-pthread"];
    let new = library.with_extension("new");
    let status = Command::new("cc").args(flags).arg("-o").arg(&new).arg(&source).status().unwrap();
    assert!(status.success(), "cc cannot compile {}", source.display());
    std::fs::rename(new, library).unwrap();
}

/// Makes the file of those whose disk is one: no two blocks of it are the same.
fn make_disk() {
    let path = built().join("disk.img");
    if !path.exists() {
        std::fs::create_dir_all(built()).unwrap();
        let bytes: Vec<u8> = (0_u32..2 << 20).map(|at| (at % 251 + at / 4096 % 5) as u8).collect();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Builds the animals in Rust, without the net where that is possible.
fn build_rust() {
    let build = |more: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--examples"]).args(more);
        cargo.arg("--manifest-path").arg(zoo().join("rust/Cargo.toml"));
        cargo.arg("--target-dir").arg(built().join("rust"));
        cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").output().unwrap()
    };
    if !build(&["--offline"]).status.success() {
        let output = build(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn validate(animal: &Animal) -> Validation {
    let subject = module(&animal.file).display().to_string();
    let validation = match animal.file.split('/').next().unwrap() {
        "filters" => {
            let over = animal.over.as_deref().unwrap_or("plugins/good.c");
            Validate::plugin(module(over).display().to_string()).filter(subject)
        }
        "shell" => Validate::plugin("sh").argument(subject),
        _ => Validate::plugin(subject),
    };
    let validation = animal.parameters.iter().fold(validation, |validation, parameter| {
        let (key, value) = parameter.split_once('=').unwrap();
        let value =
            if value == DISK { built().join("disk.img").display().to_string() } else { value.to_owned() };
        validation.param(key, value)
    });
    let validation = if animal.pedantic { validation.level(Level::Pedantic) } else { validation };
    let cycles = ["resources.descriptors", "resources.threads", "resources.memory"].map(str::to_owned);
    let validation = if animal.skips_cycles() { validation.skip(cycles) } else { validation };
    validation.skip(animal.skip.iter().cloned()).timeout(animal.timeout()).memory(MEMORY).run().unwrap()
}

/// The ids of this animal that none of their cases show any more.
fn no_longer(animal: &Animal, validation: &Validation, nbdkit: &Nbdkit) -> Vec<String> {
    let shows = |finding: &ModuleFinding| {
        let replayed = replay(
            finding.repro.as_ref().unwrap(),
            nbdkit,
            &Budget { timeout: animal.timeout(), ..Budget::default() },
        )
        .unwrap();
        matches!(replayed, Replayed::Broken(_))
    };
    let is_shown =
        |id: &&String| validation.findings().filter(|finding| finding.promise.id == **id).any(shows);
    animal.fires.iter().filter(|id| !is_shown(id)).cloned().collect()
}

/// How what fired differs from what the manifest says.
fn difference(animal: &Animal, validation: &Validation) -> Option<String> {
    let fired: BTreeSet<String> = validation.fired().into_iter().map(str::to_owned).collect();
    let missing: Vec<_> = animal.fires.difference(&fired).collect();
    let besides: Vec<_> =
        fired.difference(&animal.fires).filter(|id| !animal.may.contains_key(*id)).collect();
    if validation.unloadable.is_some() != animal.unloadable {
        return Some(format!("{}: cannot be loaded: {:?}", animal.file, validation.unloadable));
    }
    let exit = validation.exit().code();
    if missing.is_empty() && besides.is_empty() && animal.exit.is_none_or(|expected| expected == exit) {
        return None;
    }
    let findings = validation.findings().filter(|finding| besides.iter().any(|id| *id == finding.promise.id));
    let findings: Vec<String> = findings
        .map(|finding| format!("{}: {}, but {}", finding.promise.id, finding.expected, finding.actual))
        .collect();
    Some(format!(
        "{}: silent {missing:?}, fires besides {besides:?}, exit {exit}\n    {}",
        animal.file,
        findings.join("\n    ")
    ))
}

#[test]
fn each_animal_is_caught_by_its_own_checks_and_by_no_others() {
    become_subreaper().unwrap();
    let manifest = manifest();
    let sources = [files("plugins", "c"), files("filters", "c")].concat();
    each(&sources, 1, |file| compile(file));
    make_disk();
    build_rust();
    let only = std::env::var("LAYERS_ZOO_ONLY").unwrap_or_default();
    let runs: usize = std::env::var("LAYERS_ZOO_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let all = std::env::var_os("LAYERS_ZOO_ALL").is_some();
    let mut wanted: Vec<&Animal> =
        manifest.animal.iter().filter(|animal| animal.file.contains(&only)).collect();
    // The slow ones first, so that none of them is left alone at the end.
    wanted.sort_by_key(|animal| std::cmp::Reverse(animal.seconds));
    let nbdkit = Nbdkit::find(None).unwrap();
    // Most of the time a case waits for its server.
    let wrong: Vec<Vec<String>> = each(&wanted, 2, |animal| {
        let first = validate(animal);
        let again = |run| {
            if all || animal.is_judged_whole() {
                return difference(animal, &validate(animal));
            }
            let silent = no_longer(animal, &first, &nbdkit);
            let is_silent = !silent.is_empty();
            is_silent.then(|| format!("{}: in run {run} of {runs}, silent {silent:?}", animal.file))
        };
        difference(animal, &first).into_iter().chain((2..=runs).filter_map(again)).collect()
    });
    let mut wrong = wrong.concat();
    wrong.sort();
    assert!(wrong.is_empty(), "{} times, of {} animals\n{}", wrong.len(), wanted.len(), wrong.join("\n"));
}

/// A case that was reported, for which another test asks: `storage_that_a_word_or_an_address_names_is_not_written_to`, in
/// tests/validate.rs.
const ASKED_ELSEWHERE: &str = "bucket-by-name";

/// All cases about nbdkit that were reported.
const REPORTED: &[&str] = &[
    "block-size-of-below",
    "bucket-by-name",
    "busy-in-parallel",
    "extents-leak",
    "failed-open-leaks",
    "grows-between-opens",
    "handle-table",
    "needs-its-format",
    "neighbours-race",
    "nodelete-thread",
    "one-byte-past-the-buffer",
    "pread-fills-nothing",
    "pread-returns-count",
    "reopen-blindly",
    "required-parameter",
    "retry-for-ever",
    "round-overflow",
    "scribbles-on-write-buffer",
    "second-open-fails",
    "tail-of-long-read",
    "thread-before-fork",
    "write-error-swallowed",
    "wrong-at-odd-offsets",
    "zero-with-fua-not-durable",
];

#[test]
fn every_case_that_was_reported_has_an_animal_of_its_kind_with_an_exit_code() {
    let animals = manifest().animal;
    let of_kind = animals.iter().filter(|animal| animal.kind.is_some());
    let mut kinds: Vec<&str> = of_kind.clone().filter_map(|animal| animal.kind.as_deref()).collect();
    kinds.push(ASKED_ELSEWHERE);
    kinds.sort_unstable();
    assert_eq!(kinds, REPORTED);
    for animal in of_kind {
        let is_red = animal.exit == Some(1);
        assert!(animal.exit.is_some() && (is_red || animal.exit == Some(0)), "{}", animal.file);
        assert!(!is_red || !animal.fires.is_empty(), "{}", animal.file);
    }
}

#[test]
fn every_check_and_every_rule_of_modules_is_broken_by_an_animal_or_has_a_reason() {
    let manifest = manifest();
    let ids: BTreeSet<&str> =
        checks::all().map(|check| check.id).chain(module_rules().map(|rule| rule.id)).collect();
    let broken: BTreeSet<&str> =
        manifest.animal.iter().flat_map(|animal| &animal.fires).map(String::as_str).collect();
    let excused: BTreeSet<&str> = manifest.unbroken.keys().map(String::as_str).collect();
    let unknown: Vec<_> = broken.union(&excused).filter(|id| !ids.contains(*id)).collect();
    assert!(unknown.is_empty(), "neither a check nor a rule of modules: {unknown:?}");
    let unbroken: Vec<_> = ids.iter().filter(|id| !broken.contains(*id) && !excused.contains(*id)).collect();
    assert!(unbroken.is_empty(), "no animal breaks {unbroken:?}");
    let stale: Vec<_> = broken.intersection(&excused).collect();
    assert!(stale.is_empty(), "broken after all: {stale:?}");
}

#[test]
fn every_file_of_the_zoo_has_its_entry_and_there_are_enough_of_each_kind() {
    let animals = manifest().animal;
    let entries: Vec<&str> = animals.iter().map(|animal| animal.file.as_str()).collect();
    let folders =
        [("plugins", "c"), ("filters", "c"), ("shell", "sh"), ("rust/animals", "rs"), ("files", "so")];
    let mut on_disk: Vec<String> =
        folders.iter().flat_map(|(folder, extension)| files(folder, extension)).collect();
    let mut listed: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
    on_disk.sort();
    listed.sort();
    assert_eq!(listed, on_disk);
    let bad = |folder: &str| {
        let caught = |animal: &&Animal| animal.is_bad() && animal.missed.is_none();
        animals.iter().filter(|animal| animal.file.starts_with(folder)).filter(caught).count()
    };
    assert!(bad("plugins") + bad("shell") + bad("rust") >= 30 && bad("filters") >= 15);
    for folder in ["plugins", "filters", "shell", "rust"] {
        let good = |animal: &&Animal| animal.file.starts_with(folder) && !animal.is_bad();
        assert!(animals.iter().any(|animal| good(&animal)), "{folder} has nothing good");
    }
}
