//! The words of an example, and what some of them stand for.

use layers_trace::{Callback, Operation};

use super::parse::Step;
use crate::history::{FAST_ZERO, FUA, MAY_TRIM, REQ_ONE};
use crate::rules::nbdkit::errno::ERROR_NAMES;

/// What a client does, under the names of the protocol, and what a server does then where all is well (OPEN is `open`, after
/// `default_export` where the client has named nothing).
pub(super) const OPERATIONS: &[(&str, Operation, &str)] = &[
    ("connect", Operation::Connect, "preconnect"),
    ("NBD_OPT_LIST", Operation::List, "list_exports"),
    ("NBD_OPT_INFO", Operation::Info, "OPEN prepare queries finalize close"),
    ("NBD_OPT_GO", Operation::Go, "OPEN prepare queries"),
    ("NBD_OPT_EXPORT_NAME", Operation::ExportName, "OPEN prepare queries"),
    ("NBD_OPT_ABORT", Operation::Abort, ""),
    ("NBD_OPT_STARTTLS", Operation::StartTls, ""),
    ("NBD_OPT_STRUCTURED_REPLY", Operation::StructuredReply, ""),
    ("NBD_OPT_SET_META_CONTEXT", Operation::SetMetaContext, ""),
    ("NBD_OPT_LIST_META_CONTEXT", Operation::ListMetaContext, ""),
    ("NBD_OPT_UNKNOWN", Operation::UnknownOption, ""),
    ("NBD_CMD_READ", Operation::Read, "pread"),
    ("NBD_CMD_WRITE", Operation::Write, "pwrite"),
    ("NBD_CMD_FLUSH", Operation::Flush, "flush"),
    ("NBD_CMD_TRIM", Operation::Trim, "trim"),
    ("NBD_CMD_WRITE_ZEROES", Operation::Zero, "zero"),
    ("NBD_CMD_CACHE", Operation::Cache, "cache"),
    ("NBD_CMD_BLOCK_STATUS", Operation::BlockStatus, "extents"),
    ("NBD_CMD_DISC", Operation::Disconnect, "finalize close"),
    ("NBD_CMD_UNKNOWN", Operation::UnknownCommand, ""),
    ("garbage", Operation::Garbage, ""),
    ("hangup", Operation::Hangup, "finalize close"),
    ("halfclose", Operation::HalfClose, ""),
];

/// Flags of replies and of callbacks, under the names of the protocol and of nbdkit, and what a client can be told of an export.
pub(super) const FLAGS: &[(&str, i64)] = &[
    ("HAS_FLAGS", 1),
    ("READ_ONLY", 1 << 1),
    ("SEND_FLUSH", 1 << 2),
    ("SEND_FUA", 1 << 3),
    ("ROTATIONAL", 1 << 4),
    ("SEND_TRIM", 1 << 5),
    ("SEND_ZERO", 1 << 6),
    ("SEND_DF", 1 << 7),
    ("MULTI_CONN", 1 << 8),
    ("SEND_CACHE", 1 << 10),
    ("SEND_FAST_ZERO", 1 << 11),
    ("EXPORT", 1),
    ("NAME", 1 << 1),
    ("DESCRIPTION", 1 << 2),
    ("BLOCK_SIZE", 1 << 3),
    ("MAY_TRIM", MAY_TRIM as i64),
    ("FUA", FUA as i64),
    ("REQ_ONE", REQ_ONE as i64),
    ("FAST_ZERO", FAST_ZERO as i64),
];

/// Flags of requests.
pub(super) const COMMAND_FLAGS: &[(&str, i64)] =
    &[("FUA", 1), ("NO_HOLE", 2), ("DF", 4), ("REQ_ONE", 8), ("FAST_ZERO", 16)];

/// Returns true if the client chooses an export by this option.
pub(super) fn choice(operation: Operation) -> bool {
    matches!(operation, Operation::Info | Operation::Go | Operation::ExportName)
}

/// Returns the steps that a word stands for.
pub(super) fn expanded(word: &str) -> Option<&'static str> {
    Some(match word {
        "start" => "load config config_complete thread_model get_ready forks after_fork",
        "queries" => {
            "get_size can_write can_zero can_fast_zero can_trim can_fua can_flush is_rotational can_multi_conn \
             can_cache can_extents"
        }
        "stop" => "SIGTERM cleanup unload ends",
        _ => return None,
    })
}

/// Returns what an example leaves out at its beginning: all that must have gone well before its first event.
pub(super) fn understood(steps: &[Step]) -> Vec<Step> {
    let first = steps.first().map_or("", |step| step.head.as_str());
    let name = first.split_once('.').map_or(first, |(_, name)| name);
    let before = match Callback::from_name(name) {
        Some(Callback::Load) => "",
        Some(callback) if !callback.is_connected() => match callback {
            Callback::Unload | Callback::Cleanup => "start",
            Callback::ThreadModel => "load config config_complete",
            Callback::GetReady => "load config config_complete thread_model",
            Callback::AfterFork => "load config config_complete thread_model get_ready forks",
            Callback::ConfigComplete => "load config",
            _ => "load",
        },
        Some(Callback::Preconnect) => "start",
        Some(Callback::ListExports | Callback::DefaultExport | Callback::Open) => "start connect",
        Some(_) => "start connect NBD_OPT_GO",
        None if first == "start" || first == "ends" || first == "fork" => "",
        None if first == "connect" || first == "stop" || first == "SIGTERM" => "start",
        None if first.starts_with("NBD_OPT") || first == "garbage" => "start connect",
        None => "start connect NBD_OPT_GO",
    };
    super::parse::steps(before)
}

/// Returns the number of an error.
pub(super) fn errno(name: &str) -> Option<i32> {
    ERROR_NAMES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}
