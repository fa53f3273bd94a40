//! Whether only this user, or root, can have written a file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Says why somebody else may have written this file, if so: both it and its directory must belong to this user or to root,
/// and nobody else may write to either. Of a link this holds where it is, and at each place to which it leads on the way.
pub(crate) fn doubt(path: &Path) -> io::Result<Option<String>> {
    let mut at = path.to_owned();
    loop {
        // A link that leads in a circle is an error here.
        if let Some(doubt) = doubt_at(&at)? {
            return Ok(Some(doubt));
        }
        match at.read_link() {
            Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
            // Its directory may have been named by links.
            Err(_) => return doubt_at(&at.canonicalize()?),
        }
    }
}

fn doubt_at(path: &Path) -> io::Result<Option<String>> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let user = rustix::process::geteuid().as_raw();
    for (what, found) in [("it", path.metadata()?), ("its directory", directory.metadata()?)] {
        if found.uid() != user && found.uid() != 0 {
            return Ok(Some(format!("{what} belongs to another user")));
        }
        // A group of the user's own, of which nobody else is a member, has the user's number.
        let private = found.gid() == user && found.uid() == user;
        if found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && !private) {
            return Ok(Some(format!("others can write to {what}")));
        }
    }
    Ok(None)
}
