//! HTTP/1.1, as far as a client needs it to ask for a page and to know where an answer ends.

use super::haproxy_cli::{CliClient, CliError};

/// Longest head of an answer: more is no answer of a server that we have started.
const LONGEST_HEAD: usize = 1 << 16;
/// Longest answer, likewise.
const LONGEST_ANSWER: usize = 16 << 20;

/// A request for this page. `last`: the server is to close the connection after its answer.
pub fn get(path: &str, last: bool) -> String {
    let connection = if last { "Connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: layers\r\n{connection}\r\n")
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// The body, put together where it came in chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// Returns status and body, however the body was cut into pieces.
    pub fn told(&self) -> Vec<u8> {
        [format!("{}\n", self.status).as_bytes(), &self.body].concat()
    }
}

/// What has come on a connection and belongs to answers that nobody has asked for yet.
#[derive(Clone, Debug, Default)]
pub struct Http {
    unread: Vec<u8>,
}

impl Http {
    /// Reads the next answer to its end.
    pub fn response(&mut self, client: &mut CliClient) -> Result<Response, CliError> {
        let mut closed = false;
        loop {
            match parse(&self.unread, closed) {
                Parsed::Whole(response, length) => {
                    self.unread.drain(..length);
                    return Ok(response);
                }
                Parsed::Wrong => return Err(CliError::Other("what came is no HTTP/1 answer".to_owned())),
                Parsed::Unfinished if closed => return Err(CliError::Closed),
                Parsed::Unfinished if self.unread.len() > LONGEST_ANSWER => {
                    let bound = LONGEST_ANSWER >> 20;
                    return Err(CliError::Other(format!("the answer is longer than {bound} MiB")));
                }
                Parsed::Unfinished => match client.read_bytes(1) {
                    Ok(bytes) => self.unread.extend(bytes),
                    Err(CliError::Closed) => closed = true,
                    Err(error) => return Err(error),
                },
            }
        }
    }
}

/// The one answer that these bytes are, on a connection that was closed behind them.
pub fn whole(bytes: &[u8]) -> Option<Response> {
    match parse(bytes, true) {
        Parsed::Whole(response, _) => Some(response),
        Parsed::Unfinished | Parsed::Wrong => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// An answer, and its bytes.
    Whole(Response, usize),
    /// More has to come.
    Unfinished,
    /// No answer at all.
    Wrong,
}

/// The first answer in these bytes. `closed`: nothing comes after them.
fn parse(bytes: &[u8], closed: bool) -> Parsed {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
        return if bytes.len() > LONGEST_HEAD { Parsed::Wrong } else { Parsed::Unfinished };
    };
    let (head, body) = bytes.split_at(end + END.len());
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { return Parsed::Wrong };
    let header = |name: &str| {
        let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let whole = |body: &[u8], used: usize| {
        Parsed::Whole(Response { status, body: body.to_vec() }, end + END.len() + used)
    };
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").map(str::parse::<usize>);
    match (status, length) {
        (100..200 | 204 | 304, _) => whole(&[], 0),
        _ if chunked => match chunks(body) {
            Some((joined, used)) => whole(&joined, used),
            None => Parsed::Unfinished,
        },
        (_, Some(Ok(length))) => match body.get(..length) {
            Some(body) => whole(body, length),
            None => Parsed::Unfinished,
        },
        (_, Some(Err(_))) => Parsed::Wrong,
        (_, None) if closed => whole(body, body.len()),
        (_, None) => Parsed::Unfinished,
    }
}

/// The chunks of a body joined, and the bytes that they took; `None` when there are more to come.
fn chunks(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    const LINE: &[u8] = b"\r\n";
    let (mut joined, mut at) = (Vec::new(), 0);
    loop {
        let rest = body.get(at..)?;
        let line = rest.windows(LINE.len()).position(|window| window == LINE)?;
        let size = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        let start = line + LINE.len();
        let end = start.checked_add(size)?;
        joined.extend(rest.get(start..end)?);
        rest.get(end..end + LINE.len())?;
        at += end + LINE.len();
        if size == 0 {
            return Some((joined, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], closed: bool) -> (u16, Vec<u8>, usize) {
        match parse(bytes, closed) {
            Parsed::Whole(response, length) => (response.status, response.body, length),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_with_a_length_ends_after_it() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 ";
        assert_eq!(told(bytes, false), (200, b"abc".into(), 41));
        assert_eq!(parse(&bytes[..40], false), Parsed::Unfinished);
    }

    #[test]
    fn chunks_are_joined() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(told(bytes, false), (200, b"abc0123456789".into(), bytes.len()));
        assert_eq!(parse(&bytes[..bytes.len() - 1], false), Parsed::Unfinished);
    }

    #[test]
    fn without_a_length_the_connection_ends_it() {
        let bytes = b"HTTP/1.0 503 No\r\n\r\nabc";
        assert_eq!(parse(bytes, false), Parsed::Unfinished);
        assert_eq!(told(bytes, true), (503, b"abc".into(), bytes.len()));
        assert_eq!(told(b"HTTP/1.1 304 Not Modified\r\n\r\n", false).0, 304);
    }

    #[test]
    fn anything_else_is_no_answer() {
        assert_eq!(parse(b"abc\r\n\r\n", false), Parsed::Wrong);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", false), Parsed::Wrong);
        assert_eq!(parse(b"", true), Parsed::Unfinished);
    }
}
