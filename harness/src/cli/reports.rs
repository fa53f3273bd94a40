//! `--report FORMAT[=FILE]`: any number of reports of one run.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::output::complain;
use super::place::{Place, Unwritten};
use crate::campaign::event_budget::ROOM;
use crate::foreign::pipe::Patient;
use crate::foreign::visible::visible;
use crate::outcome::Exit;
use crate::report::Format;

/// A format, and where it goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "F: ValueEnum")]
pub(super) struct Report<F = Format> {
    pub(super) format: F,
    /// Relative to the working directory, or to the configuration file that names it.
    pub(super) file: Option<PathBuf>,
}

impl<F: ValueEnum> FromStr for Report<F> {
    type Err = String;

    fn from_str(text: &str) -> Result<Report<F>, String> {
        let (format, file) = match text.split_once('=') {
            Some((_, "")) => return Err("there is no file name after `=`".to_owned()),
            Some((format, file)) => (format, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let names = || F::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let format = F::from_str(format, false).map_err(|_| {
            let names: Vec<String> = names().map(|name| name.get_name().to_owned()).collect();
            format!("there is no format `{format}`, only {}", names.join(", "))
        })?;
        Ok(Report { format, file })
    }
}

impl<F: ValueEnum> From<Report<F>> for String {
    fn from(report: Report<F>) -> String {
        let format = report.format.to_possible_value();
        let name = format.as_ref().map_or("", |format| format.get_name());
        match report.file {
            Some(file) => format!("{name}={}", file.display()),
            None => name.to_owned(),
        }
    }
}

impl<F: ValueEnum> TryFrom<String> for Report<F> {
    type Error = String;

    fn try_from(text: String) -> Result<Report<F>, String> {
        text.parse()
    }
}

impl<F> Report<F> {
    fn is_to_stdout(&self) -> bool {
        self.file.as_ref().is_none_or(|path| path == Path::new("/dev/stdout"))
    }

    /// The standard streams are the process's own: opened by name, a log that one is redirected to would lose what it has.
    fn open(&self) -> Result<(Box<dyn Write>, Place), Failure>
    where
        F: Streams,
    {
        let opened = match &self.file {
            _ if self.is_to_stdout() => return Ok(Place::stdout()),
            Some(path) if path != Path::new("/dev/stderr") => {
                let opened = if self.format.streams() { Place::stream(path) } else { Place::whole(path) };
                opened.map_err(|error| (path, error))
            }
            _ => return Ok(Place::stderr()),
        };
        opened.map_err(|(path, error)| {
            Failure::new(Exit::Usage, format!("cannot write the report `{}`: {error}", path.display()))
        })
    }
}

/// Formats of which some are read as they are written.
pub(super) trait Streams {
    /// Each line counts as it stands, and the last one says that it is the last.
    fn streams(&self) -> bool {
        false
    }
}

impl Streams for Format {
    fn streams(&self) -> bool {
        matches!(self, Format::Human | Format::Ndjson)
    }
}

/// These reports, or the first format of all where none was asked for; what has no file goes to standard error, where
/// standard output is somebody else's.
pub(super) fn or_to_stderr<F: ValueEnum + Streams>(wanted: &[Report<F>]) -> Vec<Report<F>> {
    let to_stderr = || Some(PathBuf::from("/dev/stderr"));
    let first =
        F::value_variants().iter().take(1).map(|format| Report { format: format.clone(), file: None });
    let wanted = if wanted.is_empty() { first.collect() } else { wanted.to_vec() };
    wanted.into_iter().map(|report| Report { file: report.file.or_else(to_stderr), ..report }).collect()
}

/// How many events of runs have to be kept for these reports.
pub(super) fn room_for_events(wanted: &[Report]) -> usize {
    if wanted.iter().any(|report| report.format.draws_runs()) { ROOM } else { 0 }
}

/// Some report goes to standard output, so that whoever started the command is told how it went.
pub(super) fn reach_the_terminal<F>(wanted: &[Report<F>]) -> bool {
    wanted.is_empty() || wanted.iter().any(Report::is_to_stdout)
}

/// A report that can be written.
pub(super) type Opened<F = Format> = (F, Box<dyn Write>, Place);

/// Puts each of these reports into its place.
pub(super) fn finish(places: impl IntoIterator<Item = Place>) -> Result<(), Failure> {
    places.into_iter().try_for_each(|mut place| place.finish().map_err(|error| unwritten(&error)))
}

/// Says which reports could not be written. Returns true where nobody needs to be told in another way what was found.
pub(super) fn told<F>(wanted: &[Report<F>], unwritten: &[Unwritten]) -> Result<bool, Failure> {
    if let Some(broken) = unwritten.iter().find(|one| one.is_broken_pipe()) {
        return Err(self::unwritten(broken));
    }
    for one in unwritten {
        complain(one);
    }
    let lost = unwritten.iter().any(Unwritten::is_stdout) || !reach_the_terminal(wanted);
    Ok(unwritten.is_empty() || !lost)
}

/// The exit code of a run of which these reports could not be written.
pub(super) fn exit(exit: Exit, unwritten: &[Unwritten]) -> Exit {
    Exit::of([exit].into_iter().chain(unwritten.first().map(|_| Exit::Harness)))
}

/// The reports of a run that may fail before it has anything to tell: those that are read as they are written end all the same.
#[derive(Debug)]
pub(super) struct Course {
    wanted: Vec<Report>,
    /// They have been opened.
    begun: bool,
    ended: bool,
    /// People have been told something.
    spoken: Rc<Cell<bool>>,
}

impl Course {
    /// Nothing is open yet.
    pub(super) fn new(wanted: &[Report]) -> Course {
        Course { wanted: wanted.to_vec(), begun: false, ended: false, spoken: Rc::default() }
    }

    /// Opens these.
    pub(super) fn open(&mut self, wanted: &[Report]) -> Result<Vec<Opened>, Failure> {
        self.wanted = wanted.to_vec();
        let opened = open(wanted)?;
        self.begun = true;
        Ok(opened)
    }

    /// To be set when people are told something.
    pub(super) fn spoken(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.spoken)
    }

    /// Each has its end.
    pub(super) fn has_ended(&mut self) {
        self.ended = true;
    }

    /// Ends what has no end when the run fails: lines for programs by `record`, those for people, where there are some, by the
    /// exit code. What cannot be written is not told: the failure itself is.
    pub(super) fn failed(&self, failure: &Failure, record: fn(Exit, &str) -> String) {
        if self.ended || failure.broken_pipe {
            return;
        }
        let default = [Report { format: Format::Human, file: None }];
        let wanted = if self.wanted.is_empty() { &default[..] } else { &self.wanted };
        // Two reports in one place are none (see `open`).
        let places: Vec<Option<&Path>> =
            wanted.iter().map(|report| report.file.as_deref().filter(|_| !report.is_to_stdout())).collect();
        for (report, place) in wanted.iter().zip(&places) {
            if places.iter().filter(|other| *other == place).count() > 1 {
                continue;
            }
            let line = match report.format {
                Format::Ndjson => record(failure.exit, &visible(&failure.message)),
                Format::Human if self.spoken.get() => {
                    format!("exit {}: {}", failure.exit.code(), failure.exit.meaning())
                }
                _ => continue,
            };
            let _ = self.append(*place, &line);
        }
    }

    fn append(&self, file: Option<&Path>, line: &str) -> std::io::Result<()> {
        let mut to: Box<dyn Write> = match file {
            None => Box::new(anstream::stdout()),
            Some(path) if path == Path::new("/dev/stderr") => Box::new(anstream::stderr()),
            // What stands there is of another run.
            Some(path) if !self.begun => Box::new(Patient::create(path)?),
            Some(path) => Box::new(Patient::append(path)?),
        };
        writeln!(to, "{line}")?;
        to.flush()
    }
}

/// Ends a run whose report could not be written.
pub(super) fn unwritten(unwritten: &Unwritten) -> Failure {
    Failure { broken_pipe: unwritten.is_broken_pipe(), ..Failure::new(Exit::Harness, unwritten) }
}

/// The formats, each with where it goes; the first of all, where none was asked for.
pub(super) fn open<F: ValueEnum + Streams>(wanted: &[Report<F>]) -> Result<Vec<Opened<F>>, Failure> {
    let first: Vec<Report<F>> = F::value_variants()
        .iter()
        .take(1)
        .map(|format| Report { format: format.clone(), file: None })
        .collect();
    let wanted = if wanted.is_empty() { &first } else { wanted };
    // Two reports to standard output would be none.
    if wanted.iter().filter(|report| report.is_to_stdout()).count() > 1 {
        return Err(Failure::new(
            Exit::Usage,
            "only one report can go to standard output: give the others a file",
        ));
    }
    let files: Vec<&Path> = wanted.iter().filter_map(|report| report.file.as_deref()).collect();
    let twice =
        files.iter().enumerate().find(|(index, file)| files.iter().take(*index).any(|one| one == *file));
    if let Some((_, file)) = twice.filter(|(_, file)| !file.starts_with("/dev")) {
        let file = file.display();
        return Err(Failure::new(
            Exit::Usage,
            format!("only one report can go to `{file}`: give each its own"),
        ));
    }
    wanted.iter().map(|report| report.open().map(|(to, place)| (report.format.clone(), to, place))).collect()
}
