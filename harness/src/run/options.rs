//! The server's own options that a user, or a file, may have passed on to it.
//!
//! How the server listens, where it runs and when it ends is for the harness to say, and what it starts besides is nobody's
//! to slip in. The server takes its arguments as getopt_long(3) does: options may be cut short as long as they are clear,
//! short ones may stand together, and every word that is none names a plugin or is its parameter.

use Argument::{Attached, None as Without, Own};

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// The user's: an option that is not known here is passed on.
    Users,
    /// A file's: only what is known is passed on.
    Files,
}

/// Why an argument is not passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{argument}` is not passed on to the server: {why}")]
pub(crate) struct Refused {
    argument: String,
    why: &'static str,
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// No argument.
    None,
    /// One, behind `=` or in the next word.
    Own,
    /// One behind `=`, if any.
    Attached,
}

/// An option: its long names, its letter, what it takes, and why it is refused, if it is.
struct Known(&'static [&'static str], Option<char>, Argument, Option<&'static str>);

const LISTENS: Option<&str> = Some("where the server listens is for layers to say");
const RUNS: Option<&str> = Some("it has the server start a program");
const STARTS: Option<&str> = Some("how the server is started and ends is for layers to say");
const SAYS: Option<&str> = Some("the server would print something and not serve");
const USER: Option<&str> = Some("the server runs as the user of layers");
const FILTER: Option<&str> = Some("filters are named to layers, which wraps them (--filter)");
const UNKNOWN: &str = "no such option is known to start no program and to listen nowhere";
const BARE: &str = "the server would take it for its plugin; an argument of an option stands behind `=`";
const ALONE: &str = "it takes an argument, and the server would take its plugin for that";
const PARAMETER: &str = "the server would take it for an option, and not for a parameter";

/// Those of nbdkit 1.48 and before (nbdkit(1), "OPTIONS").
const OPTIONS: &[Known] = &[
    Known(&["ipv4-only"], Some('4'), Without, LISTENS),
    Known(&["ipv6-only"], Some('6'), Without, LISTENS),
    Known(&["debug"], Some('D'), Own, None),
    Known(&["dump-config"], None, Without, SAYS),
    Known(&["dump-plugin"], None, Without, SAYS),
    Known(&["exit-with-parent"], None, Without, STARTS),
    Known(&["export", "export-name", "exportname"], Some('e'), Own, None),
    Known(&["filter"], None, Own, FILTER),
    Known(&["foreground", "no-fork"], Some('f'), Without, STARTS),
    Known(&["group"], Some('g'), Own, USER),
    Known(&["help"], None, Without, SAYS),
    Known(&["ip-addr", "ipaddr"], Some('i'), Own, LISTENS),
    Known(&["keepalive", "keep-alive"], None, Attached, None),
    Known(&["log"], None, Own, None),
    Known(&["long-options"], None, Without, SAYS),
    Known(&["mask-handshake"], None, Own, None),
    Known(&["new-style", "newstyle"], Some('n'), Without, None),
    Known(&["no-mc", "no-meta-contexts"], None, Without, None),
    Known(&["no-sr", "no-structured-replies"], None, Without, None),
    Known(&["old-style", "oldstyle"], Some('o'), Without, None),
    Known(&["pid-file", "pidfile"], Some('P'), Own, STARTS),
    Known(&["port"], Some('p'), Own, LISTENS),
    Known(&["print-uri", "print-url", "show-uri", "show-url"], None, Without, STARTS),
    Known(&["read-only", "readonly"], Some('r'), Without, None),
    Known(&["run"], None, Own, RUNS),
    Known(&["selinux-label"], None, Own, LISTENS),
    Known(&["short-options"], None, Without, SAYS),
    Known(&["single", "stdin"], Some('s'), Without, STARTS),
    Known(&["swap"], None, Without, None),
    Known(&["threads"], Some('t'), Own, None),
    Known(&["timeout", "time-out"], None, Own, None),
    Known(&["tls"], None, Own, None),
    Known(&["tls-certificates"], None, Own, None),
    Known(&["tls-priority"], None, Own, None),
    Known(&["tls-psk"], None, Own, None),
    Known(&["tls-verify-peer"], None, Without, None),
    Known(&["unix"], Some('U'), Own, LISTENS),
    Known(&["user"], Some('u'), Own, USER),
    Known(&["verbose"], Some('v'), Without, None),
    Known(&["version"], Some('V'), Without, SAYS),
    Known(&["vsock"], None, Without, LISTENS),
];

/// Finds the first of these arguments that is not to be passed on.
pub(crate) fn check(arguments: &[String], words: Words) -> Result<(), Refused> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let refused = |why| Err(Refused { argument: argument.clone(), why });
        let takes_next = match argument.strip_prefix("--") {
            Some("") => return refused(BARE),
            Some(long) => of_long(long, words),
            None => match argument.strip_prefix('-') {
                Some(letters) if !letters.is_empty() => of_letters(letters, words),
                _ => return refused(BARE),
            },
        };
        match takes_next {
            Ok(true) if rest.next().is_none() => return refused(ALONE),
            Ok(true) => {}
            Ok(false) => {}
            Err(why) => return refused(why),
        }
    }
    Ok(())
}

/// Makes sure that the server takes this word behind the plugin for a parameter.
pub(crate) fn check_parameter(word: &str) -> Result<(), Refused> {
    match word.starts_with('-') {
        true => Err(Refused { argument: word.to_owned(), why: PARAMETER }),
        false => Ok(()),
    }
}

