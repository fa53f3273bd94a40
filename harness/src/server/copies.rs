//! Copies of files of the user's, one for each case: what a server writes, it writes there.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::directory::{Names, RunDirectory};
use super::interrupt;
use crate::random::random;
use crate::run::stack::Stack;

/// The directory of the copies of one case, which is removed with this value.
#[derive(Debug)]
pub(crate) struct Copies {
    id: u64,
    directory: Option<RunDirectory>,
}

impl Copies {
    /// Copies what the stack says; gives the stack that names the copies, where `relative` says so by relative paths what was
    /// named by one. `None` where there is nothing to copy.
    pub(crate) fn of(stack: &Stack, relative: bool) -> io::Result<Option<(Stack, Copies)>> {
        if stack.copied.is_empty() {
            return Ok(None);
        }
        let id = random();
        let copies = Copies { id, directory: Some(interrupt::directory(id, Names::Text)?) };
        let mut stack = stack.clone();
        for (number, value) in std::mem::take(&mut stack.copied).iter().enumerate() {
            let copy = copies.copy(number, value)?;
            let copy =
                if relative && Path::new(value).is_relative() { relative_to_here(&copy)? } else { copy };
            let named = stack.parameters.iter_mut().filter(|one| one.value == *value);
            named.for_each(|one| copy.clone_into(&mut one.value));
        }
        Ok(Some((stack, copies)))
    }

    fn copy(&self, number: usize, value: &str) -> io::Result<String> {
        let base = self.directory.as_ref().map_or(Path::new(""), RunDirectory::path);
        let folder = base.join(number.to_string());
        std::fs::create_dir(&folder)?;
        let source = Path::new(value);
        let copy: PathBuf = folder.join(source.file_name().unwrap_or(value.as_ref()));
        let text = copy.to_string_lossy().into_owned();
        // A file that is only going to be made is made here.
        match File::open(source) {
            Ok(from) => fill(&from, &copy)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(text)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        drop(self.directory.take());
        interrupt::ended(self.id);
    }
}

/// The same path, from the working directory.
fn relative_to_here(path: &str) -> io::Result<String> {
    let here = std::env::current_dir()?;
    let up = "../".repeat(here.components().count().saturating_sub(1));
    Ok(up + path.trim_start_matches('/'))
}

/// A copy with the holes of the original: shares its blocks where the file system can.
fn fill(from: &File, path: &Path) -> io::Result<()> {
    let to = File::create_new(path)?;
    let data = from.metadata()?;
    if ioctl_ficlone(&to, from).is_err() {
        ftruncate(&to, data.len())?;
        let mut at = 0;
        while let Some((start, end)) = data_after(from, at, data.len())? {
            copy_range(from, &to, start, end)?;
            at = end;
        }
    }
    // The server may write to it, whatever its original allows.
    to.set_permissions(Permissions::from_mode(data.permissions().mode() | 0o600))
}

/// The next bytes that are no hole.
fn data_after(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows of no holes.
        Err(Errno::INVAL) => at,
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size);
    Ok(Some((start, end.min(size))))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut at = start;
    while at < end {
        let (mut read, mut written) = (at, at);
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        let copied = match copy_file_range(from, Some(&mut read), to, Some(&mut written), count) {
            Ok(copied) => copied,
            // Not between these file systems.
            Err(_) => {
                let mut bytes = vec![0; count.min(1 << 20)];
                let some = from.read_at(&mut bytes, at)?;
                to.write_all_at(bytes.get(..some).unwrap_or_default(), at)?;
                some
            }
        };
        if copied == 0 {
            return Ok(());
        }
        at += copied as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;
    use crate::run::Parameter;

    #[test]
    fn a_copy_has_the_bytes_and_the_holes_of_its_original_and_goes_with_its_case() {
        let directory = tempfile::tempdir().unwrap();
        let original = directory.path().join("disk.img");
        let file = File::create(&original).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 4096], 8 << 20).unwrap();
        file.set_permissions(Permissions::from_mode(0o400)).unwrap();
        let value = original.display().to_string();
        let named = |value: &str| Parameter { key: Some("disk".to_owned()), value: value.to_owned() };
        let stack = Stack {
            parameters: vec![named(&value), named("64M")],
            copied: [value.clone()].into(),
            ..Stack::default()
        };
        let (changed, copies) = Copies::of(&stack, false).unwrap().unwrap();
        let copy = PathBuf::from(&changed.parameters[0].value);
        assert_eq!(copy.file_name(), original.file_name());
        assert_eq!(changed.parameters[1].value, "64M");
        let data = copy.metadata().unwrap();
        assert_eq!((data.len(), data.mode() & 0o600), (64 << 20, 0o600));
        assert!(data.blocks() * 512 < 1 << 20, "{} blocks", data.blocks());
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&original).unwrap());
        drop(copies);
        assert!(!copy.exists() && original.exists());
    }
}
