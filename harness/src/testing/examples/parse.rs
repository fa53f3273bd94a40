//! Reads the text of an example as steps.

use std::iter::Peekable;
use std::vec::IntoIter;

/// Which events of a call or of a request a step makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Half {
    /// The enter and the exit, or the request and the reply.
    #[default]
    Both,
    /// The first alone.
    Begin,
    /// The second alone.
    End,
}

/// One word of an example, with all that belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) half: Half,
    /// `t7:`, `c2:` and `p2:` before the word.
    pub(super) places: Vec<(char, u32)>,
    pub(super) head: String,
    /// What the enter, or the request, says.
    pub(super) arguments: Vec<Argument>,
    /// What happens before the exit, or the reply.
    pub(super) inner: Option<Vec<Step>>,
    pub(super) result: Option<String>,
    /// What the exit, or the reply, says besides the result.
    pub(super) told: Vec<Argument>,
}

/// `key=value`, or a string.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    pub(super) key: Option<String>,
    pub(super) value: String,
}

/// Returns the steps of an example, and panics where it cannot be read.
pub(super) fn steps(text: &str) -> Vec<Step> {
    let mut words = words(text).into_iter().peekable();
    let steps = block(&mut words);
    assert!(words.next().is_none(), "`}}` without `{{`: {text}");
    steps
}

/// Splits at white space and semicolons, and keeps strings and braces whole.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' | '}' => {
                words.extend([letter.to_string(), String::new()]);
                continue;
            }
            ';' | ' ' | '\n' => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        words.last_mut().unwrap().push(letter);
    }
    assert!(!quoted, "a string without its end: {text}");
    words.retain(|word| !word.is_empty());
    words
}

fn block(words: &mut Peekable<IntoIter<String>>) -> Vec<Step> {
    let mut steps = Vec::new();
    while words.peek().is_some_and(|word| word != "}") {
        steps.push(step(words));
    }
    steps
}

fn step(words: &mut Peekable<IntoIter<String>>) -> Step {
    let mut step = Step::default();
    loop {
        let word = words.next().expect("a word follows");
        match word.as_str() {
            "enter" | "send" => step.half = Half::Begin,
            "exit" | "reply" => step.half = Half::End,
            _ => match word.strip_suffix(':') {
                Some(place) => step.places.push((place.chars().next().unwrap(), place[1..].parse().unwrap())),
                None => {
                    step.head = word;
                    break;
                }
            },
        }
    }
    step.arguments = arguments(words);
    if words.next_if(|word| word == "{").is_some() {
        step.inner = Some(block(words));
        assert_eq!(words.next().as_deref(), Some("}"), "`{{` without `}}`");
    }
    if words.next_if(|word| word == "=").is_some() {
        step.result = words.next();
        step.told = arguments(words);
    }
    step
}

fn arguments(words: &mut Peekable<IntoIter<String>>) -> Vec<Argument> {
    let is_argument = |word: &String| word.starts_with('"') || (word.len() > 1 && word.contains('='));
    let mut arguments = Vec::new();
    while let Some(word) = words.next_if(is_argument) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) if !word.starts_with('"') => (Some(key.to_owned()), value),
            _ => (None, word.as_str()),
        };
        arguments.push(Argument { key, value: value.trim_matches('"').replace("\\n", "\n") });
    }
    arguments
}
