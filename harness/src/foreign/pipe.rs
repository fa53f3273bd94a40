//! Files that the user has named, and that may be pipes: whoever is at the other end has a bounded time for each piece.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::retry_on_intr;

use crate::deadline::timespec;

/// How long somebody may take until they open the other end of a pipe, and until they write to it.
const OPENING: Duration = Duration::from_secs(10);
/// How long somebody may read nothing who has opened a pipe: they may be looking at it.
const READING: Duration = Duration::from_secs(30);

/// A file, or an end of a pipe at which nobody waits for ever.
#[derive(Debug)]
pub(crate) struct Patient {
    file: File,
    is_pipe: bool,
}

impl Patient {
    /// Opens a file or a pipe for reading.
    pub(crate) fn read(path: &Path) -> io::Result<Patient> {
        Patient::of(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?)
    }

    /// Makes a file, or empties the one that is there, or opens a pipe for writing.
    pub(crate) fn create(path: &Path) -> io::Result<Patient> {
        Patient::write(path, OpenOptions::new().create(true).truncate(true))
    }

    /// Opens a file that is there at its end, or a pipe for writing.
    pub(crate) fn append(path: &Path) -> io::Result<Patient> {
        Patient::write(path, OpenOptions::new().append(true))
    }

    /// Opens a file that is there, or a pipe, for writing; the file keeps what it has.
    pub(crate) fn over(path: &Path) -> io::Result<Patient> {
        Patient::write(path, &mut OpenOptions::new())
    }

    fn write(path: &Path, options: &mut OpenOptions) -> io::Result<Patient> {
        let options = options.write(true);
        match options.clone().custom_flags(libc::O_NONBLOCK).open(path) {
            // A pipe that nobody has open for reading.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => reader_comes(path, options)?,
            opened => opened,
        }
        .and_then(Patient::of)
    }

    /// Keeps the file from waiting where it is a pipe, and only there.
    fn of(file: File) -> io::Result<Patient> {
        let flags = fcntl_getfl(&file)?;
        let is_pipe = file.metadata()?.file_type().is_fifo();
        fcntl_setfl(&file, if is_pipe { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK })?;
        Ok(Patient { file, is_pipe })
    }

    /// Returns the file, for what is no reading and no writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Waits until there is something to read, or room to write to.
    fn wait(&self, wanted: PollFlags, most: Duration, nobody: &str) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.file, wanted)];
        match retry_on_intr(|| poll(&mut watched, Some(&timespec(most))))? {
            0 => Err(late(nobody)),
            _ => Ok(()),
        }
    }
}

/// Returns true for a path at which a pipe stands.
pub(crate) fn is_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.file_type().is_fifo())
}

/// Waits until somebody opens a pipe for reading.
fn reader_comes(path: &Path, options: &OpenOptions) -> io::Result<io::Result<File>> {
    let (told, heard) = mpsc::channel();
    let (own, options) = (path.to_owned(), options.clone());
    let opening = std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        let _ = told.send(options.open(own));
    })?;
    let opened = heard.recv_timeout(OPENING).map_err(|_| late("reads it"));
    if opened.is_err() {
        // Whoever opens the other end lets the thread go.
        let _ = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    }
    let _ = opening.join();
    opened
}

fn late(nobody: &str) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("it is a pipe, and nobody {nobody}"))
}

impl Read for Patient {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.is_pipe {
            // That a pipe is empty to which nobody has written yet is no end of a file.
            self.wait(PollFlags::IN, OPENING, "writes to it")?;
        }
        self.file.read(bytes)
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, READING, "reads it")?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes these bytes in the place of what a file has, or to a pipe.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    Patient::create(path)?.write_all(bytes.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        (directory, path)
    }

    #[test]
    fn a_reader_that_comes_later_gets_all_of_it() {
        let (_kept, path) = pipe();
        let bytes = vec![7; 1 << 20];
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || std::fs::read(path).unwrap())
        };
        write(&path, &bytes).unwrap();
        assert_eq!(reader.join().unwrap(), bytes);
    }

    #[test]
    fn what_is_written_to_a_pipe_in_pieces_is_read_to_its_end() {
        let (_kept, path) = pipe();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut to = File::options().write(true).open(path).unwrap();
                to.write_all(b"one").unwrap();
                to.write_all(b"two").unwrap();
            })
        };
        let mut read = String::new();
        Patient::read(&path).unwrap().read_to_string(&mut read).unwrap();
        writer.join().unwrap();
        assert_eq!(read, "onetwo");
    }

    #[test]
    fn a_file_is_made_emptied_and_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, "long text").unwrap();
        write(&path, "text").unwrap();
        Patient::append(&path).unwrap().write_all(b", more").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"text, more");
        assert_eq!(Patient::append(&directory.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
