//! A look at the file of a plugin or filter, without loading it.

use std::path::{Path, PathBuf};

use object::{Object, ObjectKind, ObjectSection, ObjectSymbol};

use crate::campaign::select::nearest;
use crate::foreign::bounded;

/// What a file is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The plugin.
    Plugin,
    /// A filter.
    Filter,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Plugin => "plugin",
            Role::Filter => "filter",
        }
    }
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not an object file at all.
    #[error("cannot load `{}`: it is not a shared library (an ELF file); a script is a parameter of the sh, eval, python, … plugin", .0.display())]
    NotElf(PathBuf),
    /// A program or an object file.
    #[error("cannot load `{path}`: it is {found} and not a shared library; link it with -shared")]
    NotShared {
        /// The file.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// For another machine.
    #[error("cannot load `{path}`: it is for {found}, and the server is for {needed}")]
    Machine {
        /// The file.
        path: String,
        /// The machine that it is for.
        found: String,
        /// The machine that the server is for.
        needed: String,
    },
    /// The other kind of module.
    #[error("cannot load `{path}` as a {given}: it is a {found}; {advice}")]
    OtherRole {
        /// The file.
        path: String,
        /// As what it was given.
        given: &'static str,
        /// What it is.
        found: &'static str,
        /// How to give it.
        advice: &'static str,
    },
    /// No module of nbdkit.
    #[error("cannot load `{}`: it has neither plugin_init nor filter_init (NBDKIT_REGISTER_PLUGIN or NBDKIT_REGISTER_FILTER)", .0.display())]
    NoInit(PathBuf),
}

/// Looks at a file.
pub(in crate::validate) fn look(path: &Path, role: Role, server: &Path) -> Result<(), ImageError> {
    let bytes =
        bounded::module(path).map_err(|source| ImageError::Unreadable { path: path.to_owned(), source })?;
    let file = object::File::parse(&*bytes).map_err(|_| ImageError::NotElf(path.to_owned()))?;
    let shown = || path.display().to_string();
    if file.format() != object::BinaryFormat::Elf {
        return Err(ImageError::NotElf(path.to_owned()));
    }
    if let Some(needed) = machine(server).filter(|needed| *needed != machine_of(&file)) {
        return Err(ImageError::Machine { path: shown(), found: machine_of(&file), needed });
    }
    match file.kind() {
        ObjectKind::Dynamic => {}
        ObjectKind::Executable => {
            return Err(ImageError::NotShared { path: shown(), found: "a program" });
        }
        _ => return Err(ImageError::NotShared { path: shown(), found: "an object file" }),
    }
    let defines =
        |name: &str| file.dynamic_symbols().any(|symbol| symbol.is_definition() && symbol.name() == Ok(name));
    match (role, defines("plugin_init"), defines("filter_init")) {
        (Role::Plugin, true, _) | (Role::Filter, _, true) => Ok(()),
        (Role::Plugin, false, true) => Err(ImageError::OtherRole {
            path: shown(),
            given: role.word(),
            found: "filter",
            advice: "give it with --filter=",
        }),
        (Role::Filter, true, false) => Err(ImageError::OtherRole {
            path: shown(),
            given: role.word(),
            found: "plugin",
            advice: "give it without --filter=",
        }),
        (_, false, false) => Err(ImageError::NoInit(path.to_owned())),
    }
}

/// What the server or the instrument says when a module loads and does not fit; `None` for any other reason not to
/// start, such as a parameter.
pub(in crate::validate) fn of_server(complaint: &str) -> Option<String> {
    let misfits = ["incompatible", "cannot load", "cannot open", "registration", "API version", "_version"];
    misfits.iter().any(|word| complaint.contains(word)).then(|| complaint.to_owned())
}

