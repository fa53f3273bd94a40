//! TLS: before, at and after the upgrade.

use layers_behaviour::Nullable;
use layers_trace::Operation;

use super::super::{Scenario, Step, command};
use super::{connect, go, info, read, say};
use crate::client::nbd::Wishes;
use crate::client::raw::Message;
use crate::run::Tls;
use crate::run::credentials::Proof;
use crate::run::stack::Stack;

pub(super) fn all() -> Vec<Scenario> {
    vec![
        plain(),
        whole("on", Tls::On),
        whole("require", Tls::Require),
        refused(),
        upgrade(),
        forgets(),
        anew(),
        late(),
        certified("certificate", Proof::ServerCertificate),
        certified("both-certificates", Proof::BothCertificates),
        uncertified(),
    ]
}

/// A plugin whose default export has a name, under `--tls`.
fn stack(tls: Tls) -> Stack {
    let named = |plugin: &mut layers_behaviour::Behaviour| {
        plugin.default_export = Some(Nullable::Text("main".into()));
    };
    Stack { tls, ..Stack::reference(2).with(0, named) }
}

fn plain() -> Scenario {
    Scenario::new("tls/on-plain", "--tls=on, and a client that does without", stack(Tls::On)).script([
        connect(1),
        Step::List(1),
        info(1, "a"),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn whole(name: &str, tls: Tls) -> Scenario {
    Scenario::new(format!("tls/{name}"), "a client that begins with STARTTLS", stack(tls)).script(secure())
}

fn secure() -> [Step; 6] {
    [Step::ConnectTls(1), Step::List(1), info(1, "a"), go(1, ""), read(1), Step::Disconnect(1)]
}

fn certified(name: &str, proof: Proof) -> Scenario {
    let about = match proof {
        Proof::ServerCertificate => "a client that begins with STARTTLS, where the server has a certificate",
        _ => "a client that begins with STARTTLS, where both have certificates",
    };
    let stack = Stack { proof, ..stack(Tls::Require) };
    Scenario::new(format!("tls/{name}"), about, stack).script(secure())
}

/// To the layers this is a client that never gets beyond the greeting.
fn uncertified() -> Scenario {
    let stack = Stack { proof: Proof::NoClientCertificate, ..stack(Tls::Require) };
    Scenario::new("tls/no-certificate", "--tls-verify-peer, and a client without a certificate", stack)
        .script([Step::ConnectTls(1).fails()])
}

/// Only preconnect comes before TLS there.
fn refused() -> Scenario {
    let list = || say(1, [Message::List]).fails();
    Scenario::new("tls/require-plain", "--tls=require, and clients that do without", stack(Tls::Require))
        .script([
            Step::ConnectRaw(1),
            list(),
            info(1, "").fails(),
            go(1, "").fails(),
            say(1, [Message::StructuredReply]).fails(),
            say(1, [contexts()]).fails(),
            say(1, [listed(Vec::new())]).fails(),
            say(1, [listed(vec!["base:allocation".to_owned()])]).fails(),
            say(1, [Message::UnknownOption(1 << 20)]).fails(),
            Step::Abort(1),
            Step::ConnectRaw(2),
            say(2, [Message::ExportName(String::new())]).fails(),
            Step::HangUp(2),
        ])
}

fn upgrade() -> Scenario {
    Scenario::new(
        "tls/upgrade",
        "a client that lists and asks, then completes STARTTLS, and begins anew",
        stack(Tls::On),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::List]),
        info(1, ""),
        Step::StartTls(1, Wishes::default()),
        Step::List(1).perhaps(),
        info(1, ""),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}

fn contexts() -> Message {
    Message::SetMetaContext(String::new(), vec!["base:allocation".to_owned()])
}

fn listed(names: Vec<String>) -> Message {
    Message::ListMetaContext(String::new(), names)
}

/// What it negotiates in the clear does not hold behind STARTTLS.
fn forgets() -> Scenario {
    let wishes = Wishes { structured_replies: false, ..Wishes::default() };
    Scenario::new(
        "tls/forgotten",
        "a client that negotiates in the clear what it does not negotiate behind STARTTLS",
        stack(Tls::On),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        say(1, [contexts()]),
        info(1, ""),
        Step::StartTls(1, wishes),
        info(1, ""),
        go(1, ""),
        Step::Request(1, command(Operation::BlockStatus, 0, 65536, 0)).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

/// It negotiates behind STARTTLS what it has negotiated in the clear, but for the metadata context.
fn anew() -> Scenario {
    let wishes = Wishes { meta_context: false, ..Wishes::default() };
    Scenario::new(
        "tls/negotiated-anew",
        "a client that sets a metadata context in the clear, and behind STARTTLS only structured replies",
        stack(Tls::On),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::StructuredReply]),
        say(1, [contexts()]),
        Step::StartTls(1, wishes),
        go(1, ""),
        Step::Request(1, command(Operation::BlockStatus, 0, 65536, 0)).fails(),
        read(1),
        Step::Disconnect(1),
    ])
}

fn late() -> Scenario {
    Scenario::new(
        "tls/upgrade-required",
        "a client that is refused until it completes STARTTLS",
        stack(Tls::Require),
    )
    .script([
        Step::ConnectRaw(1),
        say(1, [Message::List]).fails(),
        info(1, "a").fails(),
        Step::StartTls(1, Wishes::default()),
        Step::List(1),
        go(1, ""),
        read(1),
        Step::Disconnect(1),
    ])
}
