//! What valgrind and the run-times of sanitizers say, as far as it is about the modules that are judged.

use std::path::{Path, PathBuf};

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::validate) struct Reported {
    /// What is wrong, in the words of whoever saw it.
    pub(in crate::validate) what: String,
    /// Where: function and line, or the module.
    pub(in crate::validate) place: String,
}

/// Most that are told of one case.
const MOST: usize = 3;

/// All of them, each once.
pub(in crate::validate) fn of(valgrind: &str, stderr: &str, modules: &[PathBuf]) -> Vec<Reported> {
    let modules: Vec<PathBuf> =
        modules.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let mut all: Vec<Reported> = Vec::new();
    let errors = valgrind.split("<error>").skip(1).filter_map(|error| of_valgrind(error, &modules));
    for one in errors.chain(of_sanitizers(stderr)) {
        if all.len() < MOST && !all.iter().any(|other| other.place == one.place) {
            all.push(one);
        }
    }
    all
}

/// The text between this tag and its end.
fn tagged<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once(&format!("</{tag}>"))?.0.trim())
}

fn plain(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// A report counts where the innermost frame that is no library's is one of a module: what the server does with what it
/// was given, and what another layer does below, is not this one's.
fn of_valgrind(error: &str, modules: &[PathBuf]) -> Option<Reported> {
    let error = error.split_once("</error>").map_or(error, |(error, _)| error);
    let stack = tagged(error, "stack")?;
    for frame in stack.split("<frame>").skip(1) {
        let Some(object) = tagged(frame, "obj") else { continue };
        if modules.iter().any(|module| module == Path::new(object)) {
            let what = tagged(error, "what").or_else(|| tagged(error, "text"))?;
            // Addresses, and the numbers of threads after them, are of this one run.
            let what = what.split(" at 0x").next().unwrap_or(what);
            let line = || Some(format!(" ({}:{})", tagged(frame, "file")?, tagged(frame, "line")?));
            let function = tagged(frame, "fn").unwrap_or(object);
            let place = plain(function) + &line().unwrap_or_default();
            return Some(Reported { what: plain(what), place });
        }
        let name = Path::new(object).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name == "nbdkit" || object.starts_with("/memfd:layers") {
            return None;
        }
    }
    None
}

/// What sanitizers print. Only modules that are built with one are looked at, so that the innermost frame that is not of the
/// run-time itself is theirs.
fn of_sanitizers(stderr: &str) -> Vec<Reported> {
    const RACES: &str = "WARNING: ThreadSanitizer: ";
    const UNDEFINED: &str = "runtime error: ";
    let lines: Vec<&str> = stderr.lines().collect();
    let mut all = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some((before, what)) = line.split_once(UNDEFINED) {
            let place = before.trim_end_matches([':', ' ']).to_owned();
            all.push(Reported { what: what.to_owned(), place });
        }
        let Some((_, what)) = line.split_once("ERROR: AddressSanitizer: ").or_else(|| line.split_once(RACES))
        else {
            continue;
        };
        let rest = lines.get(index + 1..).unwrap_or_default().iter().map(|line| line.trim());
        let mut frames =
            rest.take_while(|line| !line.starts_with("====")).filter(|line| line.starts_with('#'));
        let is_runtime = |frame: &str| {
            ["libsanitizer", "libasan", "libtsan", "compiler-rt"].iter().any(|name| frame.contains(name))
        };
        // "#1 0x7f in function file:line", or without an address; "(module+0x1)" where no line is known.
        let own = frames.find(|frame| !is_runtime(frame)).unwrap_or_default();
        let place = own.split_once(" in ").or_else(|| own.split_once(' ')).map_or(own, |(_, place)| place);
        let what = what.split(" on address").next().unwrap_or(what);
        all.push(Reported { what: what.to_owned(), place: place.to_owned() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(objects: &[&str]) -> String {
        let frame = |object: &&str| {
            format!(
                "<frame><ip>0x1</ip><obj>{object}</obj><fn>pr</fn><file>x.c</file><line>10</line></frame>"
            )
        };
        let frames: String = objects.iter().map(frame).collect();
        format!(
            "<error><kind>UninitCondition</kind><what>jump &lt;x&gt;</what><stack>{frames}</stack></error>"
        )
    }

    fn found(objects: &[&str]) -> usize {
        of(&error(objects), "", &[PathBuf::from("/m/x.so")]).len()
    }

    #[test]
    fn a_report_is_about_the_module_whose_code_ran() {
        assert_eq!(found(&["/m/x.so", "/memfd:layers-plugin.so (deleted)", "/usr/bin/nbdkit"]), 1);
        assert_eq!(found(&["/lib/x86_64-linux-gnu/libc.so.6", "/m/x.so"]), 1);
        assert_eq!(found(&["/usr/bin/nbdkit", "/m/x.so"]), 0, "a filter that calls the server");
        assert_eq!(found(&["/m/y.so", "/memfd:layers-plugin.so (deleted)", "/m/x.so"]), 0, "the layer below");
        let twice = error(&["/m/x.so"]) + &error(&["/m/x.so"]);
        let all = of(&twice, "", &[PathBuf::from("/m/x.so")]);
        assert_eq!(all, [Reported { what: "jump <x>".to_owned(), place: "pr (x.c:10)".to_owned() }]);
    }

    #[test]
    fn what_a_sanitizer_prints_is_read() {
        let stderr = "nbdkit: debug\n\
            ==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc 0x7f\n\
            WRITE of size 1 at 0x60 thread T1\n    \
            #0 0x7f in memset /build/libsanitizer/asan/x.cc:1\n    \
            #1 0x7f in pread_string /m/x.c:12\n";
        let all = of("", stderr, &[PathBuf::from("/m/x.so")]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].what, "heap-buffer-overflow");
        assert!(all[0].place.starts_with("pread_string /m/x.c:12"), "{}", all[0].place);
    }
}
