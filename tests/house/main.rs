//! The order of the rooms: ARCHITECTURE.md states it once, and the `use` lines of the library keep it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use self::graph::Graph;

mod graph;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the rooms in the order of the page.
fn rooms_in_order() -> Vec<String> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = page.split_once("## The rooms of `harness/src`, in order").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

/// Collects the rooms that a file names by `crate::…` outside of its tests.
struct Named(BTreeSet<String>);

impl Named {
    fn tree(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => _ = self.0.insert(path.ident.to_string()),
            syn::UseTree::Name(name) => _ = self.0.insert(name.ident.to_string()),
            syn::UseTree::Rename(rename) => _ = self.0.insert(rename.ident.to_string()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree)),
            syn::UseTree::Glob(_) => {}
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is)
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.tree(&path.tree);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut names = path.segments.iter().map(|segment| segment.ident.to_string());
        if names.next().is_some_and(|first| first == "crate") {
            self.0.extend(names.next());
        }
        visit::visit_path(self, path);
    }
}

/// Returns the Rust files below a path.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let files =
        entries.iter().filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"));
    files.flat_map(|path| sources(path)).collect()
}

/// Returns true if only tests are in this file.
fn is_of_tests(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "testing" || part.as_os_str() == "tests")
        || file.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
}

#[test]
fn no_arrow_between_rooms_runs_up() {
    let order = rooms_in_order();
    let source = root().join("harness/src");
    let mut arrows = Vec::new();
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_string_lossy().into_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(own) = order.iter().position(|other| *other == room) else {
            panic!("ARCHITECTURE.md does not list the room `{room}`");
        };
        for file in sources(&path).into_iter().filter(|file| !is_of_tests(file)) {
            let parsed = syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap();
            let mut named = Named(BTreeSet::new());
            named.visit_file(&parsed);
            // What is no room is a macro, or a name that the library gives again at its top.
            let places = named
                .0
                .iter()
                .filter_map(|name| order.iter().position(|other| other == name).map(|place| (place, name)));
            for (_, name) in places.filter(|(place, _)| *place > own) {
                arrows.push(format!(
                    "{}: {room} imports {name}",
                    file.strip_prefix(&source).unwrap().display()
                ));
            }
        }
    }
    assert!(arrows.is_empty(), "arrows that run up:\n{}", arrows.join("\n"));
}

/// Returns the rooms inside `validate`, in the order of the page.
fn rooms_of_validate() -> Vec<String> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with("| `validate` |")).unwrap();
    let names = row.split('`').filter_map(|part| part.strip_suffix('/'));
    names.map(str::to_owned).collect()
}

#[test]
fn no_arrow_inside_validate_runs_up() {
    let order = rooms_of_validate();
    let source = root().join("harness/src/validate");
    let mut arrows = Vec::new();
    for (own, room) in order.iter().enumerate() {
        for file in sources(&source.join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for later in &order[own + 1..] {
                if code.contains(&format!("crate::validate::{later}::")) {
                    arrows.push(format!(
                        "{}: {room} imports {later}",
                        file.strip_prefix(&source).unwrap().display()
                    ));
                }
            }
        }
    }
    assert!(order.len() > 5, "ARCHITECTURE.md lists the rooms of `validate`");
    assert!(arrows.is_empty(), "arrows that run up:\n{}", arrows.join("\n"));
}

#[test]
fn no_files_form_a_circle() {
    let members =
        ["harness", "harness/trace", "harness/behaviour", "layers-abi", "layers-plugin", "layers-filter"];
    let mut circles = Vec::new();
    for member in members.into_iter().chain(["layers-applet", "layers-watch"]) {
        for circle in Graph::of(&root().join(member).join("src")).circles() {
            circles.push(format!("{member}: {circle}"));
        }
    }
    assert!(circles.is_empty(), "circles of files:\n{}", circles.join("\n"));
}

#[test]
fn every_room_that_is_listed_is_there() {
    let source = root().join("harness/src");
    for room in rooms_in_order() {
        let is_there = source.join(&room).is_dir() || source.join(format!("{room}.rs")).is_file();
        assert!(is_there, "ARCHITECTURE.md lists the room `{room}`, which is not there");
    }
}

#[test]
fn nothing_right_of_the_trace_imports_the_server() {
    let order = rooms_in_order();
    let place = |room: &str| order.iter().position(|other| other == room).unwrap();
    for pure in ["history", "rules"] {
        assert!(place(pure) < place("server"), "{pure} must not know of processes");
    }
    for pure in ["baseline", "tree"] {
        for file in sources(&root().join("harness/src").join(pure)) {
            let mut named = Named(BTreeSet::new());
            named.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
            assert!(!named.0.contains("server"), "{} imports `server`", file.display());
        }
    }
}

/// Collects the names of the types that a file makes public.
struct Types(BTreeSet<String>);

impl<'ast> Visit<'ast> for Types {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (visibility, name, attributes) = match item {
            syn::Item::Struct(item) => (&item.vis, &item.ident, &item.attrs),
            syn::Item::Enum(item) => (&item.vis, &item.ident, &item.attrs),
            syn::Item::Trait(item) => (&item.vis, &item.ident, &item.attrs),
            syn::Item::Type(item) => (&item.vis, &item.ident, &item.attrs),
            _ => return visit::visit_item(self, item),
        };
        if matches!(visibility, syn::Visibility::Public(_)) && !is_test(attributes) {
            self.0.insert(name.to_string());
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}

#[test]
fn a_public_type_name_stands_once_in_the_library() {
    let source = root().join("harness/src");
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources(&source).into_iter().filter(|file| !is_of_tests(file)) {
        let mut types = Types(BTreeSet::new());
        types.visit_file(&syn::parse_file(&fs::read_to_string(&file).unwrap()).unwrap());
        let shown = file.strip_prefix(&source).unwrap().display().to_string();
        types.0.into_iter().for_each(|name| defined.entry(name).or_default().push(shown.clone()));
    }
    let twice = defined.into_iter().filter(|(_, files)| files.len() > 1);
    let twice: Vec<_> = twice.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect();
    assert!(twice.is_empty(), "types of one name:\n{}", twice.join("\n"));
}
