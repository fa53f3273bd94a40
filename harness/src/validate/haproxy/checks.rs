//! The checks of keywords and services: a row each.

use super::acts::{self, Act};
use crate::rules::Party;
use crate::validate::check::{Level, ModuleCheck, Play, Profile};

/// A check, and how an entry is judged by it; those without are told from all servers.
pub(super) struct Row {
    pub(super) check: &'static ModuleCheck,
    pub(super) act: Option<Act>,
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

static ANSWERS: ModuleCheck = check(
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
    Row { check: &ANSWERS, act: Some(acts::answers) },
    Row { check: &WHOLE, act: Some(acts::whole) },
    Row { check: &AFTER_REFUSED, act: Some(acts::after_refused) },
    Row { check: &LEAVE, act: Some(acts::leave) },
    Row { check: &MEMORY, act: Some(acts::memory) },
    Row { check: &LEVEL, act: Some(acts::level) },
    Row { check: &SURVIVES, act: None },
    Row { check: &LUA_ERROR, act: None },
];

/// All checks of keywords and services.
pub fn all() -> impl Iterator<Item = &'static ModuleCheck> {
    ROWS.iter().map(|row| row.check)
}
