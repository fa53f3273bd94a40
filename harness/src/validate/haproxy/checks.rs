//! The checks of keywords and services: a row each.

use super::acts::{self, Act};
use crate::rules::Party;
use crate::validate::checks::check::{Level, ModuleCheck, Play, Profile};

/// A check, and how an entry is judged by it; those without are told from all servers.
pub(super) struct Row {
    pub(super) check: &'static ModuleCheck,
    pub(super) act: Option<Act>,
    /// It has nothing to say of what gives no answer when nothing disturbs it.
    pub(super) compares: bool,
}

const APPCTX: &str = "doc/internals/api/appctx.txt; comments of struct cli_kw (include/haproxy/cli-t.h)";

const fn check(
    id: &'static str,
    level: Level,
    statement: &'static str,
    clause: &'static str,
    broken_by: &'static str,
    fix: &'static str,
) -> ModuleCheck {
    let (profile, party, play) = (Profile::Keyword, Party::Handler, Play::Session);
    ModuleCheck { id, level, profile, party, statement, clause, broken_by, fix, play }
}

pub(super) static ANSWERS: ModuleCheck = check(
    "handler.answers",
    Level::Must,
    "A command or a request is answered to its end, a second time, too.",
    "management guide, 9.3; HTTP/1.1, 6.3",
    "a service that fails in the middle of its answer",
    "end what was begun: return 1 from io_handler, send what start_response has announced",
);
static WHOLE: ModuleCheck = check(
    "handler.whole",
    Level::Must,
    "An answer that is read slowly, or through small buffers, is the same, byte for byte, as one that fits.",
    APPCTX,
    "a handler that goes on to the next line although the last one has found no room, or that begins again",
    "when there is no room, return 0, and write the same line at the next call",
);
static AFTER_REFUSED: ModuleCheck = check(
    "handler.after-refused",
    Level::Must,
    "After arguments that are missing, unknown, too many, too long or no numbers the command works as before.",
    "management guide, 9.3",
    "an error path that keeps a lock",
    "give back on the error path what was taken",
);
static LEAVE: ModuleCheck = check(
    "handler.leave",
    Level::Must,
    "A client may leave at any call: the command ends, and the server goes on.",
    APPCTX,
    "a handler that waits, and never looks whether its client is there",
    "look at the flags of the connection when nothing can be written, and return 1 when it is shut",
);
static MEMORY: ModuleCheck = check(
    "handler.memory",
    Level::Must,
    "Commands and requests, complete and aborted, leave no memory behind.",
    APPCTX,
    "memory that is allocated for a command and never freed",
    "free in io_release, or at the end of parse, what was allocated",
);
static LEVEL: ModuleCheck = check(
    "handler.level",
    Level::Should,
    "A command that changes something is refused to clients of level user.",
    "management guide, 9.3, \"user\", \"operator\", \"admin\"",
    "a parse that does not call cli_has_level",
    "begin parse with `if (!cli_has_level(appctx, ACCESS_LVL_OPER)) return 1;`, or give the keyword a level",
);
static DESCRIPTORS: ModuleCheck = check(
    "handler.descriptors",
    Level::Must,
    "Commands and requests, complete and aborted, leave no descriptor open.",
    APPCTX,
    "a file that is opened for a command and never closed",
    "close it in io_release, or at the end of parse; in Lua, close the file before the function ends",
);
static SESSIONS: ModuleCheck = check(
    "handler.sessions",
    Level::Must,
    "Commands and requests, complete and aborted, leave no session behind.",
    "management guide, 9.3, \"show sess\"",
    "a socket of core.tcp() that is connected and never closed",
    "close each socket before the function ends",
);
static PROMPT: ModuleCheck = check(
    "handler.prompt",
    Level::Must,
    "A command is answered in the same way behind another one in its line, and in prompt mode, and the session goes on.",
    "management guide, 9.3, \"prompt\"",
    "a parse that writes to st1, which is the session's own",
    "keep the state of a command in svcctx alone",
);
static MASTER: ModuleCheck = check(
    "handler.master",
    Level::Must,
    "A command is answered in the same way by a worker, and when it comes by a master process.",
    "management guide, 9.4",
    "what is started when the module is loaded (a thread, a connection) and is not there in the worker, which was forked",
    "start it in the worker: at the first command, or in a function for each thread (hap_register_per_thread_init)",
);
static CROWD: ModuleCheck = check(
    "handler.crowd",
    Level::Must,
    "Clients at the same time, on several threads, are all answered, and the server lives.",
    APPCTX,
    "data of the module that all threads change without a lock",
    "take a lock, or keep the data in svcctx; one thread calls a handler while others call it for other clients",
);
static SHARED: ModuleCheck = check(
    "handler.shared",
    Level::Should,
    "Clients at the same time get what one alone gets.",
    APPCTX,
    "the place in an answer, or a buffer, that all clients share; in Lua, a global variable",
    "keep what belongs to an answer in svcctx, or in a local variable",
);
static WITHOUT_MEMORY: ModuleCheck = check(
    "handler.without-memory",
    Level::Must,
    "When the server has no memory for what a handler asks for, the server lives, and later commands are answered.",
    "management guide, 3, \"-dM\"; doc/internals/api/pools.txt",
    "the result of pool_alloc() that is used without a look; an error path that keeps a lock",
    "look at each result of pool_alloc(), and give back on the error path what was taken",
);
static INTEGRITY: ModuleCheck = check(
    "handler.integrity",
    Level::Must,
    "The server's checks of its memory (-dMno-merge,cold-first,integrity, and -dMuaf from 2.8 on) find nothing.",
    "management guide, 3, \"-dM\"",
    "an object of a pool that is written to after it was given back",
    "set pointers to NULL when what they point to is given back",
);
static STOP: ModuleCheck = check(
    "handler.stop",
    Level::Must,
    "Whoever is being answered when the server is told to stop gets the rest of the answer, and then the server ends.",
    "management guide, 4",
    "a handler that ends its answer when the server stops, or waits for ever",
    "go on as before: a server that stops waits for its clients",
);
static RELOAD: ModuleCheck = check(
    "handler.reload",
    Level::Must,
    "Whoever is being answered when the server is reloaded gets the rest, the new process answers in the same way, and the old one ends.",
    "management guide, 4",
    "a file, a lock or an address that the new process cannot have as long as the old one lives",
    "take what there is only once when it is used, and give it back",
);
static HTTP: ModuleCheck = check(
    "handler.http",
    Level::Must,
    "A service answers requests on a connection that is kept, sent ahead, slowly or in chunks as it answers one alone, and is not disturbed by those that are broken off.",
    "HTTP/1.1, 6, 9.3",
    "a service that takes the length of a body from content-length alone",
    "read a body to its end, whatever says where that is",
);
pub(super) static SURVIVES: ModuleCheck = check(
    "handler.survives",
    Level::Must,
    "The server survives whatever its clients do.",
    APPCTX,
    "a handler that follows a pointer that is NULL",
    "look at the core, or start the server below gdb with the line that replays it",
);
pub(super) static LUA_ERROR: ModuleCheck = check(
    "handler.lua-error",
    Level::Must,
    "A function in Lua ends without an error.",
    "Lua API of HAProxy",
    "error(), an operation on nil",
    "look at the file and line that the error names",
);

