//! The graph of a crate's files: an arrow goes from a file to each file that defines something that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use super::is_test;

/// A path of modules, from the root of the crate.
type Module = Vec<String>;

/// The names that are looked up already, each with the module that it stands in.
type Seen = BTreeSet<(Module, String)>;

/// What one file says: what it defines, imports and names, outside of its tests.
#[derive(Default)]
struct Source {
    defines: BTreeSet<String>,
    /// The names that `use` gives, with the paths behind them.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Paths that the file names, imports that it only gives again left out.
    names: Vec<Vec<String>>,
    /// The modules that only tests have.
    of_tests: BTreeSet<String>,
    /// How deep in modules without a file of their own the visitor stands.
    depth: usize,
}

impl Source {
    fn read(file: &Path) -> Source {
        let mut source = Source::default();
        source.visit_file(&syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap());
        source
    }

    /// Adds a path that is named, as it reads from the file's own module.
    fn name(&mut self, mut path: Vec<String>) {
        for _ in 0..self.depth {
            if path.first().is_some_and(|first| first == "super") {
                path.remove(0);
            }
        }
        self.names.push(path);
    }

    fn import(&mut self, tree: &syn::UseTree, before: &[String], again: bool) {
        let with = |ident: &syn::Ident| {
            let own = (ident != "self").then(|| ident.to_string());
            before.iter().cloned().chain(own).collect::<Vec<_>>()
        };
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &with(&path.ident), again),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before, again))
            }
            syn::UseTree::Glob(_) => self.globs.push(before.to_vec()),
            syn::UseTree::Name(syn::UseName { ident }) => {
                let path = with(ident);
                self.imported(path.last().cloned().unwrap(), path, again);
            }
            syn::UseTree::Rename(rename) => {
                self.imported(rename.rename.to_string(), with(&rename.ident), again);
            }
        }
    }

    fn imported(&mut self, name: String, path: Vec<String>, again: bool) {
        if !again {
            self.name(path.clone());
        }
        self.imports.insert(name, path);
    }

    /// Adds the paths among the tokens of a macro.
    fn tokens(&mut self, tokens: &str) {
        let joined = without_literals(tokens).replace(" :: ", "::").replace(":: ", "::").replace(" ::", "::");
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        for word in joined.split(|letter| !is_part(letter)) {
            let path: Vec<_> = word.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            if path.first().is_some_and(|first| !first.starts_with(|letter: char| letter.is_numeric())) {
                self.name(path);
            }
        }
    }
}

/// Returns tokens without the texts among them: what a document or a message names is no arrow.
fn without_literals(tokens: &str) -> String {
    let mut parts = tokens.replace(r#"\\"#, "").replace(r#"\""#, "");
    for hashes in ["##", "#"] {
        let (begin, end) = (format!("r{hashes}\""), format!("\"{hashes}"));
        while let Some((before, (_, after))) =
            parts.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)))
        {
            parts = format!("{before}{after}");
        }
    }
    parts.split('"').step_by(2).collect::<Vec<_>>().join(" ")
}

