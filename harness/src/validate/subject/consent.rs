//! What the user has given leave for: what is copied, what is only read, and what must not be told.
//!
//! What the harness did not make it does not change. A regular file that a parameter names is copied for each case, and
//! the copy is judged; whatever else may name storage (a directory, a device, a host, a bucket) is opened read-only. Only
//! numbers, sizes, booleans and the keywords of nbdkit's own modules name none.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::stock::{self, Meaning};
use crate::foreign::visible::visible_line;
use crate::run::Parameter;
pub use crate::run::parameter::{HIDDEN, is_secret};
use crate::run::parameter::{parameter_text, shown};
use crate::run::stack::{Layers, Stack};

/// Bytes of data of a file that are copied for each case, unless said otherwise.
pub const LIMIT: u64 = 64 << 20;

/// As much of a text as is looked at.
const LOOKED_AT: usize = 64 << 10;

/// What follows from the parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Values that name a file: it is copied, and the copy is named in their place.
    pub copied: BTreeSet<String>,
    /// Parameters because of which the subject is opened read-only, each with the reason.
    pub spared: Vec<String>,
    /// One of them may be a filter's own.
    pub filters_spared: bool,
    /// Parameters that name what a module writes over, however it is opened, and that cannot be copied.
    pub overwritten: Vec<String>,
}

/// What a parameter may lead to.
enum Use {
    /// To nothing outside of the server.
    Nothing,
    /// To this file, of which a copy does.
    Copy,
    /// To storage that is not ours, for this reason.
    Storage(String),
    /// To what is written over, although it is opened read-only.
    Overwritten,
}

impl Consent {
    /// Of a stack as it was given; a file with more data than `limit` bytes is not copied.
    pub fn of(stack: &Stack, limit: u64) -> Consent {
        let mut consent = Consent::default();
        let (filters, plugin) = &modules(stack);
        for (index, parameter) in stack.parameters.iter().enumerate() {
            match used(filters, plugin, index, parameter, limit) {
                Use::Nothing => {}
                Use::Copy => {
                    consent.copied.insert(parameter.value.clone());
                }
                Use::Overwritten => consent.overwritten.push(visible_line(&parameter_text(parameter))),
                Use::Storage(why) => {
                    consent.spared.push(visible_line(&format!("`{}` {why}", shown(parameter))));
                    consent.filters_spared |= may_be_of_a_filter(filters, plugin, parameter);
                }
            }
        }
        if stock::is_remote(plugin) && consent.spared.is_empty() {
            consent.spared.push(visible_line(&format!("`{plugin}` serves storage of another server")));
        }
        consent
    }

    /// Nothing of the user's can be written to.
    pub fn is_free(&self) -> bool {
        self.spared.is_empty() && self.overwritten.is_empty()
    }
}

/// The filters and the plugin that are not our own; no name stands for a plugin of ours.
pub(in crate::validate) fn modules(stack: &Stack) -> (Vec<String>, String) {
    let replaced = |layer: &u8| stack.replaced.get(layer).cloned();
    match &stack.layers {
        Layers::Wrapped { filters, plugin } => (filters.clone(), plugin.clone()),
        Layers::Over { filters, .. } => (filters.clone(), String::new()),
        Layers::Reference(_) => {
            let filters = stack.replaced.keys().filter(|layer| **layer > 0).filter_map(replaced);
            (filters.collect(), replaced(&0).unwrap_or_default())
        }
    }
}

