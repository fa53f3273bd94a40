//! What is left behind by commands and requests, complete and aborted: memory, pools, descriptors, sessions.

use super::super::bench::{Bench, Buffers, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{asked, on_server};
use crate::client::asked::Asked;
use crate::server::haproxy::asking::{Answered, text_of};
use crate::server::haproxy::rounds::{Counted, Counting, Grown, grown};
use crate::server::haproxy::{HaproxyError, HaproxyServer};

/// Memory and objects of pools do not grow with every round.
pub(in super::super) fn memory(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let grown = match grown_by(bench, &asked, entry.lua)? {
        Ok(grown) => grown,
        Err(said) => return Ok(said),
    };
    let (Some(bytes), pool) = (grown.bytes.or(grown.pool.as_ref().map(|_| 0)), &grown.pool) else {
        return Ok(Said::Holds);
    };
    // The server's own share, of the same clients with a command that does nothing.
    let own = match entry.service {
        true => Grown::default(),
        false => grown_by(bench, &Asked::Command("layers plain".to_owned()), entry.lua)?.unwrap_or_default(),
    };
    let own_bytes = own.bytes.unwrap_or(0).saturating_mul(2);
    if (bytes > 0 && own_bytes >= bytes) || (bytes == 0 && own.pool == *pool) {
        return Ok(Said::Unfit("the memory of this server grows with clients alone".to_owned()));
    }
    let kept = match (bytes, pool) {
        (0, Some(pool)) => format!("an object of the pool `{pool}`"),
        (bytes, Some(pool)) => format!("{bytes} bytes, and an object of the pool `{pool}`"),
        (bytes, None) => format!("{bytes} bytes"),
    };
    Ok(Said::broken(
        "what is in use after each further round is no more than after the one before",
        format!("each `{asked}` keeps {kept}"),
    ))
}

/// Descriptors of the process do not grow with every round.
pub(in super::super) fn descriptors(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    of(bench, entry, "descriptors of the process", |grown| grown.descriptors)
}

/// Sessions do not grow with every round.
pub(in super::super) fn sessions(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    of(bench, entry, "sessions of the server", |grown| grown.sessions)
}

fn of(
    bench: &Bench<'_>,
    entry: &Handler,
    what: &str,
    count: impl Fn(&Grown) -> Option<u64>,
) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    Ok(match grown_by(bench, &asked, entry.lua)? {
        Err(said) => said,
        Ok(grown) => match count(&grown) {
            None => Said::Holds,
            Some(each) => Said::broken(
                format!("the {what} are no more after each further round than after the one before"),
                format!("{each} more after each {} of `{asked}`", Counting::LONG.commands),
            ),
        },
    })
}

/// What grows by this, on a server of its own; or what is said because that cannot be told.
fn grown_by(bench: &Bench<'_>, asked: &Asked, lua: bool) -> Result<Result<Grown, Said>, HaproxyError> {
    let mut grows = Ok(Grown::default());
    // Whoever leaves then leaves in the middle.
    let conditions = Conditions { buffers: Buffers::Small, ..Conditions::default() };
    let said = on_server(bench, &conditions, |server| {
        let counted = match asked {
            _ if lua => Counted::Lua,
            Asked::Command(_) => Counted::Keyword,
            Asked::Request(_) => Counted::Service,
        };
        let visit = |server: &mut HaproxyServer, leaves: bool| visit(bench, server, asked, leaves);
        grows = grown(server, bench.patience(), (counted, Counting::LONG), visit);
        Said::Holds
    })?;
    Ok(match said {
        Said::Holds => grows.map_err(Said::Undecided),
        other => Err(other),
    })
}

/// Asks, and reads the answer to its end or leaves at once.
fn visit(bench: &Bench<'_>, server: &mut HaproxyServer, asked: &Asked, leaves: bool) -> Result<(), String> {
    if !leaves {
        return match bench.ask(server, asked) {
            Answered::Whole(_) | Answered::Cut(_) => Ok(()),
            other => Err(format!("`{asked}`: {}", other.said())),
        };
    }
    let client = bench.connect(server, asked, "cli");
    let mut client = client.map_err(|error| format!("no connection: {error}"))?;
    let sent = client.send(text_of(asked).as_bytes());
    client.hang_up();
    sent.map_err(|error| format!("nothing could be sent: {error}"))
}
