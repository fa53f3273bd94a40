//! Error numbers, and the requests that are answered with one.

use layers_trace::{Event, Operation};

use crate::history::{Client, Handle, Request};
use crate::rules::check::Now;

/// Those of the protocol's errors that may stand for any other error.
pub(super) const ORDINARY: &[i32] = &[libc::EPERM, libc::EIO, libc::ENOMEM, libc::EINVAL, libc::ENOSPC];

/// A request that the server itself answers with this event, with the outermost handle of its connection; not one of
/// several that are alike.
pub(super) struct Answered<'a> {
    pub(super) client: &'a Client,
    pub(super) request: &'a Request,
    pub(super) top: &'a Handle,
    pub(super) reply: &'a Event,
}

impl<'a> Answered<'a> {
    pub(super) fn by(now: &Now<'a>) -> Option<Answered<'a>> {
        let reply = now.event;
        reply.speaker()?;
        let client = now.history.client(reply.handle)?;
        let request = client.waits_for(reply.call)?;
        let is_data = request.operation.is_data() || request.operation == Operation::UnknownCommand;
        let certain = is_data && !client.is_ambiguous(request) && request.made.is_whole();
        let top = now.history.top(client.connection?)?;
        certain.then_some(Answered { client, request, top, reply })
    }

    /// The number in the reply; `None` for success.
    pub(super) fn error(&self) -> Option<i32> {
        (self.reply.result() < 0).then(|| self.reply.errno().cast_signed())
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.request.event.flags() & flag != 0
    }
}

/// Error numbers by name.
pub(crate) const ERROR_NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::EBADF, "EBADF"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EOVERFLOW, "EOVERFLOW"),
    (libc::ENOTSUP, "ENOTSUP"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::ESHUTDOWN, "ESHUTDOWN"),
    (libc::EROFS, "EROFS"),
    (libc::EDQUOT, "EDQUOT"),
    (libc::EFBIG, "EFBIG"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::EPIPE, "EPIPE"),
];

/// An error number by name.
pub(super) fn name(error: i32) -> String {
    let known = ERROR_NAMES.iter().find(|(number, _)| *number == error);
    known.map_or_else(|| format!("error {error}"), |(_, name)| (*name).to_owned())
}

pub(super) fn names(errors: &[i32]) -> String {
    errors.iter().map(|error| name(*error)).collect::<Vec<_>>().join(" or ")
}

/// What the client is told.
pub(super) fn told(error: Option<i32>) -> String {
    error.map_or("success".to_owned(), name)
}