fn used(filters: &[String], plugin: &str, index: usize, parameter: &Parameter, limit: u64) -> Use {
    // Whatever a plugin makes of every parameter, those of a filter do not come to it.
    let of_filter = filters.iter().find_map(|filter| stock::meaning(filter, true, parameter));
    if of_filter.is_none() && stock::is_code(plugin, index, parameter) {
        return Use::Nothing;
    }
    let known = of_filter.or_else(|| stock::meaning(plugin, false, parameter));
    match known {
        Some(Meaning::Nothing) => return Use::Nothing,
        Some(Meaning::Made) if !Path::new(&parameter.value).exists() => return Use::Copy,
        Some(Meaning::Made) if parameter.value == "/dev/null" => return Use::Nothing,
        // Nothing is read of it, so that what stands in it does not matter.
        Some(Meaning::Made) => {
            let data = Path::new(&parameter.value).metadata();
            let fits = data.is_ok_and(|data| data.is_file() && allocated(&data) <= limit);
            return if fits { Use::Copy } else { Use::Overwritten };
        }
        None => {}
    }
    let value = parameter.value.as_str();
    if is_plain(value) {
        return match Path::new(value).exists() {
            true => Use::Storage("may name the file of that name".to_owned()),
            false => Use::Nothing,
        };
    }
    if stock::is_remote(plugin) && index == 0 && parameter.key.is_none() {
        return Use::Storage("may name storage".to_owned());
    }
    of_path(Path::new(value), limit)
}

fn of_path(path: &Path, limit: u64) -> Use {
    let Ok(data) = path.metadata() else { return Use::Storage("may name storage".to_owned()) };
    if !data.is_file() {
        return Use::Storage(
            if data.is_dir() { "names a directory" } else { "names no regular file" }.to_owned(),
        );
    }
    if let Some(how) = names_others(path) {
        return Use::Storage(format!("{how}, and so may name other files"));
    }
    let bytes = allocated(&data);
    if bytes > limit {
        return Use::Storage(format!("holds {} MiB, more than is copied (--copy-limit)", bytes >> 20));
    }
    Use::Copy
}

/// Bytes of a file that are data, and not holes.
fn allocated(data: &Metadata) -> u64 {
    (data.blocks() * 512).min(data.size())
}

/// A number, a size, a share, a time, or a boolean (nbdkit_parse_size, nbdkit_parse_bool and their like).
fn is_plain(value: &str) -> bool {
    const UNITS: &[&str] = &[
        "", "b", "k", "m", "g", "t", "p", "e", "s", "kib", "mib", "gib", "tib", "kb", "mb", "gb", "tb", "%",
        "ms", "us", "ns", "min", "h",
    ];
    const WORDS: &[&str] = &["true", "t", "yes", "y", "on", "false", "f", "no", "n", "off"];
    let lower = value.to_ascii_lowercase();
    if lower.is_empty() || WORDS.contains(&lower.as_str()) {
        return true;
    }
    let digits = lower.trim_start_matches(['+', '-']);
    if let Some(hex) = digits.strip_prefix("0x") {
        return !hex.is_empty() && hex.chars().all(|letter| letter.is_ascii_hexdigit());
    }
    let unit = digits.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let number = digits.strip_suffix(unit).unwrap_or_default();
    !number.is_empty() && number.parse::<f64>().is_ok() && UNITS.contains(&unit)
}

/// How a file may name others, which a copy of it would name as well.
fn names_others(path: &Path) -> Option<&'static str> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT as u64).read_to_end(&mut head).ok()?;
    let number =
        |at: usize| head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    if head.starts_with(b"QFI\xfb") {
        // With a backing file, or with its data in another file.
        let elsewhere = number(8).unwrap_or(0) != 0 || number(72).unwrap_or(0) & 4 != 0;
        return elsewhere.then_some("is an image over another one");
    }
    if head.starts_with(b"# Disk DescriptorFile") || head.starts_with(b"QED\0") || head.starts_with(b"KDMV") {
        return Some("is an image that may have others below it");
    }
    let text = std::str::from_utf8(&head).ok()?;
    let letters = |letter: char| !letter.is_control() || "\n\r\t\u{c}".contains(letter);
    let is_text = head.len() < LOOKED_AT && !text.is_empty() && text.chars().all(letters);
    (is_text && text.contains(['/', '=', ':'])).then_some("is a text")
}

