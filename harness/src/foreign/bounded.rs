//! Reading files that somebody else may have made: no more of them than there is use for, and without waiting for anybody.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::pipe::Patient;

/// Bytes that a text may have that people or `layers` write.
const MOST_TEXT: u64 = 64 << 20;
/// Bytes that a module or a program may have.
const MOST_MODULE: u64 = 4 << 30;

/// Reads the text of a file that the user has named: it may be a pipe, if somebody writes to it.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    in_utf8(all(Patient::read(path)?, MOST_TEXT)?)
}

/// Reads the text of a file that nobody has named, and that is read only where it is a regular one.
pub(crate) fn found_text(path: &Path) -> io::Result<String> {
    in_utf8(all(regular(path)?, MOST_TEXT)?)
}

/// Reads a module or a program, which is a regular file.
pub(crate) fn module(path: &Path) -> io::Result<Vec<u8>> {
    all(regular(path)?, MOST_MODULE)
}

/// Opens a regular file. Something else is an error, and is not waited for.
pub(crate) fn regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

fn all(file: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

fn in_utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no text (UTF-8)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_to_its_end_and_a_pipe_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(
            (text(&path).unwrap(), found_text(&path).unwrap()),
            ("text".to_owned(), "text".to_owned())
        );
        assert_eq!(text(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(found_text(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(found_text(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(module(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(found_text(directory.path()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
