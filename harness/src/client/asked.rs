//! What a user has HAProxy asked: a command of its command line, or a request of HTTP, in one line of text.

use std::fmt;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command, as it is typed.
    Command(String),
    /// A request: `GET /path`, or `GET frontend/path`; what stands behind the path is sent as its body.
    Request(HttpRequest),
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` and the like.
    pub method: String,
    /// The frontend that is asked; empty for the first.
    pub frontend: String,
    /// From the slash on.
    pub path: String,
    /// The body; empty for none.
    pub body: String,
}

impl From<&str> for Asked {
    fn from(text: &str) -> Asked {
        HttpRequest::of(text).map_or_else(|| Asked::Command(text.to_owned()), Asked::Request)
    }
}

impl HttpRequest {
    /// The request that a text is; commands have no method in capitals before a path.
    pub fn of(text: &str) -> Option<HttpRequest> {
        let (method, rest) = text.trim().split_once(' ')?;
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let (place, body) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let (frontend, path) = place.split_once('/').filter(|_| is_method)?;
        Some(HttpRequest {
            method: method.to_owned(),
            frontend: frontend.to_owned(),
            path: format!("/{path}"),
            body: body.to_owned(),
        })
    }

    /// As it is sent. `last`: the server is to close the connection after its answer.
    pub fn text(&self, last: bool) -> String {
        let HttpRequest { method, path, body, .. } = self;
        let connection = if last { "Connection: close\r\n" } else { "" };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: layers\r\n{connection}{length}\r\n{body}")
    }
}

impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HttpRequest { method, frontend, path, body } = self;
        write!(f, "{method} {frontend}{path}")?;
        if body.is_empty() { Ok(()) } else { write!(f, " {body}") }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Command(command) => f.write_str(command),
            Asked::Request(request) => request.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_in_capitals_before_a_path_makes_a_request() {
        for text in ["GET /x", "GET web/x", "POST /x a=1 b=2"] {
            assert_eq!(Asked::from(text).to_string(), text);
            assert!(matches!(Asked::from(text), Asked::Request(_)), "{text}");
        }
        for text in ["show info", "get map /etc/map one", "GET", "SHOW INFO", ""] {
            assert_eq!(Asked::from(text), Asked::Command(text.to_owned()));
        }
        let request = HttpRequest::of("POST web/x a=1").unwrap();
        assert_eq!((request.frontend.as_str(), request.path.as_str()), ("web", "/x"));
        assert!(request.text(true).ends_with("Connection: close\r\nContent-Length: 3\r\n\r\na=1"));
    }
}
