//! Hands a connection that has negotiated something over to a client that begins at the beginning.
//!
//! libnbd upgrades to TLS for real, but only as the first thing that it does. So it gets a socket of its own with a
//! greeting in it, its answer to that is dropped, because the server has had one, and from then on the bytes pass.

use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::socket::{Socket, wait_for_either};
use super::{CLIENT_FLAGS, ClientError, Phase, Raw};

impl Raw {
    /// The connection as one on which only the greeting has come.
    pub fn into_fresh(self) -> Result<OwnedFd, ClientError> {
        if self.phase != Phase::Options || !self.asked.is_empty() {
            return Err(ClientError::cannot("only a client that waits for nothing can begin anew"));
        }
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|_| ClientError::Gone)?;
        let server = self.socket;
        let client = Socket::on(far, server.deadline())?;
        // It ends with the connection, and at the deadline at the latest.
        std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                let _ = relay(client, server);
            })
            .map_err(|_| ClientError::Gone)?;
        Ok(near)
    }
}

fn relay(mut client: Socket, mut server: Socket) -> Result<(), ClientError> {
    client.send(b"NBDMAGICIHAVEOPT\0\x03")?;
    if u32::from_be_bytes(client.take()?) != CLIENT_FLAGS {
        return Err(ClientError::cannot("the other client negotiates otherwise"));
    }
    let (mut asks, mut answers) = (true, true);
    loop {
        // More than was taken may have come already: first look, then wait.
        asks = asks && pass(&mut client, &mut server)?;
        answers = answers && pass(&mut server, &mut client)?;
        if !asks && !answers {
            return Ok(());
        }
        wait_for_either(&client, asks, &server, answers, PollFlags::IN)?;
    }
}

/// Passes on what is there; false at the end, which is passed on too.
fn pass(from: &mut Socket, to: &mut Socket) -> Result<bool, ClientError> {
    match from.whatever() {
        Ok(bytes) => to.send(&bytes).map(|()| true),
        Err(ClientError::Gone) => {
            let _ = to.half_close();
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
