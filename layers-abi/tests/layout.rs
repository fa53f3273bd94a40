//! The structures stand where nbdkit's headers put them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use layers_abi::layout::{FilterLayout, Layout};
use layers_abi::plugin::Plugin;

/// Offsets in `struct nbdkit_plugin`, field by field, from this crate's own declaration.
macro_rules! plugin_offsets {
    ($($field:ident)*) => { [$((stringify!($field), offset_of!(Plugin, $field)),)*] };
}

fn plugin_fields() -> [(&'static str, usize); 47] {
    plugin_offsets! {
        _struct_size _api_version _thread_model name longname version description load unload config config_complete
        config_help open close get_size can_write can_flush is_rotational can_trim _pread_v1 _pwrite_v1 _flush_v1
        _trim_v1 _zero_v1 errno_is_preserved dump_plugin can_zero can_fua pread pwrite flush trim zero
        magic_config_key can_multi_conn can_extents extents can_cache cache thread_model can_fast_zero preconnect
        get_ready after_fork list_exports default_export export_description
    }
}

fn late_plugin_fields() -> [(&'static str, usize); 2] {
    plugin_offsets! { cleanup block_size }
}

/// The offsets and the size of a structure as its header has them, printed by a compiled C program.
fn measured(preamble: &str, structure: &str, fields: &[&str]) -> BTreeMap<String, usize> {
    let prints: String = fields
        .iter()
        .map(|field| format!("printf (\"{field} %zu\\n\", offsetof (struct {structure}, {field}));\n"))
        .collect();
    let output = run_c(&format!(
        "{preamble}\nint main (void) {{\n{prints}printf (\"sizeof %zu\\n\", sizeof (struct {structure}));\n\
         return 0;\n}}\n"
    ));
    let line = |line: &str| {
        let (field, number) = line.split_once(' ').unwrap();
        (field.to_owned(), number.parse().unwrap())
    };
    output.lines().map(line).collect()
}

fn run_c(source: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (file, program) = (directory.path().join("offsets.c"), directory.path().join("offsets"));
    std::fs::write(&file, format!("#include <stdio.h>\n#include <stddef.h>\n{source}")).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler).arg("-o").arg(&program).arg(&file).status().unwrap();
    assert!(status.success(), "the C compiler refused:\n{source}");
    let output = Command::new(Path::new(&program)).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn installed_version() -> String {
    run_c(
        "#define NBDKIT_API_VERSION 2\n#include <nbdkit-plugin.h>\n\
         int main (void) { fputs (NBDKIT_VERSION_STRING, stdout); return 0; }\n",
    )
}

const PLUGIN_HEADER: &str = "#define NBDKIT_API_VERSION 2\n#include <nbdkit-plugin.h>";
const FILTER_HEADER: &str = "#include <nbdkit-filter.h>";

fn assert_as_measured(layout: &Layout, structure: &str) {
    let measured = measured(FILTER_HEADER, structure, layout.fields());
    for field in layout.fields() {
        assert_eq!(layout.offset(field), measured.get(*field).copied(), "{structure}.{field}");
    }
    // A field that the table lacks would make the header's structure longer.
    assert_eq!(Some(&layout.size()), measured.get("sizeof"), "sizeof (struct {structure})");
}

#[test]
fn plugin_structure_is_that_of_the_installed_header() {
    let fields: Vec<_> = plugin_fields().into_iter().chain(late_plugin_fields()).collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let measured = measured(PLUGIN_HEADER, "nbdkit_plugin", &names);
    for (name, offset) in fields {
        assert_eq!(Some(&offset), measured.get(name), "nbdkit_plugin.{name}");
    }
    assert_eq!(Some(&size_of::<Plugin>()), measured.get("sizeof"));
}

#[test]
fn filter_structures_are_those_of_the_installed_header() {
    let layout = FilterLayout::of(&installed_version(), false).unwrap();
    assert_as_measured(&layout.filter, "nbdkit_filter");
    assert_as_measured(&layout.next_ops, "nbdkit_next_ops");
}

/// Measured with offsetof against the headers of 1.24.1, 1.32.5, 1.42.3 and 1.48.1: the plugin's structure has
/// only ever grown at its end.
#[test]
fn plugin_structure_is_that_of_every_version() {
    let measured = [
        0, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 136, 144, 152, 160, 168,
        176, 184, 192, 200, 208, 216, 224, 232, 240, 248, 256, 264, 272, 280, 288, 296, 304, 312, 320, 328,
        336, 344, 352, 360,
    ];
    assert_eq!(plugin_fields().map(|(_, offset)| offset), measured);
    assert_eq!(late_plugin_fields().map(|(_, offset)| offset), [368, 376]);
    assert_eq!(size_of::<Plugin>(), 384);
}

/// Offsets in the filter's structures.
struct Measured {
    versions: &'static [&'static str],
    filter: &'static [(&'static str, usize)],
    filter_size: usize,
    next_ops: &'static [(&'static str, usize)],
    next_ops_size: usize,
    thread_model_takes_argument: bool,
}

