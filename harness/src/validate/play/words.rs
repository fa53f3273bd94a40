//! What the server and the subject have said: the words on standard error, without what is only there for the harness.

/// Lines that a finding shows.
const MOST: usize = 40;
/// Bytes of one of them.
const LONGEST: usize = 400;

/// The last error message, without the name of the server and of the module.
pub(in crate::validate) fn last_error(stderr: &str) -> Option<&str> {
    let line = stderr.lines().rfind(|line| line.contains("error:"))?;
    line.split_once("error: ").map(|(_, said)| said.trim_end()).filter(|said| !said.is_empty())
}

/// The last lines of it, as a finding shows them: a traceback of a script as a whole.
pub(in crate::validate) fn said(stderr: &str) -> Vec<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let skip = lines.len().saturating_sub(MOST);
    let mut said: Vec<String> = lines.into_iter().skip(skip).map(shown).collect();
    said.dedup();
    if skip > 0 {
        said.insert(0, format!("... {skip} lines before"));
    }
    said
}

/// A line as text, whatever it holds; of the path by which the server knows an instrument only the rest.
fn shown(line: &str) -> String {
    let line = line.trim_end();
    let line: String = line.chars().take(LONGEST).flat_map(visible).collect();
    match line.strip_prefix("nbdkit: /proc/self/fd/").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => format!("nbdkit: {rest}"),
        None => line,
    }
}

fn visible(letter: char) -> Vec<char> {
    match letter {
        '\t' => vec![' '; 4],
        letter if letter.is_control() => letter.escape_default().collect(),
        letter => vec![letter],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told_without_its_prefix() {
        let text = "nbdkit: debug: x\nnbdkit: mine.1: error: out of handles\nnbdkit: debug: y\n";
        assert_eq!(last_error(text), Some("out of handles"));
        assert_eq!(last_error("nothing\n"), None);
    }

    #[test]
    fn a_long_text_is_cut_at_its_beginning_and_holds_no_control_characters() {
        let text: String = (0..100).map(|line| format!("{line}\u{1b}[2J\n")).collect();
        let said = said(&text);
        assert_eq!((said.len(), said[0].as_str()), (41, "... 60 lines before"));
        assert_eq!(said[40], "99\\u{1b}[2J");
    }

    #[test]
    fn a_traceback_is_whole() {
        let text =
            "nbdkit: /proc/self/fd/201: error: ./disk.py: config_complete: error: size=SIZE is required\n";
        assert_eq!(said(text), ["nbdkit: error: ./disk.py: config_complete: error: size=SIZE is required"]);
    }
}
