//! What is known of nbdkit's own modules: which of their parameters are code, which name nothing, and which name a file
//! that they make.

use std::borrow::Cow;
use std::path::Path;

use crate::run::Parameter;

/// Plugins whose first parameter is the code of a plugin and not its data.
const SCRIPTED: &[&str] = &["sh", "python", "perl", "lua", "ruby", "tcl", "ocaml", "cc", "rust", "golang"];
/// Plugins all of whose parameters are code.
const ALL_CODE: &[&str] = &["eval"];
/// Plugins whose storage is another server's, however it is named.
const REMOTE: &[&str] =
    &["cdi", "curl", "gcs", "guestfs", "libvirt", "nbd", "rbd", "S3", "s3", "ssh", "torrent", "vddk"];
/// Plugins all of whose parameters are their data.
const ALL_DATA: &[&str] = &[
    "data",
    "example1",
    "example3",
    "full",
    "info",
    "memory",
    "null",
    "ones",
    "pattern",
    "random",
    "sparse-random",
    "zero",
];

/// Keys of theirs. The data plugin takes any other as the name of a variable.
const DATA_KEYS: &[&str] = &[
    "allocator",
    "base64",
    "byte",
    "data",
    "mode",
    "percent",
    "random-content",
    "raw",
    "runlength",
    "seed",
    "size",
];

/// What a parameter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::validate) enum Meaning {
    /// It names nothing outside of the server.
    Nothing,
    /// It names a file, or a socket, that is made if it is not there.
    Made,
}

use Meaning::{Made, Nothing};

const FILTERS: &[(&str, &[(&str, Meaning)])] = &[
    ("blocksize", &[("minblock", Nothing), ("maxdata", Nothing), ("maxlen", Nothing)]),
    ("blocksize-policy", &[("blocksize-*", Nothing)]),
    ("bzip2", &[]),
    ("cache", &[("cache", Nothing), ("cache-min-block-size", Nothing), ("cache-max-size", Nothing)]),
    ("cacheextents", &[]),
    ("checkwrite", &[]),
    ("count", &[]),
    ("cow", &[("cow-block-size", Nothing)]),
    ("delay", &[("*delay", Nothing), ("delay-*", Nothing), ("rdelay", Nothing), ("wdelay", Nothing)]),
    (
        "error",
        &[
            ("error", Nothing),
            ("error-*-rate", Nothing),
            ("error-rate", Nothing),
            ("error-*-file", Nothing),
            ("error-file", Nothing),
            ("error-*", Nothing),
        ],
    ),
    ("evil", &[("evil*", Nothing)]),
    ("exitlast", &[]),
    ("exitwhen", &[("exit-when-*", Nothing)]),
    ("exportname", &[("default-export", Nothing), ("exportname*", Nothing), ("exportdesc", Nothing)]),
    ("ext2", &[("ext2file", Nothing)]),
    ("fua", &[("fuamode", Nothing)]),
    ("gzip", &[]),
    ("ip", &[("allow", Nothing), ("deny", Nothing)]),
    ("limit", &[("limit", Nothing)]),
    ("log", &[("logfile", Made), ("logappend", Nothing), ("logscript", Nothing)]),
    ("luks", &[("passphrase", Nothing)]),
    ("multi-conn", &[("multi-conn-*", Nothing)]),
    ("nocache", &[("cachemode", Nothing)]),
    ("noextents", &[]),
    ("nofilter", &[]),
    ("noparallel", &[("serialize", Nothing)]),
    ("nozero", &[("zeromode", Nothing), ("fastzeromode", Nothing)]),
    ("offset", &[("offset", Nothing), ("range", Nothing)]),
    ("openonce", &[]),
    ("partition", &[("partition*", Nothing)]),
    ("pause", &[("pause-control", Made)]),
    ("protect", &[("protect", Nothing)]),
    ("rate", &[("rate", Nothing), ("connection-rate", Nothing), ("burstiness", Nothing)]),
    ("readahead", &[]),
    ("readonly", &[]),
    ("retry", &[("retr*", Nothing)]),
    ("retry-request", &[("retry-request-*", Nothing)]),
    ("rotational", &[("rotational", Nothing)]),
    ("scan", &[("scan-*", Nothing)]),
    ("spinning", &[]),
    ("stats", &[("statsfile", Made), ("statsappend", Nothing)]),
    ("swab", &[("swab-bits", Nothing)]),
    ("tar", &[("tar-entry", Nothing), ("tar-limit", Nothing)]),
    ("time-limit", &[("time-limit", Nothing)]),
    ("tls-fallback", &[("tlsreadme", Nothing)]),
    ("truncate", &[("truncate", Nothing), ("round-*", Nothing)]),
    ("xz", &[("xz-max-*", Nothing)]),
];

const PLUGINS: &[(&str, &[(&str, Meaning)])] = &[
    ("file", &[("cache", Nothing), ("fadvise", Nothing)]),
    ("floppy", &[("label", Nothing), ("size", Nothing)]),
    ("iso", &[("prog", Nothing), ("isoprog", Nothing), ("params", Nothing)]),
    ("linuxdisk", &[("type", Nothing), ("label", Nothing), ("size", Nothing)]),
    ("ondemand", &[("command", Nothing), ("type", Nothing), ("label", Nothing), ("size", Nothing)]),
    (
        "partitioning",
        &[("alignment", Nothing), ("mbr-id", Nothing), ("partition-type", Nothing), ("type-guid", Nothing)],
    ),
    ("split", &[]),
    ("tmpdisk", &[("command", Nothing), ("type", Nothing), ("label", Nothing), ("size", Nothing)]),
];

