//! TLS: libnbd does it as soon as it is connected.

use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use layers_trace::record::Record;
use layers_trace::{CallId, Operation, Writer};

use super::{ClientError, NbdClient, Wishes, check, ffi};
use crate::deadline::Deadline;
use crate::run::credentials::{Credentials, Proof, USER};

impl NbdClient {
    /// It is to complete STARTTLS before anything else.
    pub fn secure(&mut self, credentials: &Credentials) -> Result<(), ClientError> {
        let path =
            |path: PathBuf| CString::new(path.into_os_string().into_vec()).map_err(|_| ClientError::Nul);
        // SAFETY: a live handle, not yet connected.
        check(unsafe { ffi::nbd_set_tls(self.raw(), ffi::TLS_REQUIRE) })?;
        if credentials.proof == Proof::SharedKey {
            let user = CString::new(USER).map_err(|_| ClientError::Nul)?;
            let file = path(credentials.shared_key())?;
            // SAFETY: as above; the strings are NUL-terminated, and libnbd copies them.
            unsafe {
                check(ffi::nbd_set_tls_username(self.raw(), user.as_ptr()))?;
                check(ffi::nbd_set_tls_psk_file(self.raw(), file.as_ptr()))?;
            }
        } else {
            let folder = path(credentials.certificates())?;
            // SAFETY: as above.
            check(unsafe { ffi::nbd_set_tls_certificates(self.raw(), folder.as_ptr()) })?;
        }
        self.secure = true;
        Ok(())
    }

    /// Client `number` goes on with a connection on which only the greeting has come as far as this socket shows, and
    /// completes STARTTLS.
    pub fn take_over(
        number: u32,
        socket: OwnedFd,
        credentials: &Credentials,
        wishes: Wishes,
        trace: Arc<Writer>,
        deadline: Deadline,
    ) -> Result<NbdClient, ClientError> {
        let mut client = NbdClient::new(number, wishes, trace, deadline)?;
        client.secure(credentials)?;
        let upgrade = client.upgrades();
        // SAFETY: a live handle and an open descriptor that is libnbd's from here on.
        let started = unsafe { ffi::nbd_aio_connect_socket(client.raw(), socket.into_raw_fd()) };
        let result = client.connected(started);
        client.upgraded(upgrade, &result);
        client.note_structured_replies(&result);
        result.map(|()| client)
    }

    /// Writes into the trace that it is about to ask for TLS, if it is.
    pub(super) fn upgrades(&self) -> Option<CallId> {
        self.secure.then(|| self.request(Operation::StartTls, Record::default(), &[]))
    }

    /// And what became of it.
    pub(super) fn upgraded(&self, upgrade: Option<CallId>, result: &Result<(), ClientError>) {
        if let Some(call) = upgrade {
            self.reply(Operation::StartTls, call, result, 0, &[]);
        }
    }
}
