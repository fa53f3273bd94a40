//! How a server, or one connection, ends while others are at work.

mod disconnect;
mod quit;
mod running;
mod single;
mod sleep;
mod stopping;

use layers_trace::{Callback, Kind};

use crate::rules::check::{Checker, Rule, by, enters, enters_where, exits_where, remembering};
use crate::version::Version;
use stopping::{callback_of, request_of, tells_to_stop};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[QUIT, DISCONNECT, END];

const QUIT: &[Rule] = &[
    Rule {
        id: "quit.finish-running",
        statement: "A signal or nbdkit_shutdown interrupts no request that a layer works on: the callback returns, and the client is answered.",
        clause: "nbdkit-plugin(3), SHUTDOWN",
        antecedent: "a signal or nbdkit_shutdown while a request is running whose client waits for the answer",
        good: "send NBD_CMD_READ enter L0.pread SIGTERM exit L0.pread reply NBD_CMD_READ L0.close cleanup unload ends",
        bad: "L0 without=close,cleanup,unload; send NBD_CMD_READ enter L0.pread SIGTERM ends",
        fix: "wait for all requests before ending",
        check: by!(remembering(
            exits_where(layers_trace::Callback::is_data)
                .notes(Kind::Signal)
                .notes(Kind::Probe)
                .notes(Kind::Request)
                .notes(Kind::Reply),
            running::FinishRunning::see
        )
        .and_end(running::FinishRunning::end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "quit.no-new-data",
        since: Version(1, 1, 0),
        statement: "A request that is sent once the server is known to be stopping leads to no callback.",
        clause: "not in the manual, which says that further callbacks may occur",
        antecedent: "a request sent after nbdkit_shutdown, or after the server has refused one because it stops",
        good: r#"NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" NBD_CMD_READ { L0.pread { Shutdown } } c2: NBD_CMD_READ {} = ESHUTDOWN"#,
        bad: r#"NBD_OPT_GO "a" c2: connect c2: NBD_OPT_GO "a" NBD_CMD_READ { L0.pread { Shutdown } } c2: send NBD_CMD_READ c2: L0.pread"#,
        fix: "none needed; a layer that depends on it should refuse requests itself after nbdkit_shutdown",
        check: by!(remembering(
            enters_where(Callback::is_data)
                .exits_where(|_| true)
                .notes(Kind::Probe)
                .notes(Kind::Request)
                .notes(Kind::Reply),
            quit::NoNewData::see
        )),
        ..Rule::OBSERVED
    },
    Rule {
        id: "quit.may-still-negotiate",
        statement: "A client that negotiates while the server is told to stop may still be served: open, prepare, queries and finalize can follow.",
        clause: "nbdkit-plugin(3), SHUTDOWN (further callbacks may occur)",
        antecedent: "a signal during negotiation",
        fix: "expect callbacks up to cleanup",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "quit.waits-for-idle-client",
        since: Version(1, 15, 7),
        statement: "Whether a server that is told to stop waits for a client that stays connected and idle is not said.",
        clause: "nbdkit-plugin(3), SHUTDOWN, which does not say",
        antecedent: "a signal while a client is connected and idle",
        fix: "disconnect clients before or after the signal",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "quit.nanosleep",
        since: Version(1, 13, 9),
        statement: "nbdkit_nanosleep sleeps for as long as it was asked to, and ends early, with an error, when the server is told to stop.",
        clause: "nbdkit-plugin(3), SLEEPING",
        antecedent: "a reference layer that sleeps with nbdkit_nanosleep",
        good: "NBD_CMD_READ { L0.pread { Nanosleep = 1 b=1000 context=1000 } }",
        bad: r#"send NBD_CMD_READ enter L0.pread SIGTERM wait "10" Nanosleep = 1 b=10000000000 context=10000000000"#,
        fix: "wake sleepers when the server is told to stop",
        check: by!(sleep::Nanosleep::default()),
        ..Rule::REQUIRED
    },
];

const DISCONNECT: &[Rule] = &[
    Rule {
        id: "disconnect.soft",
        since: Version(1, 33, 3),
        statement: "After nbdkit_disconnect(0) requests that are running are finished and answered, and what the client sends then leads to no callback.",
        clause: "nbdkit_disconnect(3)",
        antecedent: "nbdkit_disconnect(0) while requests of that client are running, or a request that comes after it",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } NBD_CMD_READ {} = ESHUTDOWN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=0 } } send NBD_CMD_READ L0.pread",
        fix: "refuse further requests of that connection with ESHUTDOWN",
        check: by!(remembering(
            disconnect::WATCHED.enters_where(Callback::is_data).exits_where(|_| true),
            disconnect::Soft::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "disconnect.hard",
        since: Version(1, 33, 3),
        statement: "After nbdkit_disconnect(1) the client gets no answer to what is in flight; callbacks that are running return all the same.",
        clause: "nbdkit_disconnect(3)",
        antecedent: "nbdkit_disconnect(1) while requests of that client are running",
        good: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=1 } } = ENOTCONN",
        bad: "NBD_CMD_WRITE { L0.pwrite { Disconnect b=1 } } = 0",
        fix: "close the socket at once, and the handles when their calls have returned",
        check: by!(remembering(disconnect::WATCHED, disconnect::hard).and_end(disconnect::hard_at_end)),
        ..Rule::REQUIRED
    },
];

const END: &[Rule] = &[
    Rule {
        id: "single.one-connection",
        statement: "With -s the server serves one connection, and then ends by itself, with cleanup and unload.",
        clause: "nbdkit(1), -s",
        antecedent: "a run with -s that no signal ends",
        good: "run start=single; connect NBD_OPT_GO NBD_CMD_DISC cleanup unload ends",
        bad: "run start=single; connect c2: send connect c2: L0.preconnect",
        fix: "serve standard input and output, and end when that connection has ended",
        check: by!(remembering(enters(&[Callback::Preconnect]), single::one_connection)
            .and_end(single::one_connection_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "kill.nothing",
        statement: "After SIGKILL or a crash nothing can be expected of the server.",
        clause: "nbdkit-plugin(3), SHUTDOWN (it is not guaranteed that this can always happen)",
        antecedent: "SIGKILL",
        fix: "keep nothing in memory only that must survive",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
];
