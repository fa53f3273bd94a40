//! nbdkit-probing(1), "Probing the configuration of the server": what `--dump-config` prints.

use std::path::PathBuf;

use crate::version::Version;

/// What the harness wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) version: Version,
    /// The version as it is printed.
    pub(crate) version_text: String,
    pub(crate) plugins: PathBuf,
    pub(crate) filters: PathBuf,
}

impl Configuration {
    /// Reads the output; else says what is wrong with it.
    pub(crate) fn read(output: &str) -> Result<Configuration, &'static str> {
        let value = |key: &str| {
            output.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
        };
        if value("name").as_deref() != Some("nbdkit") {
            return Err("`--dump-config` does not print name=nbdkit");
        }
        let version_text = value("version").ok_or("`--dump-config` prints no version")?;
        let version = version_text.parse().map_err(|_| "`--dump-config` prints a version that is none")?;
        let folder = |key| value(key).map(PathBuf::from).unwrap_or_default();
        let (plugins, filters) = (folder("plugindir"), folder("filterdir"));
        Ok(Configuration { version, version_text, plugins, filters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_and_the_folders_are_read_and_another_program_is_told_apart() {
        let output = "bindir=/usr/bin\nname=nbdkit\nplugindir=/usr/lib/plugins\nversion=1.32.5\n";
        let read = Configuration::read(output).unwrap();
        assert_eq!((read.version, read.version_text.as_str()), (Version(1, 32, 5), "1.32.5"));
        assert_eq!((read.plugins, read.filters), (PathBuf::from("/usr/lib/plugins"), PathBuf::new()));
        assert_eq!(
            Configuration::read("version=1.32.5\n"),
            Err("`--dump-config` does not print name=nbdkit")
        );
        assert_eq!(Configuration::read("name=nbdkit\n"), Err("`--dump-config` prints no version"));
        let odd = Configuration::read("name=nbdkit\nversion=one\n");
        assert_eq!(odd, Err("`--dump-config` prints a version that is none"));
    }
}
