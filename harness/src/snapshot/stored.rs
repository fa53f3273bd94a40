//! One stored tree: a file as insta writes it, a header between two lines of `---` and the text.
//!
//! insta's library hides how such files are made, so the little of the format that is needed stands here; the tests hold
//! it against insta's own reader and writer.

use std::fmt::Write;

/// A tree, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the header says of it.
    pub made: MadeFrom,
    /// The tree.
    pub tree: String,
}

/// What a tree was made from: in the header, for people and for the headings of differences. It is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeFrom {
    /// The server and its version, as in `nbdkit 1.32.5`; empty where the header does not say.
    pub server: String,
    /// The name of the scenario.
    pub scenario: String,
    /// The stack, as on the server's command line.
    pub stack: String,
}

/// Not such a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The header is missing, or has no end.
    #[error("it has no header between two lines of `---`")]
    NoHeader,
    /// A value of the header that is not one.
    #[error("line {line}: `{key}` has no value that insta would have written")]
    Value {
        /// Number of the line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

/// The table of the header that holds what is not insta's own.
const INFO: &str = "info";

impl Stored {
    /// The text of the file.
    pub fn text(&self) -> String {
        let MadeFrom { server, scenario, stack } = &self.made;
        let mut text = format!("---\n{INFO}:\n");
        for (key, value) in [("server", server), ("scenario", scenario), ("stack", stack)] {
            // A string of JSON is one of YAML.
            let _ = writeln!(text, "  {key}: {}", serde_json::Value::from(value.as_str()));
        }
        let _ = write!(text, "---\n{}\n", self.tree.trim_end());
        text
    }

    /// Reads the text of a file that this project or `cargo insta` has written.
    ///
    /// # Errors
    ///
    /// It is not in insta's format.
    pub fn read(text: &str) -> Result<Stored, FormatError> {
        let text = text.replace("\r\n", "\n");
        let rest = text.strip_prefix("---\n").ok_or(FormatError::NoHeader)?;
        let (header, tree) = match rest.strip_prefix("---\n") {
            Some(tree) => ("", tree),
            None => rest.split_once("\n---\n").ok_or(FormatError::NoHeader)?,
        };
        Ok(Stored { made: made(header)?, tree: tree.trim_end().to_owned() })
    }
}

fn made(header: &str) -> Result<MadeFrom, FormatError> {
    let mut made = MadeFrom::default();
    let mut table = "";
    for (number, line) in header.lines().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let inner = key.trim_start();
        if inner.len() == key.len() {
            table = key;
            continue;
        }
        let field = match inner {
            "server" if table == INFO => &mut made.server,
            "scenario" if table == INFO => &mut made.scenario,
            "stack" if table == INFO => &mut made.stack,
            _ => continue,
        };
        let wrong = || FormatError::Value { line: number + 2, key: inner.to_owned() };
        *field = scalar(value.trim()).ok_or_else(wrong)?;
    }
    Ok(made)
}

/// A string as insta writes it: in the quotes of JSON where it must be, else plain.
fn scalar(value: &str) -> Option<String> {
    match value.chars().next()? {
        '"' => serde_json::from_str(value).ok(),
        '\'' | '|' | '>' | '&' | '*' | '[' | '{' => None,
        _ => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let made = MadeFrom {
            server: "nbdkit 1.32.5".to_owned(),
            scenario: "options/info".to_owned(),
            stack: "--filter=cow sh ./a\"b.sh key=# 'ä'\t".to_owned(),
        };
        Stored { made, tree: "start\n  L0.load\nexit status 0".to_owned() }
    }

    #[test]
    fn a_file_reads_back_as_written() {
        assert_eq!(Stored::read(&stored().text()), Ok(stored()));
        assert_eq!(
            Stored::read(&stored().text().replace('\n', "\r\n")),
            Ok(stored()),
            "as git may hand it out"
        );
    }

    #[test]
    fn insta_reads_it_and_writes_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory__options.info.snap");
        std::fs::write(&path, stored().text()).unwrap();
        let snapshot = insta::Snapshot::from_file(&path).unwrap();
        assert_eq!(snapshot.as_text().unwrap().to_string(), stored().tree);
        assert_eq!((snapshot.module_name(), snapshot.snapshot_name()), ("memory", Some("options.info")));
        snapshot.save(&path).unwrap();
        assert_eq!(Stored::read(&std::fs::read_to_string(&path).unwrap()), Ok(stored()));
    }

    #[test]
    fn a_header_of_insta_alone_is_read() {
        let text = "---\nsource: tests/a.rs\nexpression: tree\n---\nstart\n";
        assert_eq!(
            Stored::read(text).unwrap(),
            Stored { made: MadeFrom::default(), tree: "start".to_owned() }
        );
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        assert_eq!(Stored::read("start\n"), Err(FormatError::NoHeader));
        assert_eq!(Stored::read("---\ninfo:\n  server: \"a\"\nstart\n"), Err(FormatError::NoHeader));
        let wrong = Stored::read("---\ninfo:\n  stack: \"a\n---\nstart\n");
        assert_eq!(wrong, Err(FormatError::Value { line: 3, key: "stack".to_owned() }));
    }
}
