//! Who makes a request, and its flags.

use crate::history::{FAST_ZERO, FUA, MAY_TRIM, REQ_ONE, present};
use crate::rules::check::{Now, Party};

/// Who answers for the arguments of this call: the filter that passes it on, or the server where it comes from nowhere
/// else or where it is not the call that the filter above is in (so that the server must have turned one into the other).
pub(super) fn caller(now: &Now<'_>) -> Party {
    let passes_on = now.call.zip(now.parent()).is_some_and(|(call, parent)| {
        parent.layer() > call.layer() && present(parent.callback) == present(call.callback)
    });
    if passes_on { Party::Filter } else { Party::Server }
}

/// NBDKIT_FLAG_* by name.
pub(super) fn flag_names(flags: u32) -> String {
    const NAMES: [(u32, &str); 4] =
        [(MAY_TRIM, "MAY_TRIM"), (FUA, "FUA"), (REQ_ONE, "REQ_ONE"), (FAST_ZERO, "FAST_ZERO")];
    let mut names: Vec<String> =
        NAMES.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| (*name).to_owned()).collect();
    let known = NAMES.iter().fold(0, |set, (flag, _)| set | flag);
    if flags & !known != 0 {
        names.push(format!("{:#x}", flags & !known));
    }
    if names.is_empty() { "no flags".to_owned() } else { names.join(" | ") }
}
