//! A client of HTTP that makes use of what HTTP/1.1 allows.

use std::time::Duration;

use super::super::bench::{Bench, Conditions};
use super::super::discovery::Handler;
use super::super::said::Said;
use super::common::{Undisturbed, asked, on_server};
use crate::client::asked::{Asked, HttpRequest};
use crate::client::haproxy_cli::CliError;
use crate::client::http::Http;
use crate::deadline::Deadline;
use crate::server::haproxy::asking::{Answered, difference};
use crate::server::haproxy::{HaproxyError, HaproxyServer};

const IDLE: Duration = Duration::from_millis(100);
/// A body, and the length of one that never comes whole.
const BODY: &str = "the body of a request";
const LONGER: usize = 1000;

/// Requests on one connection, sent ahead, slowly, in chunks, and broken off.
pub(in super::super) fn http(bench: &Bench<'_>, entry: &Handler) -> Result<Said, HaproxyError> {
    let asked = asked(entry);
    let Asked::Request(request) = &asked else {
        return Ok(Said::Unfit("a command is not asked over HTTP".to_owned()));
    };
    on_server(bench, &Conditions::default(), |server| {
        let alone = match Undisturbed::of(bench, server, &asked) {
            Ok(alone) => alone,
            Err(said) => return said,
        };
        let text = request.text(false);
        let slow: Vec<&str> = pieces(&text);
        let ways: [(&str, Vec<&str>, usize); 3] = [
            ("on a connection that is kept, again and again,", vec![&text, &text, &text], 3),
            ("twice, the second time before the first answer,", vec![], 2),
            ("that comes in pieces", slow, 1),
        ];
        let twice = text.repeat(2);
        for (how, sent, answers) in ways {
            let sent = if sent.is_empty() { vec![twice.as_str()] } else { sent };
            let one_by_one = answers == sent.len();
            let expected = alone.expected(&asked, how);
            match converse(bench, server, &asked, &sent, answers, one_by_one) {
                Ok(all) => {
                    let wrong = all.iter().find_map(|bytes| alone.differs(&Answered::Whole(bytes.clone())));
                    if let Some(actual) = wrong {
                        return Said::broken(expected, actual);
                    }
                }
                Err(CliError::Closed) => return Said::broken(expected, "the connection is closed before it"),
                Err(error) => return Said::broken(expected, error.to_string()),
            }
        }
        bodies(bench, server, request).unwrap_or_else(|| aborted(bench, server, request, &alone))
    })
}

/// The request in three pieces, none of which is empty.
fn pieces(text: &str) -> Vec<&str> {
    let third = text.len() / 3;
    let (first, rest) = text.split_at(third);
    let (second, third) = rest.split_at(third);
    vec![first, second, third]
}

/// Sends these one after another, and reads so many answers: one behind each, or all at the end.
fn converse(
    bench: &Bench<'_>,
    server: &mut HaproxyServer,
    asked: &Asked,
    sent: &[&str],
    answers: usize,
    one_by_one: bool,
) -> Result<Vec<Vec<u8>>, CliError> {
    let mut client = bench.connect(server, asked, "")?;
    let (mut http, mut all) = (Http::default(), Vec::new());
    for text in sent {
        client.send(text.as_bytes())?;
        if one_by_one {
            all.push(http.response(&mut client)?.told());
        } else {
            server.wait_idle(Deadline::after(IDLE));
        }
    }
    while all.len() < answers {
        all.push(http.response(&mut client)?.told());
    }
    client.hang_up();
    Ok(all)
}

/// Returns what is said because a body is taken otherwise in chunks than with its length before it.
fn bodies(bench: &Bench<'_>, server: &mut HaproxyServer, request: &HttpRequest) -> Option<Said> {
    let post = HttpRequest { method: "POST".to_owned(), body: BODY.to_owned(), ..request.clone() };
    let asked = Asked::Request(post.clone());
    let alone = Undisturbed::of(bench, server, &asked).ok().filter(|alone| alone.stable)?;
    let (one, other) = BODY.split_at(BODY.len() / 2);
    let chunks: String =
        [one, other, ""].iter().map(|part| format!("{:x}\r\n{part}\r\n", part.len())).collect();
    let path = &post.path;
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: layers\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    );
    let answered = bench.ask_text(server, &asked, &text);
    let expected = format!("the same answer to `{asked}` when its body comes in chunks");
    match answered {
        Answered::Whole(bytes) if bytes == alone.answer => None,
        Answered::Whole(bytes) => Some(Said::broken(expected, difference(&alone.answer, &bytes))),
        other => Some(Said::broken(expected, other.said())),
    }
}

/// A client that leaves in the middle of its body.
fn aborted(
    bench: &Bench<'_>,
    server: &mut HaproxyServer,
    request: &HttpRequest,
    alone: &Undisturbed,
) -> Said {
    let asked = Asked::Request(request.clone());
    let path = &request.path;
    for _ in 0..3 {
        let Ok(mut client) = bench.connect(server, &asked, "") else { continue };
        let text = format!("POST {path} HTTP/1.1\r\nHost: layers\r\nContent-Length: {LONGER}\r\n\r\n{BODY}");
        let _ = client.send(text.as_bytes());
        server.wait_idle(Deadline::after(IDLE));
        client.hang_up();
    }
    let answered = bench.ask(server, &asked);
    match alone.differs(&answered) {
        None => Said::Holds,
        Some(actual) => Said::broken(
            alone.expected(&asked, "after clients that have left in the middle of a body"),
            actual,
        ),
    }
}