/// Returns the name of one of nbdkit's own modules, also where a path or a link leads to its file (nbdkit(1), "Plugin and filter
/// names"); a path that leads to another file stays as it is.
fn name(module: &str) -> Cow<'_, str> {
    if !module.contains(['/', '.']) {
        return Cow::Borrowed(module);
    }
    let file = std::fs::canonicalize(module).ok();
    let file = file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let name = file
        .and_then(|name| name.strip_prefix("nbdkit-"))
        .and_then(|name| name.strip_suffix("-plugin.so").or_else(|| name.strip_suffix("-filter.so")));
    name.map_or(Cow::Borrowed(module), |name| Cow::Owned(name.to_owned()))
}

/// It runs somebody's code.
pub(in crate::validate) fn runs_code(plugin: &str) -> bool {
    let plugin = &*name(plugin);
    SCRIPTED.contains(&plugin) || ALL_CODE.contains(&plugin)
}

/// Its storage is another server's.
pub(in crate::validate) fn is_remote(plugin: &str) -> bool {
    REMOTE.contains(&&*name(plugin))
}

/// This parameter of a plugin, the one with this index, is the code of what is judged: without it there is nothing to
/// judge.
pub(in crate::validate) fn is_code(plugin: &str, index: usize, parameter: &Parameter) -> bool {
    let plugin = &*name(plugin);
    let names = match &parameter.key {
        Some(key) => key == "script",
        None => index == 0,
    };
    ALL_CODE.contains(&plugin) || (SCRIPTED.contains(&plugin) && names)
}

/// Keys of parameters that name a program or a library, or hold one, or say where one is found, of whichever module.
const PROGRAMS: &[&str] = &[
    "*script*",
    "*command*",
    "*prog",
    "*program",
    "cmd",
    "exec",
    "cc",
    "*cflags",
    "tar",
    "shell",
    "path",
    "ld_*",
    "bash_env",
    "env",
    "libdir",
];

/// Keys of parameters that name a program by what they lead to: files of settings that may name commands, addresses whose
/// transport is a program.
const LEADS_TO_PROGRAMS: &[(&str, &[&str])] = &[
    ("guestfs", &["*"]),
    ("iso", &["params"]),
    ("libvirt", &["connect"]),
    ("nbd", &["uri"]),
    ("rbd", &["config"]),
    ("ssh", &["config"]),
    ("vddk", &["config"]),
];

/// Plugins whose parameters become part of a shell script, or variables of its environment.
const OF_A_SHELL: &[&str] = &["linuxdisk", "ondemand", "tmpdisk"];
/// Keys of theirs that the plugin itself takes, and no shell sees.
const NOT_OF_THE_SHELL: &[&str] = &["dir", "size"];

/// This parameter may have a module of this stack start a program: by its key, as the data plugin takes the output of a command, or
/// because the plugin hands it to a shell or a library that starts one.
pub(in crate::validate) fn may_run(plugin: &str, parameter: &Parameter) -> bool {
    let plugin = &*name(plugin);
    let matches = |patterns: &[&str], key: &str| {
        patterns.iter().any(|pattern| crate::campaign::select::matches(pattern, &key.to_ascii_lowercase()))
    };
    let leads = LEADS_TO_PROGRAMS.iter().find(|(name, _)| *name == plugin).map_or(&[][..], |(_, keys)| keys);
    let is_word =
        |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter));
    let of_shell = |key: &str| {
        let is_safe =
            NOT_OF_THE_SHELL.contains(&key) || (matches!(key, "type" | "label") && is_word(&parameter.value));
        OF_A_SHELL.contains(&plugin) && !is_safe
    };
    let by_key = |key: &str| matches(PROGRAMS, key) || matches(leads, key) || of_shell(key);
    parameter.key.as_deref().is_some_and(by_key) || parameter.value.contains("<(")
}

/// What this parameter means to this module, where that is known.
pub(in crate::validate) fn meaning(module: &str, filter: bool, parameter: &Parameter) -> Option<Meaning> {
    let module = &*name(module);
    let of_data = match parameter.key.as_deref() {
        None => true,
        Some("file") => false,
        Some(key) => module == "data" || DATA_KEYS.contains(&key),
    };
    if !filter && ALL_DATA.contains(&module) && of_data {
        return Some(Nothing);
    }
    let table = if filter { FILTERS } else { PLUGINS };
    let key = parameter.key.as_deref()?;
    let (_, keys) = table.iter().find(|(name, _)| *name == module)?;
    keys.iter()
        .find(|(pattern, _)| crate::campaign::select::matches(pattern, key))
        .map(|(_, meaning)| *meaning)
}

/// It is among these modules.
pub(in crate::validate) fn is_known(module: &str) -> bool {
    let module = &*name(module);
    FILTERS.iter().chain(PLUGINS).any(|(name, _)| *name == module) || ALL_DATA.contains(&module)
}

/// This module takes a parameter of this name.
pub(in crate::validate) fn takes(module: &str, filter: bool, parameter: &Parameter) -> bool {
    let files = ["file", "dir", "fd", "dirfd", "script"];
    let of_plugin =
        !filter && is_known(module) && parameter.key.as_deref().is_some_and(|key| files.contains(&key));
    of_plugin || meaning(module, filter, parameter).is_some()
}
