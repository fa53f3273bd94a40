//! One place of a source file and what is to stand there instead, as a line of a list.

use std::fmt;
use std::ops::Range;

/// A change of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name in the list, as `offset/07`; empty until it has been drawn.
    pub name: String,
    /// The file, below the tree.
    pub file: String,
    /// The line of its first byte, from 1.
    pub line: usize,
    /// The bytes to be replaced.
    pub bytes: Range<usize>,
    /// The operator that made it.
    pub operator: &'static str,
    /// What stands there.
    pub before: String,
    /// What is to stand there. As many line ends as in `before` are added when it is made, so that no other line moves.
    pub after: String,
}

/// The operators, in the order in which a sample takes turns.
pub const OPERATORS: [&str; 12] = [
    "relation",
    "arithmetic",
    "constant",
    "negate",
    "logic",
    "delete",
    "return",
    "swap",
    "flags",
    "free",
    "lock",
    "assign",
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, file, line, bytes, operator, before, after } = self;
        let (before, after) = (escaped(before), escaped(after));
        write!(f, "{name}\t{file}\t{line}\t{}-{}\t{operator}\t{before}\t{after}", bytes.start, bytes.end)
    }
}

impl Place {
    /// Reads a line of a list; nothing where it is a comment.
    pub fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, file, line, bytes, operator, before, after] = fields.as_slice() else { return None };
        let (start, end) = bytes.split_once('-')?;
        Some(Self {
            name: (*name).to_owned(),
            file: (*file).to_owned(),
            line: line.parse().ok()?,
            bytes: start.parse().ok()?..end.parse().ok()?,
            operator: OPERATORS.into_iter().find(|known| known == operator)?,
            before: plain(before),
            after: plain(after),
        })
    }

    /// Returns `source` with this place changed.
    pub fn made_in(&self, source: &str) -> Result<String, String> {
        let found = source.get(self.bytes.clone());
        if found != Some(&self.before) {
            return Err(format!(
                "{}:{}: expected {:?}, but there is {found:?}",
                self.file, self.line, self.before
            ));
        }
        let lines = "\n".repeat(self.before.matches('\n').count());
        let mut made = source.to_owned();
        made.replace_range(self.bytes.clone(), &format!("{}{lines}", self.after));
        Ok(made)
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            name: "offset/01".to_owned(),
            file: "filters/offset/offset.c".to_owned(),
            line: 2,
            bytes: 2..9,
            operator: "delete",
            before: "f (1,\n\t2".to_owned()[..7].to_owned(),
            after: ";".to_owned(),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        assert_eq!(Place::read(&place().to_string()), Some(place()));
        assert_eq!(Place::read("# A comment."), None);
    }

    #[test]
    fn no_other_line_moves() {
        let source = "{ f (1,\n\t); }\n";
        let place = Place { bytes: 2..11, before: "f (1,\n\t);".to_owned(), ..place() };
        assert_eq!(place.made_in(source).as_deref(), Ok("{ ;\n }\n"));
    }

    #[test]
    fn another_source_is_refused() {
        assert!(place().made_in("something else").is_err());
    }
}