/// What to write instead of a name that names nothing, for which the server has looked at this file: a name that is much
/// the same, or the directory, which newcomers leave out.
pub(in crate::validate) fn advice(name: &str, file: &Path) -> Option<String> {
    let near = neighbour(file);
    if name.contains('/') {
        return near.map(|near| format!("the nearest name there is `{near}`"));
    }
    let beside = [name.to_owned(), format!("{name}.so"), format!("nbdkit-{name}-plugin.so")];
    if let Some(file) = beside.iter().find(|file| Path::new(file).is_file()) {
        return Some(format!("a file of the working directory is written `./{file}`"));
    }
    let own = "a file of your own is written with its directory, such as `./mine.so`";
    let short = |file: &str| {
        let module = file.strip_prefix("nbdkit-").and_then(|rest| rest.strip_suffix(".so"));
        let module = module.and_then(|module| module.rsplit_once('-'));
        module.map_or(file, |(name, _)| name).to_owned()
    };
    Some(near.map_or(own.to_owned(), |near| format!("the nearest name is `{}`; {own}", short(&near))))
}

/// The file of this directory whose name is nearest to the one that is not there.
fn neighbour(file: &Path) -> Option<String> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    nearest(file.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_owned)
}

/// Its code is never unmapped, and no thread of its own runs into a hole: DF_1_NODELETE, as all libraries of Go's have it,
/// or a symbol that is unique in the process, as C++ makes them.
pub(in crate::validate) fn stays_mapped(path: &Path) -> bool {
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const DF_1_NODELETE: u64 = 8;
    const STB_GNU_UNIQUE: u8 = 10;
    let Ok(bytes) = bounded::module(path) else { return false };
    let Ok(file) = object::File::parse(&*bytes) else { return false };
    let dynamic =
        file.section_by_name(".dynamic").and_then(|section| section.data().ok()).unwrap_or_default();
    let word = |bytes: &[u8]| match (bytes.try_into(), file.is_little_endian()) {
        (Ok(bytes), true) => u64::from_le_bytes(bytes),
        (Ok(bytes), false) => u64::from_be_bytes(bytes),
        (Err(_), _) => 0,
    };
    let entries = dynamic.as_chunks::<16>().0.iter().map(|entry| entry.split_at(8));
    let is_set = |(tag, value)| word(tag) == DT_FLAGS_1 && word(value) & DF_1_NODELETE != 0;
    let is_unique = |symbol: &object::Symbol<'_, '_>| matches!(symbol.flags(), object::SymbolFlags::Elf { st_info, .. } if st_info.0 >> 4 == STB_GNU_UNIQUE);
    (file.is_64() && entries.into_iter().any(is_set))
        || file.dynamic_symbols().any(|symbol| symbol.is_definition() && is_unique(&symbol))
}

fn machine_of(file: &object::File<'_>) -> String {
    let bits = if file.is_64() { 64 } else { 32 };
    let order = if file.is_little_endian() { "little" } else { "big" };
    format!("{:?} ({bits} bits, {order}-endian)", file.architecture())
}

/// That of a program on the PATH or at a path; `None` where it is no ELF file (a script that starts the server).
fn machine(program: &Path) -> Option<String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let file = if program.components().count() > 1 {
        program.to_owned()
    } else {
        std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file())?
    };
    let bytes = bounded::module(&file).ok()?;
    Some(machine_of(&object::File::parse(&*bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(bytes: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.so");
        std::fs::write(&path, bytes).unwrap();
        look(&path, Role::Plugin, Path::new("/proc/self/exe")).unwrap_err().to_string()
    }

    #[test]
    fn a_text_file_is_no_library() {
        assert!(looked(b"#!/bin/sh\n").contains("not a shared library"));
    }

    #[test]
    fn a_cut_library_is_no_library() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        looked(&own[..100]);
    }

    #[test]
    fn a_library_for_another_machine_is_told_by_its_header() {
        let mut own = std::fs::read("/proc/self/exe").unwrap();
        // e_machine: EM_AARCH64, or EM_X86_64 on that.
        let is_arm = own[18] == 183;
        own[18..20].copy_from_slice(if is_arm { &[62, 0] } else { &[183, 0] });
        assert!(looked(&own).contains("and the server is for"));
    }
}
