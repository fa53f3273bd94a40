//! One client of a scenario, of either kind: most steps of a script make sense for both.

use super::nbd::NbdClient;
use super::raw::{Message, Raw, info};
use super::{ClientError, Command};
use crate::deadline::Deadline;

/// A client.
#[derive(Debug)]
pub enum Peer {
    /// Over libnbd.
    Nbd(Box<NbdClient>),
    /// One that says what it is told to.
    Raw(Box<Raw>),
}

/// What the raw client asks to be told of an export, where a step does not say.
const INFOS: [u16; 3] = [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE];

impl Peer {
    /// The raw client; nobody else can do what a step wants then.
    pub fn raw(&mut self) -> Result<&mut Raw, ClientError> {
        match self {
            Peer::Raw(raw) => Ok(raw),
            Peer::Nbd(_) => Err(ClientError::cannot("only a raw client can do that")),
        }
    }

    /// The client over libnbd.
    pub fn nbd(&mut self) -> Result<&mut NbdClient, ClientError> {
        match self {
            Peer::Nbd(client) => Ok(client),
            Peer::Raw(_) => Err(ClientError::cannot("a raw client cannot do that")),
        }
    }

    /// The raw client, if it is one.
    pub fn into_raw(self) -> Result<Raw, ClientError> {
        match self {
            Peer::Raw(raw) => Ok(*raw),
            Peer::Nbd(_) => Err(ClientError::cannot("only a raw client can do that")),
        }
    }

    /// NBD_OPT_LIST.
    pub fn list(&mut self) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.list().map(drop),
            Peer::Raw(raw) => raw.say(&[Message::List]),
        }
    }

    /// NBD_OPT_INFO for this export.
    pub fn info(&mut self, export: &str) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.info(export),
            Peer::Raw(raw) => raw.say(&[Message::Info(export.to_owned(), INFOS.to_vec())]),
        }
    }

    /// NBD_OPT_GO for this export.
    pub fn go(&mut self, export: &str) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.go(export),
            Peer::Raw(raw) => raw.say(&[Message::Go(export.to_owned(), INFOS.to_vec())]),
        }
    }

    /// Sends these requests, then waits for all answers.
    pub fn requests(&mut self, commands: &[Command]) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => {
                let sent: Vec<_> = commands.iter().map(|command| client.send(*command)).collect();
                // All answers are waited for, also behind one that is an error.
                let answered: Vec<_> =
                    sent.into_iter().map(|ticket| client.wait(ticket?).map(drop)).collect();
                answered.into_iter().collect()
            }
            Peer::Raw(raw) => {
                raw.say(&commands.iter().map(|command| Message::Request(*command)).collect::<Vec<_>>())
            }
        }
    }

    /// Sends a request, for whose answer nobody waits now.
    pub fn send(&mut self, command: Command) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => {
                let ticket = client.send(command)?;
                client.leave_behind(ticket);
                Ok(())
            }
            Peer::Raw(raw) => raw.send(&[Message::Request(command)]),
        }
    }

    /// Waits for all answers that are still to come.
    pub fn answers(&mut self) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.answers(),
            Peer::Raw(raw) => raw.answers(),
        }
    }

    /// NBD_OPT_ABORT, then waits for the end of the connection.
    pub fn abort(&mut self) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.abort(),
            Peer::Raw(raw) => raw.say(&[Message::Abort]),
        }
    }

    /// NBD_CMD_DISC and the end of this direction of the socket, then waits for the server to close.
    pub fn disconnect(&mut self) -> Result<(), ClientError> {
        match self {
            Peer::Nbd(client) => client.disconnect(),
            Peer::Raw(raw) => raw.disconnect(),
        }
    }

    /// Closes the socket without a word.
    pub fn hang_up(self) {
        match self {
            Peer::Nbd(client) => client.hang_up(),
            Peer::Raw(raw) => raw.hang_up(),
        }
    }

    /// From now on its operations together take no longer than until then.
    pub fn hurry(&mut self, deadline: Deadline) {
        match self {
            Peer::Nbd(client) => client.set_deadline(deadline),
            Peer::Raw(raw) => raw.hurry(deadline),
        }
    }

    /// Says goodbye if the connection takes requests, and else closes the socket.
    pub fn leave(mut self) {
        let ready = match &self {
            Peer::Nbd(client) => client.is_ready(),
            Peer::Raw(raw) => raw.is_ready(),
        };
        if ready {
            let _ = self.disconnect();
        } else {
            self.hang_up();
        }
    }
}
