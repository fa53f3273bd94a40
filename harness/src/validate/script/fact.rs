//! What its author says that a subject does with given parameters: one fact, as a line of text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::protocol::transmission;

/// The check that holds them against what clients see.
pub(in crate::validate) const EXPECTED: &str = "claims.expected";

/// Something that clients are told, or that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Fact {
    /// The server refuses to start.
    StartRefused,
    /// This export is refused; the one without a name is the default export.
    Refused(String),
    /// Bytes of the default export, or of the one that opens in its place.
    Size(u64),
    /// One of its block sizes, in bytes.
    Block(BlockSize, u32),
    /// Its description.
    Description(String),
    /// The SHA-256 of all its bytes, as hexadecimal digits, as they are when the server has started.
    Sha256(String),
    /// At this offset stand these bytes, as hexadecimal digits.
    Bytes(u64, String),
    /// The transmission flag with this bit is set, or is not.
    Flag(u64, bool),
    /// This export is listed.
    Listed(String),
}

/// Transmission flags: their names, and their bits in what a client is told (the NBD protocol, "Transmission flags").
const FLAGS: [(&str, u64); 9] = [
    ("read-only", transmission::READ_ONLY),
    ("flush", transmission::SEND_FLUSH),
    ("fua", transmission::SEND_FUA),
    ("rotational", transmission::ROTATIONAL),
    ("trim", transmission::SEND_TRIM),
    ("zero", transmission::SEND_ZERO),
    ("multi-conn", transmission::MULTI_CONN),
    ("cache", transmission::SEND_CACHE),
    ("fast-zero", transmission::SEND_FAST_ZERO),
];

const BLOCKS: [(BlockSize, &str); 3] = [
    (BlockSize::Minimum, "minimum-block"),
    (BlockSize::Preferred, "preferred-block"),
    (BlockSize::Maximum, "maximum-block"),
];

impl Fact {
    /// It is told before anything is asked of an export, or instead of it.
    pub(in crate::validate) fn is_refusal(&self) -> bool {
        matches!(self, Fact::StartRefused | Fact::Refused(_))
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::StartRefused => f.write_str("start=refused"),
            Fact::Refused(name) if name.is_empty() => f.write_str("open=refused"),
            Fact::Refused(name) => write!(f, "refused-export={name}"),
            Fact::Size(bytes) => write!(f, "size={bytes}"),
            Fact::Block(which, bytes) => {
                let name = BLOCKS.iter().find(|(one, _)| one == which).map_or("?", |(_, name)| name);
                write!(f, "{name}={bytes}")
            }
            Fact::Description(text) => write!(f, "description={text}"),
            Fact::Sha256(digits) => write!(f, "sha256={digits}"),
            Fact::Bytes(offset, digits) => write!(f, "bytes={offset}:{digits}"),
            Fact::Flag(bit, is_set) => {
                let name = FLAGS.iter().find(|(_, one)| one == bit).map_or("?", |(name, _)| name);
                write!(f, "{}={name}", if *is_set { "offers" } else { "lacks" })
            }
            Fact::Listed(name) => write!(f, "export={name}"),
        }
    }
}

/// A text that is no fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nothing that can be expected: there are start=refused, open=refused, size=BYTES, minimum-block=BYTES, \
     preferred-block=BYTES, maximum-block=BYTES, description=TEXT, sha256=DIGITS, bytes=OFFSET:DIGITS, export=NAME, \
     refused-export=NAME, and offers=FLAG or lacks=FLAG of {flags}",
    flags = FLAGS.map(|(name, _)| name).join(", ")
)]
pub struct NoFact(String);

impl FromStr for Fact {
    type Err = NoFact;

    fn from_str(text: &str) -> Result<Fact, NoFact> {
        fact(text).ok_or_else(|| NoFact(text.to_owned()))
    }
}

