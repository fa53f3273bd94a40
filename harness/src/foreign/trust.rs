//! Whether only this user, or root, can have written a file.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says why somebody else may have written this file, if so: both it and its directory must belong to this user or to root,
/// and nobody else may write to either. Of a link this holds where it is, and at each place to which it leads on the way.
pub(crate) fn doubt(path: &Path) -> io::Result<Option<String>> {
    // A link that leads in a circle is an error here.
    let end = path.canonicalize()?;
    let mut path = std::path::absolute(path)?;
    while let Some((link, rest)) = first_link(&path) {
        if let Some(doubt) = doubt_of_link(&link)? {
            return Ok(Some(doubt));
        }
        path = link.parent().unwrap_or(Path::new("/")).join(link.read_link()?).join(rest);
    }
    doubt_at(&end)
}

/// The first part of this path that is a link, and what follows it.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let link = ancestors.into_iter().find(|part| part.is_symlink())?;
    Some((link.to_owned(), path.strip_prefix(link).ok()?.to_owned()))
}

/// Says why somebody else may have made this link. In a directory for everybody whose files only their owners can remove, as
/// /tmp is one, its owner tells.
fn doubt_of_link(link: &Path) -> io::Result<Option<String>> {
    let directory = link.parent().unwrap_or(Path::new("/")).metadata()?;
    let (owner, sticky) = (link.symlink_metadata()?.uid(), directory.mode() & 0o1000 != 0);
    let name = link.display();
    Ok(if !is_trusted(owner) {
        Some(format!("the link `{name}` belongs to another user"))
    } else if can_be_written(&directory) && !sticky {
        Some(format!("others can write to the directory of the link `{name}`"))
    } else {
        None
    })
}

fn is_trusted(owner: u32) -> bool {
    owner == rustix::process::geteuid().as_raw() || owner == 0
}

/// Somebody else than its owner and root can write to it.
fn can_be_written(found: &Metadata) -> bool {
    // A group of the user's own, of which nobody else is a member, has the user's number.
    let private = found.gid() == rustix::process::geteuid().as_raw() && found.gid() == found.uid();
    found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && !private)
}

fn doubt_at(path: &Path) -> io::Result<Option<String>> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    for (what, found) in [("it", path.metadata()?), ("its directory", directory.metadata()?)] {
        if !is_trusted(found.uid()) {
            return Ok(Some(format!("{what} belongs to another user")));
        }
        if can_be_written(&found) {
            return Ok(Some(format!("others can write to {what}")));
        }
    }
    Ok(None)
}
