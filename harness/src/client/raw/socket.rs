//! A stream socket on which every wait ends at a deadline.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::super::patience::{LOOK, Patience};
use super::ClientError;
use crate::deadline::{Deadline, timespec};

/// Bytes asked for at once.
const CHUNK: usize = 64 << 10;

/// The client's end.
#[derive(Debug)]
pub(super) struct Socket {
    stream: OwnedFd,
    deadline: Deadline,
    patience: Option<Patience>,
    /// What has come and is not yet taken.
    inbox: Vec<u8>,
}

impl Socket {
    pub(super) fn connect(path: &Path, deadline: Deadline) -> Result<Socket, ClientError> {
        let stream = UnixStream::connect(path).map_err(refused)?;
        Socket::on(stream.into(), deadline)
    }

    pub(super) fn on(stream: OwnedFd, deadline: Deadline) -> Result<Socket, ClientError> {
        rustix::io::ioctl_fionbio(&stream, true).map_err(|error| refused(error.into()))?;
        Ok(Socket { stream, deadline, patience: None, inbox: Vec::new() })
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// From now on every wait ends at another deadline.
    pub(super) fn hurry(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// What has come so far, which may be nothing.
    pub(super) fn whatever(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut chunk = [0; CHUNK];
        match recv(&self.stream, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((0, _)) if self.inbox.is_empty() => Err(ClientError::Gone),
            Ok((received, _)) => {
                self.inbox.extend(chunk.iter().take(received));
                Ok(std::mem::take(&mut self.inbox))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(std::mem::take(&mut self.inbox)),
            Err(_) => Err(ClientError::Gone),
        }
    }

    /// From now on nothing is waited for from a server that has nothing to do.
    pub(super) fn be_patient(&mut self, patience: Patience) {
        self.patience = Some(patience);
    }

    /// Bytes that have come and are not yet taken, whether anybody waits for them or not.
    pub(super) fn come(&mut self) -> usize {
        let mut chunk = [0; CHUNK];
        if let Ok((received, _)) = recv(&self.stream, &mut chunk, RecvFlags::DONTWAIT) {
            self.inbox.extend(chunk.iter().take(received));
        }
        self.inbox.len()
    }

    /// Bytes that have been received and are not yet taken.
    pub(super) fn unread(&self) -> usize {
        self.inbox.len()
    }

    /// Everything, in one system call if the kernel takes it so.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            match send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(ClientError::Gone),
            }
        }
        Ok(())
    }

    /// The next bytes, exactly so many.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], ClientError> {
        self.fill(N)?;
        let mut taken = [0; N];
        for (to, from) in taken.iter_mut().zip(self.inbox.drain(..N)) {
            *to = from;
        }
        Ok(taken)
    }

    /// The next bytes, as many as a message says.
    pub(super) fn take_all(&mut self, length: usize) -> Result<Vec<u8>, ClientError> {
        self.fill(length)?;
        Ok(self.inbox.drain(..length).collect())
    }

    fn fill(&mut self, length: usize) -> Result<(), ClientError> {
        while self.inbox.len() < length {
            let mut chunk = [0; CHUNK];
            match recv(&self.stream, &mut chunk, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(ClientError::Gone),
                Ok((received, _)) => self.inbox.extend(chunk.iter().take(received)),
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(ClientError::Gone),
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags) -> Result<(), ClientError> {
        let mut watched = [PollFd::from_borrowed_fd(self.stream.as_fd(), events)];
        if let Some(patience) = &self.patience {
            patience.begin();
        }
        loop {
            let left = self.deadline.left();
            let slice = if self.patience.is_some() { left.min(LOOK) } else { left };
            let given_up = || self.patience.as_ref().is_some_and(Patience::is_over);
            match poll(&mut watched, Some(&timespec(slice))) {
                Ok(0) if self.deadline.passed() || given_up() => return Err(ClientError::Timeout),
                Ok(0) => {}
                Ok(_) | Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(_) => return Err(ClientError::Gone),
            }
        }
    }

    pub(super) fn half_close(&self) -> Result<(), ClientError> {
        shutdown(&self.stream, Shutdown::Write).map_err(|_| ClientError::Gone)
    }
}

/// Waits until one of two sockets, of those that are to be watched, is ready.
pub(super) fn wait_for_either(
    one: &Socket,
    watch_one: bool,
    other: &Socket,
    watch_other: bool,
    events: PollFlags,
) -> Result<(), ClientError> {
    let sockets = [(one, watch_one), (other, watch_other)].into_iter();
    let mut watched: Vec<PollFd<'_>> = sockets
        .filter(|(_, watch)| *watch)
        .map(|(socket, _)| PollFd::from_borrowed_fd(socket.stream.as_fd(), events))
        .collect();
    match poll(&mut watched, Some(&timespec(one.deadline.left()))) {
        Ok(0) => Err(ClientError::Timeout),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(_) => Err(ClientError::Gone),
    }
}

fn refused(error: io::Error) -> ClientError {
    ClientError::Refused {
        message: format!("cannot connect: {error}"),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}
