//! Lines that are not too long: a terminal's reader loses the place in them, and a log's viewer cuts them off.

use std::collections::BTreeMap;

/// Columns of a line, at most.
const WIDTH: usize = 160;
/// Lines of a list, where it is not to be shown as a whole.
const MOST_LINES: usize = 3;
/// Scenarios of a family that are named, where they are not all to be.
const MOST_OF_FAMILY: usize = 4;

/// Returns the number with its noun, which agrees with it.
pub(super) fn many(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The text in lines that begin with so many spaces; each but the first with four more.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = " ".repeat(indent);
    let mut columns = indent;
    for word in text.split_ascii_whitespace() {
        let letters = word.chars().count();
        if columns > indent && columns + 1 + letters > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 4)));
            columns = indent + 4;
        } else if line.ends_with(|letter: char| letter != ' ') {
            line.push(' ');
            columns += 1;
        }
        // One that is longer than a line is cut.
        line.extend(word.chars().take(WIDTH - indent.min(WIDTH / 2) - 4));
        columns += letters;
    }
    lines.push(line);
    lines.join("\n")
}

/// The text in one line.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().take(WIDTH).map(|letter| if letter == '\n' { ' ' } else { letter }).collect();
    if text.chars().count() > WIDTH {
        line.pop();
        line.push('…');
    }
    line
}

/// These names: of a large family only how many, and no more than a few lines, unless `all` are wanted.
pub(super) fn names(names: &[&str], all: bool) -> String {
    if all {
        return names.join(", ");
    }
    let mut families: BTreeMap<&str, usize> = BTreeMap::new();
    let family = |name: &str| name.split_once('/').map_or(name.len(), |(family, _)| family.len());
    for name in names {
        *families.entry(name.get(..family(name)).unwrap_or(name)).or_default() += 1;
    }
    let (mut shown, mut told, mut letters) = (Vec::new(), 0, 0);
    for name in names {
        let of = name.get(..family(name)).unwrap_or(name);
        let (said, many) = match families.get(of) {
            Some(0) => continue,
            Some(many) if *many > MOST_OF_FAMILY => (format!("{of}/… ({many})"), *many),
            _ => ((*name).to_owned(), 1),
        };
        if many > 1 {
            families.insert(of, 0);
        }
        letters += said.len() + 2;
        if letters > MOST_LINES * (WIDTH - 24) {
            break;
        }
        told += many;
        shown.push(said);
    }
    match names.len() - told {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_width() {
        let text = "a promise that is kept ".repeat(60);
        let lines = wrapped(&text, 8);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("        ")));
        assert_eq!(lines.split_whitespace().count(), 300);
        assert!(wrapped(&"x".repeat(500), 8).chars().count() <= WIDTH);
        assert_eq!(one_line(&"x".repeat(500)).chars().count(), WIDTH);
        assert_eq!(wrapped("one two", 2), "  one two");
    }

    #[test]
    fn a_large_family_is_counted_and_a_long_list_is_cut() {
        let many: Vec<String> = (0..40).map(|n| format!("answers/{n}")).collect();
        let mut all: Vec<&str> = many.iter().map(String::as_str).collect();
        all.extend(["classical", "depth/1"]);
        assert_eq!(names(&all, false), "answers/… (40), classical, depth/1");
        assert!(names(&all, true).contains("answers/17, "));
        let long: Vec<String> = (0..90).map(|n| format!("family-number-{n}/member")).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        assert!(names(&long, false).ends_with(" more") && names(&long, false).len() < MOST_LINES * WIDTH);
    }
}