/// Returns the name of an item, and its attributes.
fn item_of(item: &syn::Item) -> (Option<String>, &[syn::Attribute]) {
    match item {
        syn::Item::Const(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Enum(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Fn(item) => (Some(item.sig.ident.to_string()), &item.attrs),
        syn::Item::Macro(item) => (item.ident.as_ref().map(ToString::to_string), &item.attrs),
        syn::Item::Static(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Struct(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Trait(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Type(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Union(item) => (Some(item.ident.to_string()), &item.attrs),
        syn::Item::Mod(item) => (None, &item.attrs),
        syn::Item::Use(item) => (None, &item.attrs),
        syn::Item::Impl(item) => (None, &item.attrs),
        _ => (None, &[]),
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let (name, attributes) = item_of(item);
        if is_test(attributes) {
            if let syn::Item::Mod(module) = item {
                self.of_tests.insert(module.ident.to_string());
            }
            return;
        }
        self.defines.extend(name);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, item);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(&item.tokens.to_string());
        visit::visit_macro(self, item);
    }
}

/// The files of a crate.
pub(super) struct Graph {
    root: PathBuf,
    files: BTreeMap<Module, (PathBuf, Source)>,
}

impl Graph {
    /// Reads the crate whose sources are below a folder.
    pub(super) fn of(root: &Path) -> Graph {
        let files = super::sources(root).into_iter();
        let read = |file: PathBuf| {
            let module = module_of(file.strip_prefix(root).unwrap())?;
            Some((module, (file.clone(), Source::read(&file))))
        };
        let all: BTreeMap<Module, (PathBuf, Source)> = files.filter_map(read).collect();
        let of_tests = |module: &[String]| {
            let (name, parent) = module.split_last()?;
            Some(all.get(parent)?.1.of_tests.contains(name))
        };
        let is_of_tests =
            |module: &Module| (1..=module.len()).any(|end| of_tests(&module[..end]) == Some(true));
        let tests: BTreeSet<Module> = all.keys().filter(|module| is_of_tests(module)).cloned().collect();
        let files = all.into_iter().filter(|(module, _)| !tests.contains(module)).collect();
        Graph { root: root.to_owned(), files }
    }

    /// Returns the module of the file that defines what a path of `module` names, if it is of this crate.
    fn resolve(&self, module: &Module, path: &[String], seen: &mut Seen) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        if !seen.insert((module.clone(), first.clone())) {
            return None;
        }
        let source = &self.files.get(module)?.1;
        let below = |module: &[String]| {
            let child = [module, std::slice::from_ref(first)].concat();
            self.files.contains_key(&child).then_some(child)
        };
        match first.as_str() {
            "crate" => self.walk(Vec::new(), rest, seen),
            "self" => self.walk(module.clone(), rest, seen),
            "super" => self.walk(module.split_last()?.1.to_vec(), rest, seen),
            "Self" => None,
            _ if source.defines.contains(first) => Some(module.clone()),
            _ => match (source.imports.get(first), below(module)) {
                (Some(import), _) => {
                    let whole = [import.as_slice(), rest].concat();
                    self.resolve(module, &whole, seen)
                }
                (None, Some(child)) => self.walk(child, rest, seen),
                (None, None) => {
                    let mut behind =
                        |glob: &Vec<String>| self.resolve(module, &[glob.as_slice(), path].concat(), seen);
                    source.globs.iter().find_map(&mut behind)
                }
            },
        }
    }

    /// Goes down from a module along a path.
    fn walk(&self, module: Module, path: &[String], seen: &mut Seen) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        if first == "super" {
            return self.walk(module.split_last()?.1.to_vec(), rest, seen);
        }
        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
        if self.files.contains_key(&child) {
            return self.walk(child, rest, seen);
        }
        self.resolve(&module, path, seen)
    }

    /// Returns which files name something of which others.
    pub(super) fn arrows(&self) -> BTreeMap<PathBuf, BTreeMap<PathBuf, String>> {
        let mut arrows: BTreeMap<PathBuf, BTreeMap<PathBuf, String>> = BTreeMap::new();
        for (module, (_, source)) in &self.files {
            for path in &source.names {
                if let Some(other) =
                    self.resolve(module, path, &mut Seen::new()).filter(|other| other != module)
                {
                    let to = arrows.entry(self.shown(module)).or_default();
                    to.entry(self.shown(&other)).or_insert_with(|| path.join("::"));
                }
            }
        }
        arrows
    }

    fn shown(&self, module: &Module) -> PathBuf {
        self.files[module].0.strip_prefix(&self.root).unwrap().to_owned()
    }

    /// Returns the groups of files of which each reaches each, with the arrows among them.
    pub(super) fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
            arrows.keys().map(|file| (file, reach(&arrows, file))).collect();
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for (file, there) in &reached {
            if !there.contains(file) || !seen.insert(*file) {
                continue;
            }
            let back = |other: &&&PathBuf| reached.get(**other).is_some_and(|back| back.contains(file));
            let group: BTreeSet<&PathBuf> = there.iter().filter(back).copied().collect();
            seen.extend(&group);
            let mut text = format!("{} files:", group.len());
            for from in &group {
                for (to, why) in arrows[*from].iter().filter(|(to, _)| group.contains(to)) {
                    text += &format!("\n  {} → {} ({why})", from.display(), to.display());
                }
            }
            circles.push(text);
        }
        circles
    }
}

/// Returns all files that arrows lead to from one.
fn reach<'a>(
    arrows: &'a BTreeMap<PathBuf, BTreeMap<PathBuf, String>>,
    from: &PathBuf,
) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<_> = arrows.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(arrows.get(file).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

/// Returns the module that a file is, unless it is a program's.
fn module_of(file: &Path) -> Option<Module> {
    let mut module: Module =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    match module.last()?.as_str() {
        "main" => return None,
        "lib" | "mod" => _ = module.pop(),
        _ => {}
    }
    Some(module)
}
