//! What a server uses after each round.

use super::bench::{Answered, Bench, text_of};
use crate::client::asked::Asked;
use crate::deadline::Deadline;
use crate::server::haproxy::HaproxyServer;

/// Rounds between two looks, and looks. The first ones are for what is made once.
const ROUNDS: usize = 20;
const LOOKS: usize = 9;
const FIRST: usize = 3;
/// Each so many-th client leaves at once.
const LEAVES: usize = 4;
/// Bytes a round that nobody is blamed for: of a keyword in C, and of what the server itself keeps for each function in Lua and
/// each request, a few hundred in 2.6.
const LITTLE: i64 = 16;
const LITTLE_ELSEWHERE: i64 = 1024;

/// Returns the bytes that a round keeps; nothing where it keeps none, or why that cannot be told.
pub(super) fn grows(
    bench: &Bench<'_>,
    server: &mut HaproxyServer,
    asked: &Asked,
    lua: bool,
) -> Result<Option<u64>, String> {
    let mut used = Vec::new();
    for _ in 0..LOOKS {
        for round in 0..ROUNDS {
            // HAProxy 2.6.12 dies of a client in some thousand that leaves a command in Lua: that is not the command's fault.
            if !lua && round % LEAVES == LEAVES - 1 {
                let client = bench.connect(server, asked, "cli");
                let mut client = client.map_err(|error| format!("no connection: {error}"))?;
                let sent = client.send(text_of(asked).as_bytes());
                client.hang_up();
                sent.map_err(|error| format!("nothing could be sent: {error}"))?;
                continue;
            }
            match bench.ask(server, asked, false, None) {
                Answered::Whole(_) | Answered::Cut(_) if server.process.end().is_none() => {}
                other => return Err(format!("`{asked}`: {}", other.said())),
            }
        }
        let settled = Deadline::after(bench.patience());
        server.wait_until(settled, |progress| progress.live() == 0);
        used.push(in_use(bench, server, lua)?);
    }
    let steps: Vec<i64> =
        used.windows(2).skip(FIRST).filter_map(|pair| Some(pair.last()? - pair.first()?)).collect();
    let least = steps.iter().copied().min().unwrap_or(0);
    let each = least / i64::try_from(ROUNDS).unwrap_or(1);
    let in_c = !lua && matches!(asked, Asked::Command(_));
    let little = if in_c { LITTLE } else { LITTLE_ELSEWHERE };
    Ok(u64::try_from(each).ok().filter(|_| each >= little))
}

/// Bytes of malloc's memory in use, by a command of the instrument's own.
fn in_use(bench: &Bench<'_>, server: &mut HaproxyServer, lua: bool) -> Result<i64, String> {
    let deadline = Deadline::after(bench.patience());
    let mut commands = vec!["layers memory"];
    if lua {
        commands.splice(0..0, ["layers collect", "layers collect"]);
    }
    for command in commands {
        server.ask(u32::MAX, command, deadline).map_err(|error| format!("`{command}`: {error}"))?;
    }
    server.look();
    let told = server.progress().allocated();
    told.and_then(|bytes| i64::try_from(bytes).ok())
        .ok_or_else(|| "the C library does not tell what is in use".to_owned())
}