fn fact(text: &str) -> Option<Fact> {
    let (name, value) = text.split_once('=')?;
    Some(match (name, value) {
        ("start", "refused") => Fact::StartRefused,
        ("open", "refused") => Fact::Refused(String::new()),
        ("refused-export", name) if !name.is_empty() => Fact::Refused(name.to_owned()),
        ("size", bytes) => Fact::Size(self::bytes(bytes)?),
        ("description", text) => Fact::Description(text.to_owned()),
        ("export", name) => Fact::Listed(name.to_owned()),
        ("sha256", digits) => Fact::Sha256(hexadecimal(digits).filter(|digits| digits.len() == 64)?),
        ("bytes", text) => {
            let (offset, digits) = text.split_once(':')?;
            let digits = hexadecimal(digits).filter(|digits| (2..=MOST_DIGITS).contains(&digits.len()))?;
            Fact::Bytes(self::bytes(offset)?, digits)
        }
        ("offers" | "lacks", flag) => {
            let (_, bit) = FLAGS.iter().find(|(one, _)| *one == flag)?;
            Fact::Flag(*bit, name == "offers")
        }
        (name, bytes) => {
            let (which, _) = BLOCKS.iter().find(|(_, word)| *word == name)?;
            Fact::Block(*which, u32::try_from(self::bytes(bytes)?).ok()?)
        }
    })
}

/// Digits of one fact, at most.
const MOST_DIGITS: usize = 8192;

/// Two hexadecimal digits for each byte, in lower case.
fn hexadecimal(text: &str) -> Option<String> {
    let is_whole = text.len().is_multiple_of(2) && text.bytes().all(|one| one.is_ascii_hexdigit());
    is_whole.then(|| text.to_ascii_lowercase())
}

/// A number of bytes with a unit, as nbdkit takes them for `size`: K is 2^10.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|one: char| one.is_ascii_alphabetic());
    let power = match text.get(digits.len()..)? {
        "" | "b" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << power)
}

impl TryFrom<String> for Fact {
    type Error = NoFact;

    fn try_from(text: String) -> Result<Fact, NoFact> {
        text.parse()
    }
}

impl From<Fact> for String {
    fn from(fact: Fact) -> String {
        fact.to_string()
    }
}

/// One of the three block sizes that a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSize {
    /// The smallest request, and the unit of all.
    Minimum,
    /// The one that is served best.
    Preferred,
    /// The largest request.
    Maximum,
}

impl BlockSize {
    pub(in crate::validate) const ALL: [BlockSize; 3] =
        [BlockSize::Minimum, BlockSize::Preferred, BlockSize::Maximum];

    /// As it stands in a file.
    pub fn word(self) -> &'static str {
        match self {
            BlockSize::Minimum => "minimum",
            BlockSize::Preferred => "preferred",
            BlockSize::Maximum => "maximum",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_read_back_as_written() {
        let digits = "0123456789abcdef".repeat(4);
        for text in [
            "start=refused",
            "open=refused",
            "refused-export=a b=c",
            "size=4096",
            "minimum-block=512",
            "preferred-block=4096",
            "maximum-block=65536",
            "description=two words",
            "description=",
            "export=",
            "bytes=512:00ff",
            "offers=fast-zero",
            "lacks=trim",
            &format!("sha256={digits}"),
        ] {
            assert_eq!(text.parse::<Fact>().unwrap().to_string(), text);
        }
        assert_eq!("size=4M".parse(), Ok(Fact::Size(4 << 20)));
        assert_eq!("minimum-block=1K".parse(), Ok(Fact::Block(BlockSize::Minimum, 1024)));
    }

    #[test]
    fn what_is_no_fact_is_an_error() {
        let wrong = [
            "",
            "size",
            "size=",
            "size=1X",
            "size=99999999P",
            "start=accepted",
            "sha256=12",
            "flags=1",
            "bytes=1",
            "bytes=1:0",
            "bytes=1:",
            "lacks=x",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Fact>(), Err(NoFact(text.to_owned())), "{text}");
        }
    }
}
