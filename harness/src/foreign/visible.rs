//! Text of a subject's, made safe to show: whatever it says stays text.
//!
//! A message can hold anything: sequences that clear a terminal or set its title, a carriage return that writes over the
//! line before, marks that turn the order of letters round, characters that XML does not allow. Text is made visible where
//! it comes in, so that every report shows the same.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Returns the text with each character that is no plain text, but for line breaks and tabs, written as `\u{1b}` is.
///
/// Plain text is without control characters (C0 but for newline and tab, DEL, and C1), without marks of direction, and
/// without line separators, byte order marks and noncharacters of Unicode.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |char, shown| write!(shown, "{}", char.escape_unicode()))
}

/// Returns the text made visible, with its line breaks and tabs, too: it stays one line.
pub(crate) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', " ")
}

/// Returns a JSON text that stays the same to whoever parses it, with each character that is no plain text escaped: in JSON such
/// characters stand in strings only.
pub(crate) fn visible_json(text: &str) -> Cow<'_, str> {
    escaped(text, |char, shown| {
        char.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(shown, "\\u{unit:04x}"))
    })
}

/// Returns the text with each character that is no plain text written by `escape`.
fn escaped(text: &str, escape: impl Fn(char, &mut String) -> fmt::Result) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_hidden(char) {
            // A `String` takes whatever is written to it.
            true => _ = escape(char, &mut shown),
            false => shown.push(char),
        }
    }
    Cow::Owned(shown)
}

/// Unicode, 23.2 and 23.7, and the marks of UAX #9.
fn is_hidden(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{fdd0}'..='\u{fdef}' => true,
        char => char.is_control() || char as u32 & 0xfffe == 0xfffe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        let text = "cannot open `/tmp/ä`: 512 B, 名前\n\tat line 3";
        assert!(matches!(visible(text), Cow::Borrowed(shown) if shown == text));
        assert_eq!(visible_line(text), "cannot open `/tmp/ä`: 512 B, 名前\\n at line 3");
    }

    #[test]
    fn json_says_the_same_in_plain_text() {
        let text = "a\u{9b}b\u{fffe}\u{1ffff}\u{202e}ä\n\u{1b}";
        let json = serde_json::to_string(text).unwrap();
        let shown = visible_json(&json);
        assert_eq!(shown, r#""a\u009bb\ufffe\ud83f\udfff\u202eä\n\u001b""#);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    #[test]
    fn what_is_no_text_is_written_out() {
        assert_eq!(visible("\u{1b}[2J\u{7}"), "\\u{1b}[2J\\u{7}");
        assert_eq!(visible("a\rb\u{0}\u{7f}"), "a\\u{d}b\\u{0}\\u{7f}");
        assert_eq!(visible("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(visible("exit\u{202e}0"), "exit\\u{202e}0");
        for hidden in ["\u{2028}", "\u{feff}", "\u{fffe}", "\u{ffff}", "\u{fdd0}", "\u{1ffff}", "\u{2066}"] {
            assert!(visible(hidden).starts_with("\\u{"), "{hidden:?}");
        }
    }
}
