//! The oldstyle protocol, in which the server tells what it offers in its greeting, and the client sends requests at once.

use layers_trace::Operation;

use super::super::{Scenario, Step, command, one_of_every_request};
use super::{connect, read};
use crate::client::Command;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    vec![requests(), readonly_write()]
}

fn oldstyle(filters: u8) -> Stack {
    Stack { arguments: vec!["-o".to_owned()], ..Stack::reference(filters) }
}

/// Some server refuses what it has offered: that is what the rules judge, and no departure.
fn requests() -> Scenario {
    // Structured replies cannot be negotiated, and block status needs them.
    let plain: Vec<Command> = one_of_every_request()
        .into_iter()
        .filter(|command| command.operation != Operation::BlockStatus)
        .collect();
    let mut script = vec![Step::ConnectRaw(1), read(1)];
    script.extend(plain.iter().map(|command| Step::Request(1, *command).perhaps()));
    script.extend([read(1), Step::Disconnect(1)]);
    script.extend([connect(2), Step::Offered(2, plain), read(2), Step::Disconnect(2)]);
    let about = "the oldstyle protocol, and one of every request that the server offers";
    Scenario::new("oldstyle/requests", about, oldstyle(1)).script(script).unordered()
}

/// Some server ends here.
fn readonly_write() -> Scenario {
    let stack = Stack { readonly: true, ..oldstyle(1) };
    let write = Step::Request(1, command(Operation::Write, 0, 512, 0));
    let about = "the oldstyle protocol, and a client that writes to a read-only export";
    Scenario::new("oldstyle/readonly-write", about, stack)
        .script([Step::ConnectRaw(1), read(1), write.fails(), read(1), Step::HangUp(1)])
        .unordered()
}
