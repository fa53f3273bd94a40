//! What a server uses after each round.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::HaproxyServer;
use crate::deadline::Deadline;

/// How much is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counting {
    /// Commands between two looks.
    pub(crate) commands: usize,
    /// Looks, of which the first ones are for what is made once.
    pub(crate) looks: usize,
    pub(crate) first: usize,
}

impl Counting {
    /// Enough to tell what each command keeps from what the server keeps now and then.
    pub(crate) const LONG: Counting = Counting { commands: 20, looks: 9, first: 3 };
    /// Enough to tell what keeps nothing.
    pub(crate) const SHORT: Counting = Counting { commands: 4, looks: 4, first: 1 };
}

/// What is counted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A keyword in C.
    Keyword,
    /// A service in C, or the server's own share in each request of one.
    Service,
    /// A keyword or a service in Lua.
    Lua,
}

/// Each so many-th client leaves at once.
const LEAVES: usize = 4;
/// Bytes a round that nobody is blamed for: of a keyword in C, and of what the server itself keeps for each function in Lua and
/// each request, a few hundred in 2.6; this much, too, where only pages can be counted.
const LITTLE: i64 = 16;
const LITTLE_ELSEWHERE: i64 = 1024;
/// Clients that settle takes a number for.
const NOBODY: u32 = u32::MAX;

/// What has grown from each look to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    /// Bytes for each command.
    pub(crate) bytes: Option<u64>,
    /// A pool of which each command keeps an object.
    pub(crate) pool: Option<String>,
    /// Descriptors from one look to the next, at least.
    pub(crate) descriptors: Option<u64>,
    /// Sessions, likewise.
    pub(crate) sessions: Option<u64>,
}

/// What a server uses.
struct Used {
    bytes: i64,
    /// What is told is how many pages are there.
    is_resident: bool,
    descriptors: i64,
    sessions: i64,
    pools: BTreeMap<String, i64>,
}

/// Returns what grows with every round, or why that cannot be told. Each visit is one command; `true`: its client leaves at once.
pub(crate) fn grown(
    server: &mut HaproxyServer,
    patience: Duration,
    (counted, counting): (Counted, Counting),
    mut visit: impl FnMut(&mut HaproxyServer, bool) -> Result<(), String>,
) -> Result<Grown, String> {
    let lua = counted == Counted::Lua;
    // What another one has left running stays so.
    server.look();
    let live = server.progress().live();
    let mut used = Vec::new();
    let mut shows_pools = true;
    for _ in 0..counting.looks {
        for round in 0..counting.commands {
            // HAProxy 2.6.12 dies of a client in some thousand that leaves a command in Lua: that is not the command's fault.
            visit(server, !lua && round % LEAVES == LEAVES - 1)?;
        }
        server.wait_until(Deadline::after(patience), |progress| progress.live() <= live);
        used.push(in_use(server, patience, lua, &mut shows_pools)?);
    }
    let used = used.get(counting.first..).unwrap_or_default();
    let least = |count: &dyn Fn(&Used) -> i64| {
        let counts: Vec<i64> = used.iter().map(count).collect();
        let steps = counts.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?));
        steps.min().unwrap_or(0)
    };
    let rounds = i64::try_from(counting.commands).unwrap_or(1);
    let in_c = counted == Counted::Keyword;
    let is_rough = used.iter().any(|used| used.is_resident);
    let little = if in_c && !is_rough { LITTLE } else { LITTLE_ELSEWHERE };
    let each = least(&|used| used.bytes) / rounds;
    let names = used.first().into_iter().flat_map(|used| used.pools.keys());
    let grows = |name: &&String| least(&|used| used.pools.get(*name).copied().unwrap_or(0)) >= rounds;
    let more = |count: &dyn Fn(&Used) -> i64| u64::try_from(least(count)).ok().filter(|more| *more > 0);
    Ok(Grown {
        bytes: u64::try_from(each).ok().filter(|_| each >= little),
        // What the server keeps for a function in Lua is not told from what the function keeps.
        pool: names.clone().filter(|_| in_c).find(grows).cloned(),
        descriptors: more(&|used| used.descriptors),
        sessions: more(&|used| used.sessions),
    })
}

/// Looks at it: at malloc's memory by a command of the instrument's own, at the rest by the server's, and by the kernel's
/// list of descriptors.
///
/// `shows_pools`: it answers `show pools`, which HAProxy 3.4.0 through small buffers begins again and again.
fn in_use(
    server: &mut HaproxyServer,
    patience: Duration,
    lua: bool,
    shows_pools: &mut bool,
) -> Result<Used, String> {
    let deadline = Deadline::after(patience);
    let ask = |server: &HaproxyServer, command: &str| {
        server.ask(NOBODY, command, deadline).map_err(|error| format!("`{command}`: {error}"))
    };
    if lua {
        for _ in 0..2 {
            ask(server, "layers collect")?;
        }
    }
    ask(server, "layers memory")?;
    server.look();
    let told = server.progress().allocated().and_then(|bytes| i64::try_from(bytes).ok());
    let sessions = ask(server, "show sess")?;
    let pools = if *shows_pools { ask(server, "show pools").ok() } else { None };
    *shows_pools = pools.is_some();
    let pools = pools.unwrap_or_default();
    let pid = server.progress().last_process().unwrap_or_else(|| server.process.pid());
    // An allocator of the server's own (jemalloc) leaves nothing for the C library to tell.
    let (bytes, is_resident) = match told.filter(|bytes| *bytes > 0) {
        Some(bytes) => (bytes, false),
        None => {
            let resident = resident(pid).ok_or_else(|| "nothing tells what memory is in use".to_owned())?;
            (resident, true)
        }
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Ok(Used {
        bytes,
        is_resident,
        descriptors: i64::try_from(descriptors).unwrap_or(i64::MAX),
        sessions: i64::try_from(sessions.lines().filter(|line| line.starts_with("0x")).count()).unwrap_or(0),
        pools: pools.lines().filter_map(pool).collect(),
    })
}

/// Bytes of memory of its own that a process has.
fn resident(pid: u32) -> Option<i64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A line of `show pools`: the name of a pool, and the number of its objects that are used.
fn pool(line: &str) -> Option<(String, i64)> {
    let (name, rest) = line.trim().strip_prefix("- Pool ")?.split_once(" (")?;
    let used = rest.split_once(" used")?.0.rsplit(' ').next()?;
    Some((name.to_owned(), used.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_pool_are_read() {
        let line = "  - Pool cache_st (16 bytes) : 5 allocated (80 bytes), 3 used, needed_avg 0, 0 failures, 4 users, @0x1 [SHARED]";
        assert_eq!(pool(line), Some(("cache_st".to_owned(), 3)));
        assert_eq!(pool("Total: 29 pools, 1 bytes allocated, 1 used."), None);
    }
}
