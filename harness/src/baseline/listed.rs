//! A file of findings of a subject that are accepted: rules and checks, whatever the scenario.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::{Baseline, BaselineError, Entry, How};
use crate::foreign::bounded;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    known: Vec<One>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    id: Spanned<String>,
    actual: Option<String>,
    why: Spanned<String>,
}

impl Baseline {
    /// Reads a file about what these ids are of; what is none of them is an error, in these words, and this lists them.
    pub(crate) fn load_listed(
        path: &Path,
        is_id: impl Fn(&str) -> bool,
        unknown: &str,
        lister: &str,
    ) -> Result<Baseline, BaselineError> {
        let file = path.display().to_string();
        let text =
            bounded::text(path).map_err(|source| BaselineError::Unreadable { file: file.clone(), source })?;
        listed(&text, &file, is_id, |id| format!("{unknown} `{id}`: `{lister}` lists them all"))
    }

    /// The text of the file without these entries, and with these: ids, and what exactly is seen, where that matters.
    pub(crate) fn changed<'n>(
        &self,
        stale: &[Entry],
        new: impl IntoIterator<Item = (&'n str, Option<&'n str>)>,
    ) -> String {
        let kept = self.entries.iter().filter(|entry| !stale.contains(entry));
        let mut entries: Vec<Entry> = kept.cloned().collect();
        for (id, actual) in new {
            let (id, actual) = (id.to_owned(), actual.map(str::to_owned));
            if !entries.iter().any(|one| one.id == id && one.actual == actual) {
                let (scenario, how) = (None, How::Deterministic);
                entries.push(Entry { id, actual, scenario, how, why: String::new() });
            }
        }
        entries.iter().map(text).collect::<Vec<_>>().join("\n")
    }
}

/// The entry as it stands in such a file.
fn text(entry: &Entry) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let actual = entry.actual.as_deref().map_or(String::new(), |text| format!("actual = {}\n", quoted(text)));
    format!("[[known]]\nid = {}\n{actual}why = {}\n", quoted(&entry.id), quoted(&entry.why))
}

fn listed(
    text: &str,
    name: &str,
    is_id: impl Fn(&str) -> bool,
    unknown: impl Fn(&str) -> String,
) -> Result<Baseline, BaselineError> {
    let wrong = |start: usize, what: String| BaselineError::at(name, text, start, what);
    let file: Listed = toml::from_str(text)
        .map_err(|error| wrong(error.span().unwrap_or_default().start, error.message().to_owned()))?;
    let mut entries: Vec<Entry> = Vec::new();
    for One { id, actual, why } in file.known {
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
        let (scenario, how) = (None, How::Deterministic);
        entries.push(Entry { id, actual, scenario, how, why: why.into_inner() });
    }
    Ok(Baseline { entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[known]]\nid = \"write.odd\"\nwhy = \"sectors\"\n";

    fn read(text: &str) -> Result<Baseline, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.toml");
        std::fs::write(&path, text).unwrap();
        let shown = format!("{}/", directory.path().display());
        Baseline::load_of_modules(&path).map_err(|error| error.to_string().replace(&shown, ""))
    }

    #[test]
    fn an_entry_names_a_check_or_a_rule_and_says_why() {
        assert_eq!(read(GOOD).unwrap().entries[0].id, "write.odd");
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
        let one = Entry {
            id: "process.crash".to_owned(),
            actual: Some("killed by \"signal\" 6\n".to_owned()),
            scenario: None,
            how: How::Deterministic,
            why: "it aborts".to_owned(),
        };
        let other = Entry { actual: None, ..one.clone() };
        let both = text(&one) + "\n" + &text(&other);
        assert_eq!(read(&both).unwrap().entries, [one, other]);
    }
}
