//! Where a report goes: a stream that is written as things happen, or a file that is there whole or not at all.

use std::cell::RefCell;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::foreign::pipe::Patient;

/// What a new file may be, before the user's mask.
const NEW: u32 = 0o666;

/// A place, and what was written for it so far where that is kept until the end.
#[derive(Debug)]
pub(super) struct Place {
    /// As the user named it.
    shown: String,
    /// Standard output.
    is_stdout: bool,
    whole: Option<(Target, Written)>,
}

/// What has been written so far.
type Written = Rc<RefCell<Vec<u8>>>;

/// How something whole gets into its place.
#[derive(Debug)]
enum Target {
    /// As a file of another name, which then takes its place.
    Beside(PathBuf),
    /// Written in its place: it is no regular file, or nothing can be put beside it.
    Over(Patient),
}

/// Adds to what has been written.
struct Kept(Written);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Place {
    /// Standard output.
    pub(super) fn stdout() -> (Box<dyn Write>, Place) {
        let place = Place { shown: "standard output".to_owned(), is_stdout: true, whole: None };
        (Box::new(anstream::stdout()), place)
    }

    /// Standard error.
    pub(super) fn stderr() -> (Box<dyn Write>, Place) {
        let place = Place { shown: "standard error".to_owned(), is_stdout: false, whole: None };
        (Box::new(anstream::stderr()), place)
    }

    /// A file that is written as things happen.
    pub(super) fn stream(path: &Path) -> io::Result<(Box<dyn Write>, Place)> {
        let place = Place { shown: shown(path), is_stdout: false, whole: None };
        let file: Box<dyn Write> = Box::new(Patient::create(path)?);
        Ok((Box::new(anstream::StripStream::new(file)), place))
    }

    /// A file that keeps what it has until the report is whole.
    pub(super) fn whole(path: &Path) -> io::Result<(Box<dyn Write>, Place)> {
        let written = Written::default();
        let whole = Some((Target::of(path)?, Rc::clone(&written)));
        let place = Place { shown: shown(path), is_stdout: false, whole };
        let kept: Box<dyn Write> = Box::new(Kept(written));
        Ok((Box::new(anstream::StripStream::new(kept)), place))
    }

    /// Puts what was written into its place.
    pub(super) fn finish(&mut self) -> Result<(), Unwritten> {
        let put = match &mut self.whole {
            None => Ok(()),
            Some((Target::Beside(path), written)) => put(path, &written.borrow()),
            Some((Target::Over(file), written)) => over(file, &written.borrow()),
        };
        put.map_err(|error| self.failure(error))
    }

    /// What a failure to write there is called.
    pub(super) fn failure(&self, error: io::Error) -> Unwritten {
        Unwritten { shown: self.shown.clone(), is_stdout: self.is_stdout, error }
    }
}

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {shown}: {error}")]
pub(super) struct Unwritten {
    shown: String,
    is_stdout: bool,
    error: io::Error,
}

impl Unwritten {
    /// Nobody reads standard output any more.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.is_stdout && self.error.kind() == io::ErrorKind::BrokenPipe
    }

    /// It was the one for whoever started the command.
    pub(super) fn is_stdout(&self) -> bool {
        self.is_stdout
    }
}

impl Target {
    /// Finds out how this file can be written, and changes nothing yet.
    fn of(path: &Path) -> io::Result<Target> {
        // A link stays a link.
        let path = path.canonicalize().unwrap_or(path.to_owned());
        let beside = match path.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        };
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let is_open = rustix::fs::access(beside, access);
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                is_open?;
                Ok(Target::Beside(path))
            }
            Ok(found) if found.is_file() && is_open.is_ok() => {
                // One that may not be written to is not replaced, either.
                Patient::over(&path)?;
                Ok(Target::Beside(path))
            }
            _ => Ok(Target::Over(Patient::over(&path)?)),
        }
    }
}

/// Writes a file beside this one, which then takes its place.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = path.metadata().map_or(NEW, |found| found.permissions().mode() & 0o7777);
    let mut builder = tempfile::Builder::new();
    let permissions = Permissions::from_mode(mode);
    let mut file = builder.prefix(".layers-").permissions(permissions).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Writes to a file in the place of what it has.
fn over(to: &mut Patient, bytes: &[u8]) -> io::Result<()> {
    if to.file().metadata()?.is_file() {
        to.file().set_len(0)?;
    }
    to.write_all(bytes)
}

fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        entries.map(|entry| entry.file_name().display().to_string()).collect()
    }

    #[test]
    fn a_report_takes_its_place_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        std::fs::write(&path, "before").unwrap();
        let (mut to, place) = Place::whole(&path).unwrap();
        write!(to, "half").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        drop((to, place));
        assert_eq!(std::fs::read(&path).unwrap(), b"before", "a run that ends early leaves it");
        let (mut to, mut place) = Place::whole(&path).unwrap();
        write!(to, "\x1b[1mwhole\x1b[0m").unwrap();
        place.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(left(directory.path()), ["report"]);
    }

    #[test]
    fn a_link_stays_and_what_is_no_file_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (mut to, mut place) = Place::whole(&link).unwrap();
        write!(to, "x").unwrap();
        place.finish().unwrap();
        assert!(link.is_symlink() && std::fs::read(&real).unwrap() == b"x");
        let (mut to, mut place) = Place::whole(Path::new("/dev/full")).unwrap();
        write!(to, "x").unwrap();
        assert!(place.finish().is_err());
        assert!(Place::whole(&directory.path().join("none/report")).is_err());
        assert!(Place::whole(directory.path()).is_err());
    }
}
