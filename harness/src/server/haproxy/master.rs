//! Asking a master process.

use std::os::unix::net::UnixStream;

use super::{CLI, HaproxyServer, MASTER};
use crate::client::haproxy_cli::{CliClient, CliError};
use crate::deadline::Deadline;
use crate::server::process::Woken;

/// How often a master has been reloaded, by its list of processes: a head with the names of the columns, `<PID>` and so on,
/// and a line for the master.
pub fn reloads(list: &str) -> Option<u32> {
    let mut head = list.lines().next()?.split('<').skip(1).map(|name| name.split('>').next());
    let column = head.position(|name| name == Some("reloads"))?;
    let master = list.lines().find(|line| line.split_whitespace().nth(1) == Some("master"))?;
    master.split_whitespace().nth(column)?.parse().ok()
}

impl HaproxyServer {
    /// Asks the master until it answers as expected, each time as a client of the next number, and returns that answer. It
    /// starts itself anew once its workers are there, and for each reload: whoever has connected before that is cut off
    /// without an answer, and a signal that it gets meanwhile is lost.
    pub fn ask_master(
        &mut self,
        mut number: impl FnMut() -> u32,
        commands: &str,
        deadline: Deadline,
        expected: impl Fn(&str) -> bool,
    ) -> Result<Vec<u8>, CliError> {
        let trace = self.trace().ok_or(CliError::Closed)?;
        let socket = self.file(MASTER);
        let (mut failed, mut answered) = (None, Vec::new());
        let woken = self.process.wait_until(deadline, || {
            if UnixStream::connect(&socket).is_err() {
                return false;
            }
            let connected = CliClient::connect(number(), &socket, trace.clone(), deadline);
            match connected.and_then(|client| asked(client, commands)) {
                Ok(answer) => {
                    let is_expected = expected(&String::from_utf8_lossy(&answer));
                    answered = answer;
                    is_expected
                }
                Err(CliError::Closed | CliError::Io(_)) => false,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        });
        match (failed, woken) {
            (Some(error), _) => Err(error),
            (None, Woken::Happened) => Ok(answered),
            (None, Woken::Dead) => Err(CliError::Closed),
            (None, Woken::Late) => Err(CliError::Timeout),
        }
    }

    /// Waits until another process than this one answers commands, each time as a client of the next number. A master says that
    /// it has reloaded before its new worker is ready (HAProxy 3.1), and until then the old one answers.
    pub fn wait_for_another(
        &mut self,
        mut number: impl FnMut() -> u32,
        before: u32,
        deadline: Deadline,
    ) -> Woken {
        let Some(trace) = self.trace() else { return Woken::Dead };
        let socket = self.file(CLI);
        let progress = &mut self.progress;
        self.process.wait_until(deadline, || {
            let connected = CliClient::connect(number(), &socket, trace.clone(), deadline);
            let answered = connected.and_then(|client| asked(client, "layers plain"));
            progress.look(&trace);
            answered.is_ok() && progress.last_process().is_some_and(|now| now != before)
        })
    }
}

/// Sends these commands, and reads to the end what is answered: a master closes only when nothing more can come.
fn asked(mut client: CliClient, commands: &str) -> Result<Vec<u8>, CliError> {
    let answer = client.send(format!("{commands}\n").as_bytes()).and_then(|()| {
        client.half_close()?;
        client.read_to_end()
    });
    client.hang_up();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reloads_of_a_master_are_read() {
        let now = "#<PID>          <type>          <reloads>       <uptime>        <version>\n\
                   1162            master          2               0d00h02m07s     2.6.12\n# workers\n";
        assert_eq!(reloads(now), Some(2));
        let then =
            "#<PID> <type> <relative PID> <reloads> <uptime> <version>\n1162 master 0 1 0d00h02m07s 2.2.9\n";
        assert_eq!(reloads(then), Some(1));
        assert_eq!(reloads(""), None);
    }
}
