//! What is known of nbdkit's own modules: which of their parameters are code, which name nothing, and which name a file
//! that they make.

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
pub(super) enum Meaning {
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

/// It runs somebody's code.
pub(super) fn runs_code(plugin: &str) -> bool {
    SCRIPTED.contains(&plugin) || ALL_CODE.contains(&plugin)
}

/// Its storage is another server's.
pub(super) fn is_remote(plugin: &str) -> bool {
    REMOTE.contains(&plugin)
}

/// This parameter of a plugin, the one with this index, is the code of what is judged: without it there is nothing to
/// judge.
pub(super) fn is_code(plugin: &str, index: usize, parameter: &Parameter) -> bool {
    let names = match &parameter.key {
        Some(key) => key == "script",
        None => index == 0,
    };
    ALL_CODE.contains(&plugin) || (SCRIPTED.contains(&plugin) && names)
}

/// Keys of parameters that name a program or hold one, of whichever module.
const PROGRAMS: &[&str] =
    &["*script*", "*command*", "*prog", "*program", "cmd", "exec", "cc", "tar", "shell"];

/// This parameter may have a module start a program: by its key, or as the data plugin takes the output of a command.
pub(super) fn may_run(parameter: &Parameter) -> bool {
    let names = |key: &str| {
        PROGRAMS.iter().any(|pattern| crate::campaign::select::matches(pattern, &key.to_ascii_lowercase()))
    };
    parameter.key.as_deref().is_some_and(names) || parameter.value.contains("<(")
}

/// What this parameter means to this module, where that is known.
pub(super) fn meaning(module: &str, filter: bool, parameter: &Parameter) -> Option<Meaning> {
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
pub(super) fn is_known(module: &str) -> bool {
    FILTERS.iter().chain(PLUGINS).any(|(name, _)| *name == module) || ALL_DATA.contains(&module)
}

/// This module takes a parameter of this name.
pub(super) fn takes(module: &str, filter: bool, parameter: &Parameter) -> bool {
    let files = ["file", "dir", "fd", "dirfd", "script"];
    let of_plugin =
        !filter && is_known(module) && parameter.key.as_deref().is_some_and(|key| files.contains(&key));
    of_plugin || meaning(module, filter, parameter).is_some()
}
