//! Paths and texts as words of a shell's.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::visible::visible_line;

/// Returns the path, or another text, as one word of a shell's, in which nothing is but plain text.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let Some(text) = path.to_str().filter(|text| visible_line(text) == *text) else {
        return format!("\"$(printf '{}')\"", bytes.iter().map(|byte| escaped(*byte)).collect::<String>());
    };
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:,@%=~".contains(letter);
    if !text.is_empty() && !text.starts_with('~') && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns a byte as the format of printf(1) says it.
fn escaped(byte: u8) -> String {
    match byte {
        b'%' => "%%".to_owned(),
        b' '..=b'~' if !matches!(byte, b'\'' | b'\\') => char::from(byte).to_string(),
        other => format!("\\{other:03o}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_is_one_word_of_plain_text() {
        let quoted = |bytes: &[u8]| quoted(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"a/b-1.toml"), "a/b-1.toml");
        assert_eq!(quoted(b"a b's"), r"'a b'\''s'");
        assert_eq!(quoted(b"50%\x1b[2J\n"), r#""$(printf '50%%\033[2J\012')""#);
        assert_eq!(quoted(b"\xff'\\"), r#""$(printf '\377\047\134')""#);
    }
}