/// Says whether the next word is the argument of this option.
fn of_long(text: &str, words: Words) -> Result<bool, &'static str> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let exact = OPTIONS.iter().find(|known| known.0.contains(&name));
    let begins = |known: &&Known| known.0.iter().any(|long| long.starts_with(name));
    // Cut short it may be any of these, depending on the version.
    let all = OPTIONS.iter().filter(begins);
    let refused = exact.map_or_else(|| all.clone().find_map(|known| known.3), |known| known.3);
    match (refused, exact, words) {
        (Some(why), ..) => Err(why),
        (None, Some(known), _) => Ok(known.2 == Own && value.is_none()),
        (None, None, Words::Files) => Err(UNKNOWN),
        (None, None, Words::Users) => Ok(all.clone().any(|known| known.2 == Own) && value.is_none()),
    }
}

fn of_letters(letters: &str, words: Words) -> Result<bool, &'static str> {
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        match OPTIONS.iter().find(|known| known.1 == Some(letter)) {
            Some(Known(.., Some(why))) => return Err(why),
            Some(Known(_, _, Own, None)) => return Ok(rest.as_str().is_empty()),
            Some(_) => {}
            None if words == Words::Files => return Err(UNKNOWN),
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// A command line of the server's, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Options by their first long name, with their arguments, in order.
    pub(crate) options: Vec<(String, Option<String>)>,
    /// The plugin and its parameters.
    pub(crate) words: Vec<String>,
}

impl Line {
    /// Takes the words behind the name of the program apart.
    pub(crate) fn of(arguments: &[String]) -> Line {
        let mut line = Line::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match (argument.strip_prefix("--"), argument.strip_prefix('-')) {
                (Some(""), _) => line.words.extend(rest.by_ref().cloned()),
                (Some(long), _) => {
                    let (name, value) =
                        long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                    let known = named(name);
                    let own = || known.filter(|known| known.2 == Own).and_then(|_| rest.next().cloned());
                    let value = value.map(str::to_owned).or_else(own);
                    line.options.push((known.map_or(name, |known| known.name()).to_owned(), value));
                }
                (None, Some(letters)) if !letters.is_empty() => {
                    let mut letters = letters.chars();
                    while let Some(letter) = letters.next() {
                        let Some(known) = OPTIONS.iter().find(|known| known.1 == Some(letter)) else {
                            continue;
                        };
                        let value = (known.2 == Own).then(|| {
                            match std::mem::replace(&mut letters, "".chars()).as_str() {
                                "" => rest.next().cloned(),
                                attached => Some(attached.to_owned()),
                            }
                        });
                        line.options.push((known.name().to_owned(), value.flatten()));
                    }
                }
                _ => line.words.push(argument.clone()),
            }
        }
        line
    }

    /// The option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option == name)
    }

    /// What was given with each of this option.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.options
            .iter()
            .filter(move |(option, _)| option == name)
            .filter_map(|(_, value)| value.as_deref())
    }
}

impl Known {
    fn name(&self) -> &'static str {
        self.0.first().copied().unwrap_or_default()
    }
}

/// The option that has this long name, or the only one that one begins with it.
fn named(name: &str) -> Option<&'static Known> {
    let exact = OPTIONS.iter().find(|known| known.0.contains(&name));
    let mut begin = OPTIONS.iter().filter(|known| known.0.iter().any(|long| long.starts_with(name)));
    exact.or_else(|| begin.next().filter(|_| begin.next().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(arguments: &[&str], words: Words) -> bool {
        check(&arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>(), words).is_ok()
    }

    #[test]
    fn what_starts_programs_or_listens_is_refused_however_it_is_written() {
        for arguments in [
            &["--run=id"][..],
            &["--run", "id"],
            &["--ru=id"],
            &["-v", "-P", "/tmp/x"],
            &["-P/tmp/x"],
            &["-vP/tmp/x"],
            &["-rp10809"],
            &["--pidf=/x"],
            &["-U", "/tmp/s"],
            &["-D", "x.y=1", "--vsock"],
            &["--filter=/tmp/evil.so"],
            &["/tmp/evil.so"],
            &["--", "/tmp/evil.so"],
            &["-"],
            &["--dump-plugin"],
        ] {
            for words in [Words::Users, Words::Files] {
                assert!(!passes(arguments, words), "{arguments:?}");
            }
        }
    }

    #[test]
    fn a_line_is_taken_apart_as_the_server_does_it() {
        let words = "-vrU - --filt=cow --filter delay -D a.b=1 --run=x memory -t4 1M --no-sr -- -z=1";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let line = Line::of(&words);
        assert_eq!(line.words, ["memory", "1M", "-z=1"]);
        assert_eq!(line.values("filter").collect::<Vec<_>>(), ["cow", "delay"]);
        assert_eq!((line.values("unix").next(), line.values("threads").next()), (Some("-"), Some("4")));
        assert!(line.has("read-only") && line.has("no-sr") && line.has("verbose") && !line.has("foreground"));
    }

    #[test]
    fn what_only_changes_how_the_server_speaks_is_passed_on() {
        for arguments in [
            &["-D", "memory.dir=1"][..],
            &["--debug", "x.y=1", "-v"],
            &["-e", "--run"],
            &["-vr", "-t4", "--threads=4"],
            &["--tls=require", "--tls-certificates=/etc/pki", "--tls-verify-peer"],
            &["--no-sr", "--mask-handshake", "3", "--timeout=4", "--keepalive"],
        ] {
            assert!(passes(arguments, Words::Users) && passes(arguments, Words::Files), "{arguments:?}");
        }
        assert!(passes(&["--of-a-newer-version=1"], Words::Users));
        assert!(!passes(&["--of-a-newer-version=1"], Words::Files));
        assert!(check_parameter("--run=id").is_err() && check_parameter("size=1M").is_ok());
    }
}
