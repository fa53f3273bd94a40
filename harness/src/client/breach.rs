//! What a client says of a server that breaks the protocol, for the trace.

use layers_trace::record::Record;
use layers_trace::writer::record;
use layers_trace::{Breach, CallId, Field, Kind, Writer};

use super::ClientError;

/// Writes it into the trace, where `error` is one: client `number` has got it while it waited for the reply to `call`.
pub(super) fn note(trace: &Writer, number: u32, call: Option<CallId>, error: &ClientError) {
    if let ClientError::Breach { breach, message } = error {
        note_as(trace, number, call, *breach, message);
    }
}

/// Writes it into the trace.
pub(crate) fn note_as(trace: &Writer, number: u32, call: Option<CallId>, breach: Breach, message: &str) {
    let call = call.filter(|call| *call != CallId::LOST).map_or(u32::MAX, |call| call.0);
    let entry = Record { handle: number, call, ..record(Kind::Breach, 0, breach as u8) };
    trace.note(entry, &[(Field::Message, message.as_bytes())]);
}

/// The error of a client that has got such a thing.
pub(super) fn breach(breach: Breach, message: impl Into<String>) -> ClientError {
    ClientError::Breach { breach, message: message.into() }
}

/// What libnbd complains of, where its complaint is about the bytes that it has got, and not about its own state, the
/// socket, or TLS.
pub(super) fn of_libnbd(message: &str) -> Option<Breach> {
    // Words of libnbd's messages (generator/states-*.c of its source), the particular ones first.
    const WORDS: [(&str, Breach); 21] = [
        ("cookie", Breach::Cookie),
        ("matching handle", Breach::Cookie),
        ("simple reply for read", Breach::Shape),
        ("unexpected structured reply", Breach::Shape),
        ("unexpected simple reply", Breach::Shape),
        ("option reply magic or option", Breach::Option),
        ("option reply type", Breach::Option),
        ("unknown reply from NBD_OPT", Breach::Option),
        ("option reply length", Breach::Message),
        ("NBD_REP_", Breach::Message),
        ("option error string", Breach::Message),
        ("invalid export length", Breach::Message),
        ("magic", Breach::Message),
        ("is not either an oldstyle", Breach::Message),
        ("structured reply", Breach::Chunk),
        ("NBD_REPLY_", Breach::Chunk),
        ("chunk", Breach::Chunk),
        ("error message length", Breach::Chunk),
        ("error payload length", Breach::Chunk),
        ("server reply length", Breach::Chunk),
        ("Protocol error", Breach::Chunk),
    ];
    // libnbd itself, or the machine, has not enough memory.
    if message.contains("alloc") {
        return None;
    }
    WORDS.iter().find(|(words, _)| message.contains(words)).map(|(_, breach)| *breach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libnbd_says_of_the_bytes_is_told_from_what_it_says_of_the_connection() {
        let of = |message: &str| of_libnbd(&format!("nbd_aio_notify_read: {message}"));
        assert_eq!(of("invalid reply magic"), Some(Breach::Message));
        let unknown = "no matching cookie found for server reply, this is probably a bug in the server";
        assert_eq!(of(unknown), Some(Breach::Cookie));
        assert_eq!(of("server sent unexpected simple reply for read"), Some(Breach::Shape));
        assert_eq!(of("server sent unexpected structured reply"), Some(Breach::Shape));
        assert_eq!(of("handshake: invalid option reply magic or option"), Some(Breach::Option));
        assert_eq!(of("handshake: invalid NBD_REP_ACK option reply length"), Some(Breach::Message));
        assert_eq!(of("too short length in NBD_REPLY_TYPE_OFFSET_DATA"), Some(Breach::Chunk));
        assert_eq!(of("range of structured reply is out of bounds, offset=0"), Some(Breach::Chunk));
        assert_eq!(
            of_libnbd("nbd_aio_command_completed: read: command failed: Protocol error"),
            Some(Breach::Chunk)
        );
        for own in [
            "recv: server disconnected unexpectedly",
            "recv: Connection reset by peer",
            "gnutls_handshake: The TLS connection was non-properly terminated.",
            "malloc: Cannot allocate memory",
            "handshake: server has no export named 'a'",
            "read: command failed: Invalid argument",
        ] {
            assert_eq!(of(own), None, "{own}");
        }
    }
}
