//! The files of a user's configuration of HAProxy.

use std::path::PathBuf;

use super::failure::Failure;
use crate::client::asked::{Asked, HttpRequest};
use crate::foreign::bounded;
use crate::outcome::Exit;
use crate::server::haproxy::Configuration;

/// Reads them, each with its path.
pub(super) fn texts(files: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Failure> {
    let read = |path: &PathBuf| {
        let shown = path.display();
        let text = bounded::text(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read the configuration `{shown}`: {error}"))
        })?;
        Ok((path.clone(), text))
    };
    files.iter().map(read).collect()
}

/// Reads them as one configuration.
pub(super) fn configuration(files: &[PathBuf]) -> Result<Configuration, Failure> {
    let named = |(path, text): (PathBuf, String)| (path.display().to_string(), text);
    Ok(Configuration::of_user(&texts(files)?.into_iter().map(named).collect::<Vec<_>>()))
}

/// What is asked, each of which must be there.
pub(super) fn asked(users: &Configuration, texts: &[String]) -> Result<Vec<Asked>, Failure> {
    let asked: Vec<Asked> = texts.iter().map(|text| Asked::from(text.as_str())).collect();
    let is_unknown = |request: &&HttpRequest| users.frontend(&request.frontend).is_none();
    let mut requests = asked.iter().filter_map(|one| match one {
        Asked::Request(request) => Some(request),
        Asked::Command(_) => None,
    });
    match requests.find(is_unknown) {
        None => Ok(asked),
        Some(request) => {
            let what = format!("`{request}`: the configuration has no frontend of that name with a `bind`");
            Err(Failure::new(Exit::Usage, what))
        }
    }
}
