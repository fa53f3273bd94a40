//! A user's configuration, made to be served in the directory of a run: sockets of its own in place of the user's.
//!
//! What is bound outside of `{dir}` belongs to somebody: a server that is in use has the same configuration, and whoever
//! binds the same port or the same path takes clients away from it. So those lines are left out, as are the ones that make
//! the server another process or another user, and each frontend gets a socket in the directory.

use super::load::DIRECTORY_MARK;

/// Words that begin a section (HAProxy's configuration manual, 2.1 and what later versions add).
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "ring",
    "cache",
    "userlist",
    "mailers",
    "program",
    "http-errors",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-list",
    "crt-store",
    "traces",
    "acme",
    "dynamic-update",
];
/// Of `global`: what would make it another process, another user, or somebody else's files.
const NOT_HERE: &[&str] =
    &["daemon", "pidfile", "chroot", "user", "group", "uid", "gid", "master-worker", "localpeer"];
/// Of `global`: how many threads and processes there are.
const THREADS: &[&str] = &["nbthread", "nbproc", "thread-groups", "thread-group"];
/// The sockets of the command line, with the level of each.
const LEVELS: &[(&str, &str)] = &[("cli", "admin"), ("operator", "operator"), ("user", "user")];

/// A place that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Its name.
    pub name: String,
    /// Its socket in the directory of the run.
    pub socket: String,
    /// It speaks HTTP.
    pub http: bool,
}

/// A rule `use-service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedService {
    /// The name of the service.
    pub service: String,
    /// The section that the rule stands in.
    pub section: String,
    /// It is a rule of `http-request`.
    pub http: bool,
    /// The path that the rule asks for, if that is all that it asks for; `/` where it asks for nothing.
    pub path: Option<String>,
}

/// The files of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Each with the name by which its user knows it.
    pub(super) files: Vec<(String, String)>,
    /// Where clients connect to.
    pub frontends: Vec<Frontend>,
    /// Services that rules use.
    pub services: Vec<UsedService>,
    /// Lines that were left out.
    pub left_out: Vec<String>,
    /// A file in Lua is loaded.
    pub lua: bool,
}

impl Configuration {
    /// The files of a user, each with its name and its text.
    pub fn of_user(files: &[(String, String)]) -> Configuration {
        let mut made = Configuration::default();
        let mut reading = Reading::default();
        for (name, text) in files {
            let lines: Vec<String> = text.lines().map(|line| reading.line(line, &mut made)).collect();
            made.files.push((name.clone(), lines.join("\n") + "\n"));
        }
        made.files.push(("the sockets of layers".to_owned(), command_lines(files)));
        // A section without a place to connect to is no frontend.
        made.frontends.retain(|frontend| !frontend.socket.is_empty());
        made
    }

    /// The same, with these lines of `global` behind all others.
    #[must_use]
    pub fn with_global(mut self, lines: &[String]) -> Configuration {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        self.files.push(("the settings of layers".to_owned(), format!("global\n{lines}")));
        self
    }

    /// The same, without what it says of threads: that must stand in the first section, before all of this.
    #[must_use]
    pub fn without_threads(mut self) -> Configuration {
        let is_other = |line: &&str| !THREADS.contains(&line.split_whitespace().next().unwrap_or_default());
        for (_, text) in &mut self.files {
            // An empty line in its place, so that the numbers of lines are those of the user's file.
            let lines: Vec<&str> =
                text.lines().map(|line| Some(line).filter(is_other).unwrap_or("")).collect();
            *text = lines.join("\n") + "\n";
        }
        self
    }

    /// The frontend of this name; without one the first that speaks HTTP.
    pub fn frontend(&self, name: &str) -> Option<&Frontend> {
        let mut all = self.frontends.iter();
        if name.is_empty() { all.find(|one| one.http) } else { all.find(|one| one.name == name) }
    }
}

/// The command lines that the harness asks, as far as the configuration has none in the same place.
fn command_lines(files: &[(String, String)]) -> String {
    let has = |name: &str| {
        let place = format!("{DIRECTORY_MARK}/{name} ");
        files.iter().any(|(_, text)| text.lines().any(|line| format!("{line} ").contains(&place)))
    };
    let missing = LEVELS.iter().filter(|(name, _)| !has(name));
    let sockets: String = missing
        .map(|(name, level)| format!("    stats socket {DIRECTORY_MARK}/{name} level {level} mode 600\n"))
        .collect();
    format!("global\n    stats maxconn 100\n{sockets}")
}

/// Where in a configuration one is.
#[derive(Default)]
struct Reading {
    section: String,
    name: String,
    /// The mode of the last `defaults`.
    http_by_default: bool,
    sockets: usize,
}

