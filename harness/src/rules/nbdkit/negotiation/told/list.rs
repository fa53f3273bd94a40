//! The list of exports.

use layers_trace::{Callback, Event, Field, Kind, Operation};

use super::quoted;
use crate::history::ConnectionId;
use crate::protocol::is_gone;
use crate::rules::check::{Now, Report, Rule, by, exits, remembering};

/// The rules of this topic.
pub const RULES: &[Rule] = &[Rule {
    id: "nego.told.list",
    statement: "A client that lists is told the exports of the outermost layer's list: all of them, in order, with their descriptions.",
    clause: "nbdkit-plugin(3) and nbdkit-filter(3), .list_exports",
    antecedent: "an NBD_OPT_LIST for which the outermost list_exports has succeeded",
    good: r#"NBD_OPT_LIST { L0.list_exports = 0 "a" exports=1 } = 0 "a""#,
    bad: r#"NBD_OPT_LIST { L0.list_exports = 0 "a" exports=1 } = 0 "b""#,
    fix: "send one NBD_REP_SERVER for each entry of the list, and then NBD_REP_ACK",
    check: by!(remembering(exits(&[Callback::ListExports]).notes(Kind::Reply), told_list)),
    ..Rule::REQUIRED.since(1, 23, 6)
}];

/// Names that the instrument records of one list at most.
const MOST: usize = 32;

/// A name and a description.
type Export<'a> = (&'a [u8], &'a [u8]);

/// The exports in the texts of an event: names, each with its description behind it where it has one.
fn exports(event: &Event) -> Vec<Export<'_>> {
    let mut exports: Vec<Export<'_>> = Vec::new();
    for text in &event.texts {
        match (text.field, exports.last_mut()) {
            (Field::Export, _) => exports.push((&text.bytes, &[])),
            (Field::Description, Some(last)) => last.1 = &text.bytes,
            _ => {}
        }
    }
    exports
}

/// The list that was made last for each connection.
type Made = Vec<(ConnectionId, Event)>;

/// The list that a client is told is the one that was made for it.
fn told_list(made: &mut Made, now: &Now<'_>, report: &mut Report<'_>) {
    let (history, event) = (now.history, now.event);
    if event.kind != Kind::Reply {
        let outermost = history.outermost(Callback::ListExports) == Some(event.layer);
        let call = now.call.filter(|call| outermost && history.is_for_client(call));
        if let Some(id) = call.and_then(|call| call.connection) {
            made.retain(|(other, _)| *other != id && history.connection(*other).is_some());
            made.push((id, event.clone()));
        }
        return;
    }
    if event.operation() != Some(Operation::List) || !history.is_complete() {
        return;
    }
    let client = history.client(event.handle).filter(|client| !client.pipelines && !client.lost);
    let Some(connection) = client.and_then(|client| client.connection) else { return };
    let made = made.iter().find(|(id, _)| *id == connection).map(|(_, exit)| exit);
    let Some(exit) = made.filter(|exit| exit.position > event.call && exit.result() == 0) else { return };
    if exit.texts.iter().chain(&event.texts).any(|text| text.cut) {
        return;
    }
    let error = event.errno().cast_signed();
    if is_gone(error) || error == libc::ETIMEDOUT {
        return;
    }
    let said = |exports: &[Export<'_>]| {
        let all: Vec<_> = exports
            .iter()
            .map(|(name, description)| match description.is_empty() {
                true => quoted(name),
                false => format!("{} ({})", quoted(name), quoted(description)),
            })
            .collect();
        if all.is_empty() { "no export".to_owned() } else { all.join(", ") }
    };
    let (expected, told) = (exports(exit), exports(event));
    if event.result() != 0 {
        let expected = format!("the client is told {}", said(&expected));
        return report.expect(false, [exit, event], expected, "an error");
    }
    // Somebody else's module may have asked for its default export, which comes behind the list that it has made.
    let wrapped = history.layer(event.layer).is_some_and(|layer| layer.target.is_some());
    let default = history.connection(connection).and_then(|connection| connection.named(exit.layer));
    let added = default.filter(|_| wrapped).map(exports).unwrap_or_default();
    let extended = [expected.as_slice(), added.as_slice()].concat();
    let whole = told.len() as u64 == exit.b || told.len() as u64 == exit.b + added.len() as u64;
    let same = [&expected, &extended].iter().any(|list| list.iter().take(MOST).eq(told.iter().take(MOST)));
    report.expect(
        whole && same,
        [exit, event],
        format!("{} exports: {}", exit.b, said(&expected)),
        format!("{}: {}", told.len(), said(&told)),
    );
}
