//! A server that is told to stop, or reloaded, in the middle of an answer.

use std::time::Duration;

use rustix::process::Signal;

use super::super::bench::{Bench, Buffers, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{Undisturbed, asked, on_server};
use crate::client::asked::Asked;
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, read_rest, text_of};
use crate::server::haproxy::{HaproxyError, HaproxyServer, reloads};
use crate::server::process::Woken;

const IDLE: Duration = Duration::from_millis(200);

/// A client in the middle of its answer, and what it has read of it.
struct Reader {
    client: CliClient,
    got: Vec<u8>,
}

impl Reader {
    /// Asks, and reads a little once the server waits for it.
    fn begin(bench: &Bench<'_>, server: &mut HaproxyServer, asked: &Asked) -> Result<Reader, CliError> {
        let mut client = bench.connect(server, asked, "cli")?;
        client.hurry(Deadline::after(bench.patience().saturating_mul(2)));
        client.send(text_of(asked).as_bytes())?;
        server.wait_idle(Deadline::after(IDLE));
        let got = client.read_bytes(1)?;
        server.wait_idle(Deadline::after(IDLE));
        Ok(Reader { client, got })
    }

    fn end(self, asked: &Asked) -> Answered {
        read_rest(self.client, asked, self.got)
    }
}

/// Whoever is answered when the server is told to stop gets the rest, and then it ends.
pub(in super::super) fn stop(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let conditions = Conditions { buffers: Buffers::Small, stops: true, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        let alone = match Undisturbed::of(bench, server, &asked) {
            Ok(alone) => alone,
            Err(said) => return said,
        };
        let reader = match Reader::begin(bench, server, &asked) {
            Ok(reader) => reader,
            Err(error) => return Said::Undecided(format!("`{asked}`, read a little: {error}")),
        };
        let _ = server.signal(Signal::USR1);
        server.wait_idle(Deadline::after(IDLE));
        let answered = reader.end(&asked);
        if let Some(actual) = alone.differs(&answered) {
            return Said::broken(
                alone.expected(&asked, "in the middle of which the server is told to stop"),
                actual,
            );
        }
        match server.process.wait_for_end(Deadline::after(bench.patience())) {
            Some(_) => Said::Holds,
            None => Said::broken(
                "the server ends when the last answer is over",
                format!("{} s later it still runs", bench.patience().as_secs()),
            ),
        }
    })
}

/// Whoever is answered when the server is reloaded gets the rest, and the new process answers the same.
pub(in super::super) fn reload(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let conditions = Conditions { buffers: Buffers::Small, workers: true, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        let ready = Deadline::after(bench.patience().saturating_mul(2));
        if let Err(error) =
            server.ask_master(|| bench.client(), "show proc", ready, |answer| !answer.is_empty())
        {
            return Said::Undecided(format!("the master process does not answer: {error}"));
        }
        let alone = match Undisturbed::of(bench, server, &asked) {
            Ok(alone) => alone,
            Err(said) => return said,
        };
        let Some(before) = process_of(server, bench) else {
            return Said::Undecided("it cannot be told which process answers".to_owned());
        };
        let reader = match Reader::begin(bench, server, &asked) {
            Ok(reader) => reader,
            Err(error) => return Said::Undecided(format!("`{asked}`, read a little: {error}")),
        };
        let _ = server.signal(Signal::USR2);
        let deadline = Deadline::after(bench.patience().saturating_mul(2));
        let is_reloaded = |answer: &str| reloads(answer).is_some_and(|count| count > 0);
        if let Err(error) = server.ask_master(|| bench.client(), "show proc", deadline, is_reloaded) {
            return Said::Undecided(format!("the master process does not say that it has reloaded: {error}"));
        }
        if server.wait_for_another(|| bench.client(), before, deadline) != Woken::Happened {
            return Said::Undecided("no new process answers after the reload".to_owned());
        }
        // While the old process is still there.
        let answered = bench.ask(server, &asked);
        if let Some(actual) = alone.differs(&answered) {
            return Said::broken(alone.expected(&asked, "by the new process"), actual);
        }
        let answered = reader.end(&asked);
        if let Some(actual) = alone.differs(&answered) {
            return Said::broken(
                alone.expected(&asked, "in the middle of which the server is reloaded"),
                actual,
            );
        }
        let deadline = Deadline::after(bench.patience());
        match server.ask_master(|| bench.client(), "show proc", deadline, |answer| !has_old(answer)) {
            Ok(_) => Said::Holds,
            // HAProxy 3.0.11 leaves the process behind now and then, whatever has answered over HTTP.
            Err(_) if entry.service => {
                let why =
                    "the process of before has not ended, and whether the service holds it cannot be told";
                Said::Unfit(why.to_owned())
            }
            Err(_) => Said::broken(
                "the process of before ends when its last answer is over",
                format!("{} s later it still runs", bench.patience().as_secs()),
            ),
        }
    })
}

/// The process that answers commands.
fn process_of(server: &mut HaproxyServer, bench: &Bench<'_>) -> Option<u32> {
    server.ask(bench.client(), "layers plain", Deadline::after(bench.patience())).ok()?;
    server.look();
    server.progress().last_process()
}

/// The list of a master has a worker of before the last reload.
fn has_old(list: &str) -> bool {
    let old = list.lines().skip_while(|line| !line.starts_with("# old workers"));
    old.skip(1).take_while(|line| !line.starts_with('#')).any(|line| line.contains("worker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_before_are_seen() {
        let list = "#<PID> <type> <reloads>\n1 master 1\n# workers\n3 worker 0\n# old workers\n2 worker 1\n# programs\n";
        assert!(has_old(list));
        assert!(!has_old(&list.replace("2 worker 1\n", "")));
    }
}
