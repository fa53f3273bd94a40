//! `layers trace PLUGIN`: a stack of nbdkit, and a client that drives it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::output::complain;
use super::super::reports;
use super::arguments::{Arguments, NO_PLUGIN};
use super::show::{in_time, kept, not_ready, said, show_trace};
use crate::campaign::halt::Limit;
use crate::deadline::Deadline;
use crate::outcome::{Exit, Verdict};
use crate::run::Start;
use crate::server::nbdkit::{Conditions, Nbdkit, Serve, Server};
use crate::server::process::Woken;
use crate::server::shortage::no_room_for_run;

/// Records of a user's own run: 256 MiB of address space, touched as it fills.
const CAPACITY: u64 = 1 << 22;

pub(super) fn trace_stack(arguments: &Arguments) -> Result<Exit, Failure> {
    let pictures = reports::open(&arguments.report)?;
    let nbdkit = Nbdkit::find(arguments.server.as_deref())?;
    let stack = arguments.words.stack(NO_PLUGIN)?;
    let limit = arguments.bounds.limit();
    let deadline = Deadline::after(limit.of(Duration::from_secs(arguments.timeout)));
    let run = nbdkit.describe("trace", &stack, Start::Foreground, false);
    let serve = Serve {
        stack: &stack,
        run,
        capacity: arguments.bounds.records(CAPACITY)?,
        keep: arguments.save.as_deref(),
        cpu: None,
        command: None,
        conditions: Conditions::default(),
    };
    let mut server = nbdkit.start(&serve)?;
    match server.wait_ready(deadline) {
        Woken::Happened => {}
        Woken::Dead => {
            let complaint = server.complaint();
            let short = no_room_for_run(&server.process.stderr()).is_some();
            let exit = if short { Exit::Harness } else { Exit::Unloadable };
            return Err(Failure::new(exit, format!("the server did not start: {complaint}")));
        }
        Woken::Late => return not_ready(limit),
    }
    let hung = drive(arguments, &mut server, deadline, limit)?.map(|verdict| in_time(verdict, limit));
    let Some(trace) = server.trace() else { return Ok(said(&hung.unwrap_or(Verdict::Pass))) };
    let saved = server.save_trace();
    let exit = said(&show_trace(pictures, &trace, hung)?);
    kept(saved, arguments.save.as_deref()).map(|()| exit)
}

/// Runs the client, waits for the closes, stops the server. Says what hung, if anything did.
///
/// However long the client takes, the server then has time of its own to close handles and to end in.
fn drive(
    arguments: &Arguments,
    server: &mut Server,
    deadline: Deadline,
    limit: Limit,
) -> Result<Option<Verdict>, Failure> {
    let (mut slow, own) = (None, Duration::from_secs(arguments.timeout));
    if let Some((program, rest)) = arguments.client.split_first()
        && !run_client(program, rest, server, deadline)?
    {
        let how = format!("the client `{program}` did not end within {} s, and was killed", own.as_secs());
        slow = Some(Verdict::Inconclusive(how));
    }
    let deadline = Deadline::after(limit.of(own));
    if server.wait_until(deadline, |seen| seen.open() == 0) == Woken::Late {
        return Ok(Some(Verdict::Hang("handles stay open after the client has ended".to_owned())));
    }
    // It may have died of what the client did: the trace says so.
    if server.process.end().is_none() {
        let _ = server.signal(rustix::process::Signal::TERM);
    }
    let late = server.wait_for_end(Deadline::after(limit.of(own))).is_none();
    Ok(late.then(|| Verdict::Hang("the server does not end after SIGTERM".to_owned())).or(slow))
}

/// The path as it stands in the query of a URI (RFC 3986, 2.1).
fn escaped(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
    let bytes = path.as_os_str().as_bytes().iter();
    bytes
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Runs the client until it ends; false when it had to be killed.
fn run_client(program: &str, rest: &[String], server: &Server, deadline: Deadline) -> Result<bool, Failure> {
    let socket = server.socket().unwrap_or(Path::new(""));
    let uri = format!("nbd+unix:///?socket={}", escaped(socket));
    let filled = rest.iter().map(|word| word.replace("{uri}", &uri));
    let mut client = Command::new(program.replace("{uri}", &uri));
    client.args(filled);
    let ended = server
        .run_client(client, deadline)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot run the client `{program}`: {error}")))?;
    match ended {
        Some(status) if status.success() => {}
        Some(status) => complain(format!("the client `{program}` ended with {status}")),
        None => return Ok(false),
    }
    Ok(true)
}