/// The rows, in the order in which they are played.
pub(super) static ROWS: &[Row] = &[
    played(&ANSWERS, acts::answers),
    comparing(&WHOLE, acts::whole),
    played(&AFTER_REFUSED, acts::after_refused),
    comparing(&PROMPT, acts::prompt),
    comparing(&MASTER, acts::master),
    comparing(&HTTP, acts::http),
    played(&LEAVE, acts::leave),
    comparing(&MEMORY, acts::memory),
    comparing(&DESCRIPTORS, acts::descriptors),
    comparing(&SESSIONS, acts::sessions),
    comparing(&CROWD, acts::crowd),
    comparing(&SHARED, acts::shared),
    comparing(&WITHOUT_MEMORY, acts::without_memory),
    comparing(&INTEGRITY, acts::integrity),
    comparing(&STOP, acts::stop),
    comparing(&RELOAD, acts::reload),
    played(&LEVEL, acts::level),
    Row { check: &SURVIVES, act: None, compares: false },
    Row { check: &LUA_ERROR, act: None, compares: false },
];

/// A row whose check is about what gives no answer, too.
const fn played(check: &'static ModuleCheck, act: Act) -> Row {
    Row { check, act: Some(act), compares: false }
}

const fn comparing(check: &'static ModuleCheck, act: Act) -> Row {
    Row { check, act: Some(act), compares: true }
}

/// All checks of keywords and services.
pub fn all() -> impl Iterator<Item = &'static ModuleCheck> {
    ROWS.iter().map(|row| row.check)
}
