//! What is known of a subject, and reviewed: findings that do not count for as long as they are there.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::verdicts::ModuleFinding;
use crate::baseline::BaselineError;
use crate::foreign::bounded;
use crate::rules;
use crate::validate::checks;
use crate::validate::checks::module_rules::module_rules;

/// The findings that a file lists, each with the reason why it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    entries: Vec<KnownFinding>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFinding {
    /// The check or rule.
    pub id: String,
    /// What came instead of what was expected; any, where it is not said.
    pub actual: Option<String>,
    /// Why it is kept.
    pub why: String,
}

impl KnownFinding {
    pub(in crate::validate) fn is_of(&self, finding: &ModuleFinding) -> bool {
        self.lists(finding.id, &finding.actual)
    }

    /// It lists what shows itself by this id and like this.
    pub(crate) fn lists(&self, id: &str, seen: &str) -> bool {
        self.id == id && self.actual.as_ref().is_none_or(|actual| actual == seen)
    }

    fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let actual =
            self.actual.as_deref().map_or(String::new(), |text| format!("actual = {}\n", quoted(text)));
        format!("[[known]]\nid = {}\n{actual}why = {}\n", quoted(&self.id), quoted(&self.why))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    actual: Option<String>,
    why: Spanned<String>,
}

impl Known {
    /// Reads a file about a subject: checks and rules of plugins and filters.
    pub fn load(path: &Path) -> Result<Known, BaselineError> {
        let is_id =
            |id: &str| checks::all().any(|one| one.id == id) || module_rules().any(|one| one.id == id);
        Known::load_of(path, is_id, "there is no check and no rule", "layers validate --list")
    }

    /// Reads a file about servers that were watched: rules, and what stands for a crash.
    pub(crate) fn load_of_servers(path: &Path, crash: &str) -> Result<Known, BaselineError> {
        let is_id = |id: &str| id == crash || rules::find(id).is_some();
        Known::load_of(path, is_id, "there is no rule", "layers rules")
    }

    /// Reads a file about what these ids are of; what is none of them is an error, in these words, and this lists them.
    pub(crate) fn load_of(
        path: &Path,
        is_id: impl Fn(&str) -> bool,
        unknown: &str,
        lister: &str,
    ) -> Result<Known, BaselineError> {
        let file = path.display().to_string();
        let text =
            bounded::text(path).map_err(|source| BaselineError::Unreadable { file: file.clone(), source })?;
        Known::parse(&text, &file, is_id, |id| format!("{unknown} `{id}`: `{lister}` lists them all"))
    }

    fn parse(
        text: &str,
        name: &str,
        is_id: impl Fn(&str) -> bool,
        unknown: impl Fn(&str) -> String,
    ) -> Result<Known, BaselineError> {
        let wrong = |start: usize, what: String| BaselineError::at(name, text, start, what);
        let file: File = toml::from_str(text)
            .map_err(|error| wrong(error.span().unwrap_or_default().start, error.message().to_owned()))?;
        let mut entries: Vec<KnownFinding> = Vec::new();
        for Entry { id, actual, why } in file.known {
            let (place, id) = (id.span().start, id.into_inner());
            if !is_id(&id) {
                return Err(wrong(place, unknown(&id)));
            }
            if entries.iter().any(|one| one.id == id && one.actual == actual) {
                return Err(wrong(place, format!("`{id}` stands here twice")));
            }
            if why.get_ref().trim().is_empty() {
                let what = "`why` is empty: say why the finding is kept";
                return Err(wrong(why.span().start, what.to_owned()));
            }
            entries.push(KnownFinding { id, actual, why: why.into_inner() });
        }
        Ok(Known { entries })
    }

    /// All that is listed, in the order of the file.
    pub fn entries(&self) -> &[KnownFinding] {
        &self.entries
    }

    /// The entry that lists what shows itself by this id and like this.
    pub(crate) fn entry(&self, id: &str, seen: &str) -> Option<&KnownFinding> {
        self.entries.iter().find(|entry| entry.lists(id, seen))
    }

    /// The text of the file without these entries, and with these: ids, and what exactly is seen, where that matters.
    pub(crate) fn changed<'n>(
        &self,
        stale: &[KnownFinding],
        new: impl IntoIterator<Item = (&'n str, Option<&'n str>)>,
    ) -> String {
        let kept = self.entries.iter().filter(|entry| !stale.contains(entry));
        let mut entries: Vec<KnownFinding> = kept.cloned().collect();
        for (id, actual) in new {
            let (id, actual) = (id.to_owned(), actual.map(str::to_owned));
            if !entries.iter().any(|one| one.id == id && one.actual == actual) {
                entries.push(KnownFinding { id, actual, why: String::new() });
            }
        }
        entries.iter().map(KnownFinding::text).collect::<Vec<_>>().join("\n")
    }

    /// It lists this finding.
    pub fn has(&self, finding: &ModuleFinding) -> bool {
        self.entries.iter().any(|entry| entry.is_of(finding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[known]]\nid = \"write.odd\"\nwhy = \"sectors\"\n";

    fn read(text: &str) -> Result<Known, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.toml");
        std::fs::write(&path, text).unwrap();
        let shown = format!("{}/", directory.path().display());
        Known::load(&path).map_err(|error| error.to_string().replace(&shown, ""))
    }

    #[test]
    fn an_entry_names_a_check_or_a_rule_and_says_why() {
        assert_eq!(read(GOOD).unwrap().entries()[0].id, "write.odd");
        assert!(read(&GOOD.replace("write.odd", "nego.size.range")).is_ok());
        let refused = |text: &str, said: &str| {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        };
        refused(&GOOD.replace("write.odd", "write.od"), "k.toml:2: there is no check and no rule `write.od`");
        refused(&GOOD.replace("sectors", " "), "k.toml:3: `why` is empty");
        refused(&GOOD.replace("why", "wyh"), "k.toml:3: unknown field `wyh`");
        refused(&(GOOD.to_owned() + GOOD), "k.toml:5: `write.odd` stands here twice");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let one = KnownFinding {
            id: "process.crash".to_owned(),
            actual: Some("killed by \"signal\" 6\n".to_owned()),
            why: "it aborts".to_owned(),
        };
        let other = KnownFinding { actual: None, ..one.clone() };
        let text = one.text() + "\n" + &other.text();
        assert_eq!(read(&text).unwrap().entries(), [one, other]);
    }
}