/// Measured with offsetof against the headers of 1.32.5, 1.42.3 and 1.48.1; 1.26 and 1.28 are 1.32 without
/// `block_size`, which came with 1.30, and `dump_plugin` came with 1.36.
const MEASURED: [Measured; 4] = [
    Measured {
        versions: &["1.26.0", "1.28.4"],
        filter: &[
            ("get_ready", 88),
            ("after_fork", 96),
            ("cleanup", 104),
            ("preconnect", 112),
            ("open", 136),
            ("get_size", 168),
            ("export_description", 176),
            ("can_write", 184),
            ("can_cache", 256),
            ("pread", 264),
            ("cache", 312),
        ],
        filter_size: 320,
        next_ops: &[
            ("prepare", 0),
            ("finalize", 8),
            ("get_size", 16),
            ("export_description", 24),
            ("can_write", 32),
            ("can_cache", 104),
            ("pread", 112),
            ("cache", 160),
        ],
        next_ops_size: 168,
        thread_model_takes_argument: false,
    },
    Measured {
        versions: &["1.30.0", "1.32.5", "1.34.4"],
        filter: &[
            ("_api_version", 0),
            ("_version", 8),
            ("name", 16),
            ("longname", 24),
            ("description", 32),
            ("load", 40),
            ("unload", 48),
            ("config", 56),
            ("config_complete", 64),
            ("config_help", 72),
            ("thread_model", 80),
            ("get_ready", 88),
            ("after_fork", 96),
            ("cleanup", 104),
            ("preconnect", 112),
            ("list_exports", 120),
            ("default_export", 128),
            ("open", 136),
            ("close", 144),
            ("prepare", 152),
            ("finalize", 160),
            ("get_size", 168),
            ("export_description", 176),
            ("block_size", 184),
            ("can_write", 192),
            ("can_flush", 200),
            ("is_rotational", 208),
            ("can_trim", 216),
            ("can_zero", 224),
            ("can_fast_zero", 232),
            ("can_extents", 240),
            ("can_fua", 248),
            ("can_multi_conn", 256),
            ("can_cache", 264),
            ("pread", 272),
            ("pwrite", 280),
            ("flush", 288),
            ("trim", 296),
            ("zero", 304),
            ("extents", 312),
            ("cache", 320),
        ],
        filter_size: 328,
        next_ops: NEXT_OPS_FROM_1_30,
        next_ops_size: 176,
        thread_model_takes_argument: false,
    },
    Measured {
        versions: &["1.36.0", "1.38.4", "1.40.0", "1.42.3"],
        filter: FILTER_FROM_1_36,
        filter_size: 336,
        next_ops: NEXT_OPS_FROM_1_30,
        next_ops_size: 176,
        thread_model_takes_argument: false,
    },
    Measured {
        versions: &["1.44.0", "1.46.2", "1.48.1"],
        filter: FILTER_FROM_1_36,
        filter_size: 336,
        next_ops: NEXT_OPS_FROM_1_30,
        next_ops_size: 176,
        thread_model_takes_argument: true,
    },
];

const FILTER_FROM_1_36: &[(&str, usize)] = &[
    ("thread_model", 80),
    ("dump_plugin", 88),
    ("get_ready", 96),
    ("after_fork", 104),
    ("cleanup", 112),
    ("preconnect", 120),
    ("list_exports", 128),
    ("default_export", 136),
    ("open", 144),
    ("close", 152),
    ("prepare", 160),
    ("finalize", 168),
    ("get_size", 176),
    ("export_description", 184),
    ("block_size", 192),
    ("can_write", 200),
    ("can_flush", 208),
    ("is_rotational", 216),
    ("can_trim", 224),
    ("can_zero", 232),
    ("can_fast_zero", 240),
    ("can_extents", 248),
    ("can_fua", 256),
    ("can_multi_conn", 264),
    ("can_cache", 272),
    ("pread", 280),
    ("pwrite", 288),
    ("flush", 296),
    ("trim", 304),
    ("zero", 312),
    ("extents", 320),
    ("cache", 328),
];

const NEXT_OPS_FROM_1_30: &[(&str, usize)] = &[
    ("prepare", 0),
    ("finalize", 8),
    ("get_size", 16),
    ("export_description", 24),
    ("block_size", 32),
    ("can_write", 40),
    ("can_flush", 48),
    ("is_rotational", 56),
    ("can_trim", 64),
    ("can_zero", 72),
    ("can_fast_zero", 80),
    ("can_extents", 88),
    ("can_fua", 96),
    ("can_multi_conn", 104),
    ("can_cache", 112),
    ("pread", 120),
    ("pwrite", 128),
    ("flush", 136),
    ("trim", 144),
    ("zero", 152),
    ("extents", 160),
    ("cache", 168),
];

#[test]
fn filter_structures_are_those_of_every_version() {
    for measured in MEASURED {
        for version in measured.versions {
            let layout = FilterLayout::of(version, false).unwrap();
            for (field, offset) in measured.filter {
                assert_eq!(layout.filter.offset(field), Some(*offset), "{version} nbdkit_filter.{field}");
            }
            for (field, offset) in measured.next_ops {
                assert_eq!(layout.next_ops.offset(field), Some(*offset), "{version} nbdkit_next_ops.{field}");
            }
            assert_eq!(layout.filter.size(), measured.filter_size, "{version}");
            assert_eq!(layout.next_ops.size(), measured.next_ops_size, "{version}");
            assert_eq!(layout.thread_model_takes_argument, measured.thread_model_takes_argument, "{version}");
        }
    }
}
