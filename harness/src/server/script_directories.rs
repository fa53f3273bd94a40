//! The directories in which nbdkit's sh and eval plugins keep their scripts. A server that is killed leaves them behind.
//!
//! Such a directory has a name that the server makes up and tells nobody. The plugin knows it: it is a string among its
//! data. It is noted in the directory of the run as long as the server lives, and goes with that.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::removal::remove_all;
use crate::foreign::bounded;

/// In the directory of a run: those of its server, one a line.
const NOTE: &str = "scripts";
/// What the name of each begins with; then follow so many letters and digits.
const MADE: &[u8] = b"/tmp/nbdkit";
const RANDOM: usize = 6;
/// Bytes of data that a plugin may have and is searched.
const MOST_DATA: u64 = 1 << 20;

/// Notes those of this server, if it has any, in the directory of its run.
pub(super) fn note(server: u32, directory: &Path) {
    let made = made_by(server).unwrap_or_default();
    if !made.is_empty() {
        // What cannot be noted is left behind, and nothing worse. A pipe or a link there is the server's doing.
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let note = options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(directory.join(NOTE));
        let _ = note.and_then(|mut note| note.write_all(made.join("\n").as_bytes()));
    }
}

/// Removes those that were noted.
pub(super) fn remove(directory: &Path) {
    let noted = bounded::found_text(&directory.join(NOTE)).unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    // A server writes to the directory of its run: only what nbdkit itself names so, and has made for this user, is removed.
    let is_name = |line: &&str| name(line.as_bytes()).is_some_and(|name| name == *line);
    for made in noted.lines().filter(is_name) {
        let is_own =
            Path::new(made).symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == user);
        if is_own {
            let _ = remove_all(Path::new(made));
        }
    }
}

/// The directories that stand in the data of the plugins of this process.
fn made_by(server: u32) -> std::io::Result<Vec<String>> {
    let maps = std::fs::read_to_string(format!("/proc/{server}/maps"))?;
    let memory = File::open(format!("/proc/{server}/mem"))?;
    let mut made = Vec::new();
    for (start, end) in maps.lines().filter_map(data_of_plugin) {
        let mut data = vec![0; usize::try_from(end.saturating_sub(start).min(MOST_DATA)).unwrap_or(0)];
        if memory.read_exact_at(&mut data, start).is_ok() {
            let places = data.windows(MADE.len()).enumerate().filter(|(_, window)| *window == MADE);
            made.extend(places.filter_map(|(at, _)| name(data.get(at..)?)).map(str::to_owned));
        }
    }
    Ok(made)
}

/// Where this line of /proc/PID/maps says that the writable data of a plugin lies.
fn data_of_plugin(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let file = rest.rsplit('/').next()?;
    let is_plugin = file.starts_with("nbdkit-") && file.ends_with("-plugin.so");
    let (start, end) = range.split_once('-').filter(|_| is_plugin && rest.starts_with("rw"))?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// The name of such a directory, if that is what these bytes begin with.
fn name(bytes: &[u8]) -> Option<&str> {
    let name = bytes.get(..MADE.len() + RANDOM)?;
    let random = name.strip_prefix(MADE)?;
    let ends = bytes.get(name.len()).is_none_or(|next| *next == 0);
    // The template, before a name has been made of it.
    let is_made = ends && random != b"XXXXXX" && random.iter().all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(name).ok().filter(|_| is_made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_a_plugin_are_found_and_a_name_in_them() {
        let line = "7f00a000-7f00b000 rw-p 00006000 08:01 42  /usr/lib/nbdkit/plugins/nbdkit-eval-plugin.so";
        assert_eq!(data_of_plugin(line), Some((0x7f00_a000, 0x7f00_b000)));
        assert_eq!(data_of_plugin(&line.replace("rw-p", "r--p")), None);
        assert_eq!(data_of_plugin("7f00a000-7f00b000 rw-p 00000000 00:00 0"), None);
        assert_eq!(name(b"/tmp/nbdkitaB3dE6\0more"), Some("/tmp/nbdkitaB3dE6"));
        for other in [&b"/tmp/nbdkitXXXXXX\0"[..], b"/tmp/nbdkit../../x", b"/tmp/nbdkitaB3dE6/x", b"/tmp/nbd"]
        {
            assert_eq!(name(other), None);
        }
    }

    #[test]
    fn only_a_directory_that_nbdkit_names_so_is_removed() {
        let run = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let made = tempfile::Builder::new().prefix("nbdkit").rand_bytes(RANDOM).tempdir_in("/tmp").unwrap();
        std::fs::write(made.path().join("pread"), "").unwrap();
        let noted =
            format!("{}\n{}\n{}/..", other.path().display(), made.path().display(), made.path().display());
        std::fs::write(run.path().join(NOTE), noted).unwrap();
        remove(run.path());
        assert!(!made.path().exists() && other.path().exists());
    }
}
