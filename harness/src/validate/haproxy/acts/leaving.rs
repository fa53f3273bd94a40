//! Clients that leave.

use std::time::Duration;

use super::super::bench::{Bench, Buffers, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{asked, is_alive, on_server};
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyError;
use crate::server::haproxy::asking::text_of;
use crate::server::process::Woken;

/// Clients that leave, each after one sip more, at most.
const MOST: usize = 12;
const IDLE: Duration = Duration::from_millis(100);

/// Clients that leave at every call, or as soon as they have asked.
pub(in super::super) fn leave(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let conditions = Conditions { buffers: Buffers::Small, ..Conditions::default() };
    on_server(bench, &conditions, |server| {
        for sips in 0..MOST {
            let Ok(mut client) = bench.connect(server, &asked, "cli") else {
                return Said::broken("the server takes new clients after one has left", "no connection");
            };
            if client.send(text_of(&asked).as_bytes()).is_err() {
                return Said::broken(
                    "the server takes new clients after one has left",
                    "nothing could be sent",
                );
            }
            let mut over = false;
            for _ in 0..sips {
                server.wait_idle(Deadline::after(IDLE));
                over |= client.read_bytes(1).is_err();
            }
            if sips == 1 {
                server.wait_idle(Deadline::after(IDLE));
            }
            client.hang_up();
            let deadline = Deadline::after(bench.patience());
            if server.wait_until(deadline, |progress| progress.live() == 0) == Woken::Late {
                let seconds = bench.patience().as_secs();
                return Said::broken(
                    "the command ends when its client has gone",
                    format!(
                        "{seconds} s later it still runs: its handler does not look whether anybody is there"
                    ),
                );
            }
            if over {
                break;
            }
        }
        match server.ask(u32::MAX, "show version", Deadline::after(bench.patience())) {
            Ok(_) if is_alive(server) => Said::Holds,
            _ => Said::broken("the server answers after clients have left", "it does not"),
        }
    })
}
