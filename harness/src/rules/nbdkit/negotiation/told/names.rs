//! Names and descriptions of exports.

use layers_trace::Callback::{DefaultExport, ExportDescription, Open};
use layers_trace::{Event, Field};

use super::{Told, at_told};
use crate::protocol::info;
use crate::rules::check::{Now, Report, Rule, Said, at, by, enters, quoted, unless};

pub(in super::super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.name.opened",
        statement: "The outermost layer is opened for the export that the client has named.",
        clause: "nbdkit-plugin(3), EXPORT NAME; nbdkit-filter(3), .open",
        antecedent: "an open for a client that has named an export, and an outermost layer that is told the name",
        good: r#"NBD_OPT_GO "b" { L0.open "b" }"#,
        bad: r#"NBD_OPT_GO "b" { L0.open "a" }"#,
        fix: "pass the name of this option, not of an earlier one",
        check: by!(at(enters(&[Open]), opened)),
        ..Rule::REQUIRED.since(1, 15, 2)
    },
    Rule {
        id: "nego.told.name",
        statement: "A client that asks for NBD_INFO_NAME is told the name that it has asked for, or the default export's for the empty one.",
        clause: "nbdkit-protocol(1), NBD_INFO_NAME; nbdkit-plugin(3), .default_export",
        antecedent: "a client that asks for NBD_INFO_NAME and is told of an export",
        good: r#"NBD_OPT_GO "b" types=NAME = 0 info=EXPORT|NAME "b""#,
        bad: r#"NBD_OPT_GO "b" types=NAME = 0 info=EXPORT|NAME "a""#,
        fix: "send the name of the export that this option is about",
        check: by!(at_told(told_name)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
    Rule {
        id: "nego.told.description",
        statement: "A client that asks for NBD_INFO_DESCRIPTION is told what the outermost layer gives for this export, and nothing for NULL.",
        clause: "nbdkit-protocol(1), NBD_INFO_DESCRIPTION; nbdkit-plugin(3) and nbdkit-filter(3), .export_description",
        antecedent: "a client that asks for NBD_INFO_DESCRIPTION and is told of an export",
        good: r#"NBD_OPT_GO "a" types=DESCRIPTION { open prepare queries export_description = "d" } = 0 info=EXPORT|DESCRIPTION description="d""#,
        bad: r#"NBD_OPT_GO "a" types=DESCRIPTION { open prepare queries export_description = "d" } = 0 info=EXPORT|DESCRIPTION description="e""#,
        fix: "send the outermost layer's answer for this handle, and nothing where it is NULL",
        check: by!(at_told(told_description)),
        ..Rule::REQUIRED.since(1, 23, 6)
    },
];

/// Open gets the client's name.
fn opened(now: &Now<'_>, report: &mut Report<'_>) -> Said {
    now.server_call().filter(|_| now.history.is_complete())?;
    let request = now.served()?.selects()?;
    let (asked, opened) = (name(&request.event)?, name(now.event)?);
    // The empty name has a default, which is another rule.
    unless(asked.is_empty())?;
    let expected = format!("L{}.open gets {}", now.event.layer, quoted(asked));
    report.expect(opened == asked, request, expected, quoted(opened))
}

/// The export of this request.
fn name(request: &Event) -> Option<&[u8]> {
    request.text(Field::Export).map(|text| text.bytes.as_slice())
}

/// The name of the export that this request is for, and the event that says so.
fn canonical(now: &Now<'_>, asked: &[u8], request: &Event) -> Option<(Vec<u8>, Event)> {
    if !asked.is_empty() {
        return Some((asked.to_vec(), request.clone()));
    }
    let Some(outermost) = now.history.outermost(DefaultExport) else {
        return Some((Vec::new(), request.clone()));
    };
    let connection = now.client()?.connection?;
    let exit = now.history.connection(connection)?.named(outermost)?;
    Some((name(exit)?.to_vec(), exit.clone()))
}

/// The canonical name.
fn told_name(told: &Told<'_>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let asked = told.request.and_then(name).filter(|_| told.is_asked(info::NAME))?;
    let actual: Vec<&[u8]> = texts(told.reply, Field::Export);
    let said = actual.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let request = told.request.unwrap_or(told.reply);
    if !told.has(info::NAME) || actual.is_empty() {
        let expected = "the client is told the name of the export";
        return report.expect(false, told.request, expected, "it is not");
    }
    let (right, because) = canonical(now, asked, request)?;
    let expected = format!("the client is told the name {}", quoted(&right));
    let holds = actual.iter().all(|name| *name == right);
    report.expect(holds, &because, expected, said)
}

/// All texts of this kind.
pub(super) fn texts(event: &Event, field: Field) -> Vec<&[u8]> {
    event.texts.iter().filter(|text| text.field == field).map(|text| text.bytes.as_slice()).collect()
}

/// The description.
fn told_description(told: &Told<'_>, _: &Now<'_>, report: &mut Report<'_>) -> Said {
    let answer = told.choice.answer(ExportDescription).filter(|_| told.is_asked(info::DESCRIPTION))?;
    let answered = answer.exit.as_ref().filter(|exit| exit.result() != 0);
    let expected = answered.and_then(|exit| exit.text(Field::Description)).map(|text| text.bytes.as_slice());
    unless(answered.is_some() && expected.is_none())?;
    let actual = texts(told.reply, Field::Description);
    let said = |text: Option<&[u8]>| {
        text.map_or("no description".to_owned(), |text| format!("description {}", quoted(text)))
    };
    let holds = match expected {
        Some(expected) => !actual.is_empty() && actual.iter().all(|text| *text == expected),
        None => actual.is_empty(),
    };
    let because = answer.exit.as_ref().unwrap_or(&told.choice.open);
    let wrong = actual.iter().copied().find(|text| Some(*text) != expected);
    report.expect(holds, because, said(expected), said(wrong))
}