/// The plugin is not known to take it itself.
fn may_be_of_a_filter(filters: &[String], plugin: &str, parameter: &Parameter) -> bool {
    let own = |filter: &String| !stock::is_known(filter) || stock::takes(filter, true, parameter);
    parameter.key.is_some() && !stock::takes(plugin, false, parameter) && filters.iter().any(own)
}

/// Values that must not be told: those of parameters whose name says so.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a stack.
    pub fn of(stack: &Stack) -> Secrets {
        let secret = |one: &&Parameter| one.key.as_deref().is_some_and(is_secret);
        let mut values: Vec<String> =
            stack.parameters.iter().filter(secret).map(|one| one.value.clone()).collect();
        // In a text a letter or two may stand for anything.
        values.retain(|value| value.len() > 2 && value != HIDDEN);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Secrets(values)
    }

    /// The same text without them.
    pub fn hide(&self, text: &mut String) {
        for value in self.0.iter().filter(|value| !value.is_empty()) {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), HIDDEN);
            }
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The stack as a report or a file may show it.
pub fn without_secrets(stack: &Stack) -> Stack {
    let mut stack = stack.clone();
    for parameter in &mut stack.parameters {
        if parameter.key.as_deref().is_some_and(is_secret) {
            parameter.value = HIDDEN.to_owned();
        }
    }
    stack
}

/// The first parameter that names a file or the like which a module would write over, for those who copy nothing.
pub fn first_overwritten(stack: &Stack) -> Option<String> {
    // An empty file has nothing to lose.
    Consent::of(stack, 0).overwritten.into_iter().next()
}

/// The first parameter whose storage is the user's, for those who copy nothing.
pub fn first_storage(stack: &Stack) -> Option<String> {
    let consent = Consent::of(stack, 0);
    let copied = stack.parameters.iter().find(|one| consent.copied.contains(&one.value)).map(parameter_text);
    consent.spared.into_iter().next().or(copied.map(|text| format!("`{text}` names storage of yours")))
}

