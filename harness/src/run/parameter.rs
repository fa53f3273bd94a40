//! Parameters of a server's command line, and which of their values are secrets.

use serde::{Deserialize, Serialize};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// One parameter of the command line, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Absent for a bare argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value, or the whole bare argument.
    pub value: String,
}

/// Reads a word of the server's command line: `key=value`, or a bare value.
pub fn parameter(word: &str) -> Parameter {
    match word.split_once('=') {
        Some((key, value)) if is_key(key) => Parameter { key: Some(key.to_owned()), value: value.to_owned() },
        _ => Parameter { key: None, value: word.to_owned() },
    }
}

/// Returns true if this is what a key looks like (nbdkit-plugin(3), ".config").
pub(crate) fn is_key(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
}

/// Returns true if the value of a parameter of this name is nobody else's business.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let parts = ["password", "passwd", "passphrase", "secret", "token", "cookie", "credential", "apikey"];
    let is_key = key.split(['-', '_', '.']).any(|part| part == "key");
    is_key || parts.iter().any(|part| key.contains(part))
}

/// Returns the parameter as it stands on the command line.
pub fn parameter_text(parameter: &Parameter) -> String {
    match &parameter.key {
        Some(key) => format!("{key}={}", parameter.value),
        None => parameter.value.clone(),
    }
}

/// Returns the parameter as it stands on the command line, without a value that must not be told.
pub fn shown(parameter: &Parameter) -> String {
    match &parameter.key {
        Some(key) if is_secret(key) => format!("{key}={HIDDEN}"),
        _ => parameter_text(parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_begins_with_a_letter() {
        assert_eq!(parameter("size=1M").key.as_deref(), Some("size"));
        assert_eq!(parameter("1=2").key, None);
        assert_eq!(parameter("/a=b").key, None);
    }
}
