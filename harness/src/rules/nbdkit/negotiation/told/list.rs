//! The list of exports.

use layers_trace::Callback::ListExports;
use layers_trace::{Event, Field, Kind, Operation};

use crate::protocol::is_gone;
use crate::rules::check::{
    Now, PerConnection, Report, Rule, Said, by, exits, given, quoted, remembering, unless,
};

pub(in super::super) const RULES: &[Rule] = &[Rule {
    id: "nego.told.list",
    statement: "A client that lists is told the exports of the outermost layer's list: all of them, in order, with their descriptions.",
    clause: "nbdkit-plugin(3) and nbdkit-filter(3), .list_exports",
    antecedent: "an NBD_OPT_LIST for which the outermost list_exports has succeeded",
    good: r#"NBD_OPT_LIST { L0.list_exports = 0 "a" exports=1 } = 0 "a""#,
    bad: r#"NBD_OPT_LIST { L0.list_exports = 0 "a" exports=1 } = 0 "b""#,
    fix: "send one NBD_REP_SERVER for each entry of the list, and then NBD_REP_ACK",
    check: by!(remembering(exits(&[ListExports]).notes(&[Kind::Reply]), told_list)),
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

/// Exports as findings put them.
fn said(exports: &[Export<'_>]) -> String {
    let said = |(name, description): &Export<'_>| match description.is_empty() {
        true => quoted(name),
        false => format!("{} ({})", quoted(name), quoted(description)),
    };
    let all: Vec<_> = exports.iter().map(said).collect();
    if all.is_empty() { "no export".to_owned() } else { all.join(", ") }
}

/// The list that a client is told is the one that was made for it: the last one of its connection.
fn told_list(made: &mut PerConnection<Event>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let (history, event) = (now.history, now.event);
    if event.kind != Kind::Reply {
        given(history.outermost(ListExports) == Some(event.layer))?;
        let connection = now.call.filter(|call| history.is_for_client(call))?.connection?;
        return made.renew(history, connection, event.clone());
    }
    given(now.is_about(Operation::List) && history.is_complete())?;
    let connection = now.client().filter(|client| !client.pipelines && !client.lost)?.connection?;
    let exit = made.get(connection).filter(|exit| exit.position > event.call && exit.result() == 0)?;
    unless(exit.texts.iter().chain(&event.texts).any(|text| text.cut))?;
    let error = event.errno().cast_signed();
    unless(is_gone(error) || error == libc::ETIMEDOUT)?;
    let (expected, told) = (exports(exit), exports(event));
    if event.result() != 0 {
        let expected = format!("the client is told {}", said(&expected));
        return report.expect(false, exit, expected, "an error");
    }
    // Somebody else's module may have asked for its default export, which comes behind the list that it has made.
    let wrapped = history.is_foreign(event.layer);
    let default = history.connection(connection).and_then(|connection| connection.named(exit.layer));
    let added = default.filter(|_| wrapped).map(exports).unwrap_or_default();
    let extended = [expected.as_slice(), added.as_slice()].concat();
    let whole = told.len() as u64 == exit.b || told.len() as u64 == exit.b + added.len() as u64;
    let same = [&expected, &extended].iter().any(|list| list.iter().take(MOST).eq(told.iter().take(MOST)));
    let expected = format!("{} exports: {}", exit.b, said(&expected));
    report.expect(whole && same, exit, expected, format_args!("{}: {}", told.len(), said(&told)))
}