/// Nothing outside of a server is touched, as far as can be told: the modules are the server's own, none of them runs
/// somebody's code, and no parameter names storage that is not copied. Only then do servers side by side not get in one
/// another's way.
pub fn keeps_to_itself(stack: &Stack) -> bool {
    let Layers::Wrapped { filters, plugin } = &stack.layers else { return true };
    let own = filters.iter().chain([plugin]).all(|name| !name.contains(['/', '.']));
    own && !stock::runs_code(plugin) && Consent::of(stack, LIMIT).is_free()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(filters: &[&str], plugin: &str, words: &[&str]) -> Stack {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let layers = Layers::Wrapped { filters, plugin: plugin.to_owned() };
        let parameters = words.iter().map(|word| crate::run::parameter::parameter(word)).collect();
        Stack { layers, parameters, ..Stack::default() }
    }

    fn consent(filters: &[&str], plugin: &str, words: &[&str]) -> Consent {
        Consent::of(&stack(filters, plugin, words), LIMIT)
    }

    #[test]
    fn numbers_sizes_and_booleans_name_no_storage() {
        for value in ["64M", "1", "0x1F", "1.5G", "50%", "10ms", "true", "Off", "-1", ""] {
            assert!(is_plain(value), "{value}");
        }
        for value in [
            "photos",
            "10.0.0.1",
            "127.0.0.1",
            "pool/vol",
            "s3:bucket",
            "localhost",
            "::1",
            "1.2.3",
            "0x",
            "k",
        ] {
            assert!(!is_plain(value), "{value}");
        }
    }

    #[test]
    fn a_word_may_name_storage_whatever_it_looks_like() {
        for word in ["bucket=photos", "host=10.0.0.1", "pool/vol", "disk=s3:bucket", "photos"] {
            assert!(!consent(&[], "./mine.so", &["64M", word]).is_free(), "{word}");
        }
        assert!(!consent(&[], "nbd", &["port=10999", "vsock=2"]).is_free());
        assert!(consent(&[], "./mine.so", &["64M", "fast=on", "threads=4"]).is_free());
    }

    #[test]
    fn keywords_of_nbdkits_own_modules_and_code_name_none() {
        assert!(consent(&["cache"], "memory", &["64M", "allocator=malloc", "cache=writethrough"]).is_free());
        assert!(consent(&[], "sh", &["./script.sh"]).is_free());
        assert!(consent(&[], "eval", &["get_size=stat -c %s /disk"]).is_free());
        // The same words are nobody's keywords elsewhere.
        assert!(!consent(&[], "./mine.so", &["cache=writethrough"]).is_free());
        assert!(!consent(&["./mine.so"], "memory", &["64M", "pool=writethrough"]).is_free());
    }

    #[test]
    fn a_file_is_copied_unless_it_is_too_large_or_may_name_others() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let raw = file("raw", &[7; 100_000]);
        assert_eq!(consent(&[], "file", &[&raw]).copied, BTreeSet::from([raw.clone()]));
        let limited = Consent::of(&stack(&[], "file", &[&raw]), 1000);
        assert!(limited.copied.is_empty() && limited.spared[0].contains("--copy-limit"), "{limited:?}");
        let letters = file("letters", &[b'A'; 4096]);
        assert!(consent(&[], "file", &[&letters]).is_free());
        let text = file("pool.conf", b"disk = /dev/sda\n");
        assert!(!consent(&[], "./mine.so", &[&format!("config={text}")]).is_free());
        let mut qcow2 = vec![0; 512];
        qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        assert!(consent(&[], "file", &[&file("plain.qcow2", &qcow2)]).is_free());
        qcow2[15] = 200;
        assert!(!consent(&[], "file", &[&file("over.qcow2", &qcow2)]).is_free());
        assert!(!consent(&[], "file", &[&format!("dir={}", directory.path().display())]).is_free());
        assert!(!consent(&[], "file", &["/dev/null"]).is_free());
    }

    #[test]
    fn what_a_filter_makes_is_made_elsewhere_and_what_may_be_its_storage_is_not_written_to() {
        let log = consent(&["log"], "memory", &["1M", "logfile=no-such-log"]);
        assert!(log.is_free() && log.copied.contains("no-such-log"), "{log:?}");
        assert!(consent(&["./mine.so"], "memory", &["1M", "pool=photos"]).filters_spared);
        assert!(!consent(&["./mine.so"], "file", &["dir=/"]).filters_spared);
        assert!(!consent(&["cow"], "./mine.so", &["pool=photos"]).filters_spared);
    }

    #[test]
    fn secrets_are_told_by_their_names() {
        for key in ["password", "passphrase", "api-key", "key", "access_token", "cookie", "aws-secret"] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["size", "monkey", "keyboard", "file"] {
            assert!(!is_secret(key), "{key}");
        }
        let mut text = "wrong: hunter22".to_owned();
        let stack = stack(&[], "./mine.so", &["password=hunter22", "pin=1"]);
        Secrets::of(&stack).hide(&mut text);
        assert_eq!(text, "wrong: ***");
        assert_eq!(without_secrets(&stack).parameters[0].value, HIDDEN);
    }

    #[test]
    fn servers_side_by_side_share_nothing_only_where_that_is_known() {
        let alone = |filters: &[&str], plugin: &str, word: &str| {
            let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
            let layers = Layers::Wrapped { filters, plugin: plugin.to_owned() };
            keeps_to_itself(&Stack {
                layers,
                parameters: vec![crate::run::parameter::parameter(word)],
                ..Stack::default()
            })
        };
        assert!(alone(&["cow"], "memory", "64M"));
        assert!(!alone(&["./mine.so"], "memory", "64M"));
        assert!(!alone(&[], "./mine.so", "64M"));
        assert!(!alone(&[], "sh", "./script.sh"));
        assert!(!alone(&[], "eval", "get_size=stat -c %s /disk"));
        assert!(!alone(&[], "file", "/dev/sda"));
    }
}