impl Reading {
    /// The line as it is served.
    fn line(&mut self, line: &str, made: &mut Configuration) -> String {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let Some(first) = words.first() else { return line.to_owned() };
        if SECTIONS.contains(first) {
            self.begin(&words, made);
            return line.to_owned();
        }
        let second = words.get(1).copied().unwrap_or_default();
        match (self.section.as_str(), *first) {
            ("global", "stats") if second == "socket" => self.left_out(line, made),
            ("global", word) if NOT_HERE.contains(&word) => self.left_out(line, made),
            ("global", word) if word.starts_with("lua-load") => {
                made.lua = true;
                line.to_owned()
            }
            ("defaults", "mode") => {
                self.http_by_default = second == "http";
                line.to_owned()
            }
            ("frontend" | "listen", "mode") => {
                if let Some(frontend) = made.frontends.last_mut() {
                    frontend.http = second == "http";
                }
                line.to_owned()
            }
            ("frontend" | "listen", "bind") => self.bind(line, second, made),
            ("program" | "mailers", _) => self.left_out(line, made),
            _ => {
                made.services.extend(used_service(&self.name, &words));
                line.to_owned()
            }
        }
    }

    fn begin(&mut self, words: &[&str], made: &mut Configuration) {
        let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
        (self.section, self.name) = (word(0), word(1));
        if self.section == "defaults" {
            self.http_by_default = false;
        }
        if matches!(self.section.as_str(), "frontend" | "listen") {
            let http = self.http_by_default;
            made.frontends.push(Frontend { name: self.name.clone(), socket: String::new(), http });
        }
    }

    /// A comment in its place, so that the numbers of lines are those of the user's file.
    fn left_out(&self, line: &str, made: &mut Configuration) -> String {
        if line.contains(DIRECTORY_MARK) {
            return line.to_owned();
        }
        made.left_out.push(line.trim().to_owned());
        String::new()
    }

    fn bind(&mut self, line: &str, address: &str, made: &mut Configuration) -> String {
        let own = address.split_once(&format!("{DIRECTORY_MARK}/")).map(|(_, name)| name.to_owned());
        let has = made.frontends.last().is_some_and(|frontend| !frontend.socket.is_empty());
        let served = match &own {
            Some(_) => line.to_owned(),
            None => {
                let empty = self.left_out(line, made);
                if has {
                    return empty;
                }
                self.sockets += 1;
                format!("    bind unix@{DIRECTORY_MARK}/frontend{}", self.sockets)
            }
        };
        if let Some(frontend) = made.frontends.last_mut().filter(|_| !has) {
            frontend.socket = own.unwrap_or_else(|| format!("frontend{}", self.sockets));
        }
        served
    }
}

/// The service that a rule uses, if it uses one, and the path that it does so for.
fn used_service(section: &str, words: &[&str]) -> Option<UsedService> {
    let place = words.iter().position(|word| *word == "use-service")?;
    let http = words.first() == Some(&"http-request");
    let service = (*words.get(place + 1)?).to_owned();
    let condition = words.iter().position(|word| *word == "if" || *word == "unless");
    let path = match condition.map(|place| words.get(place..).unwrap_or_default()) {
        None => Some("/".to_owned()),
        Some(["if", "{", "path" | "path_beg", rest @ .., "}"]) => {
            let named = rest.iter().find(|word| word.starts_with('/'));
            let only =
                rest.iter().all(|word| word.starts_with(['/', '-']) || *word == "beg" || *word == "str");
            named.filter(|_| only).map(|path| (*path).to_owned())
        }
        Some(_) => None,
    };
    Some(UsedService { service, section: section.to_owned(), http, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "global
    daemon
    stats socket /run/haproxy/admin.sock level admin
    lua-load x.lua
defaults
    mode http
frontend web   # the public one
    bind :80
    bind :443 ssl crt x.pem
    http-request use-service lua.hello if { path /hello }
    http-request use-service lua.all
    http-request use-service lua.odd if { src 1.2.3.4 }
listen plain
    mode tcp
    bind unix@{dir}/plain
frontend none
    default_backend x
";

    #[test]
    fn what_is_somebody_elses_is_left_out_and_lines_keep_their_numbers() {
        let made = Configuration::of_user(&[("my.cfg".to_owned(), USERS.to_owned())]);
        let frontend = |name: &str, socket: &str, http| Frontend {
            name: name.to_owned(),
            socket: socket.to_owned(),
            http,
        };
        assert_eq!(made.frontends, [frontend("web", "frontend1", true), frontend("plain", "plain", false)]);
        let lines: Vec<&str> = made.files[0].1.lines().collect();
        assert_eq!(lines.len(), USERS.lines().count());
        assert_eq!((lines[1], lines[2], lines[7]), ("", "", "    bind unix@{dir}/frontend1"));
        assert_eq!(made.left_out.len(), 4, "{:?}", made.left_out);
        assert!(made.lua);
        assert_eq!(made.frontend("").map(|one| one.name.as_str()), Some("web"));
    }

    #[test]
    fn the_path_of_a_service_is_read_from_its_rule() {
        let made = Configuration::of_user(&[("my.cfg".to_owned(), USERS.to_owned())]);
        let paths: Vec<(&str, Option<&str>)> =
            made.services.iter().map(|one| (one.service.as_str(), one.path.as_deref())).collect();
        assert_eq!(paths, [("lua.hello", Some("/hello")), ("lua.all", Some("/")), ("lua.odd", None)]);
    }

    #[test]
    fn command_lines_are_added_where_there_are_none() {
        let text = "global\n    stats socket {dir}/cli level admin\n".to_owned();
        let made = Configuration::of_user(&[("my.cfg".to_owned(), text)]);
        let added = &made.files[1].1;
        assert!(!added.contains("{dir}/cli ") && added.contains("{dir}/user "), "{added}");
    }
}
