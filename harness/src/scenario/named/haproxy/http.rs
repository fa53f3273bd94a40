//! Applets behind HTTP: pages that are read, half read, not read, and asked for twice.

use super::super::super::Scenario;
use super::super::super::session::{SessionStep, Socket};
use super::{CACHED, CONTEXTS, PLAIN, SERVICE, SMALL, session, with};
use crate::client::http::get;

/// Name, configuration, the one with small buffers, and path.
const PAGES: &[(&str, &str, &str, &str)] = &[
    ("stats", PLAIN, SMALL, "/stats"),
    ("stats-csv", PLAIN, SMALL, "/stats;csv"),
    ("metrics", PLAIN, SMALL, "/metrics"),
    ("cache", CACHED, CACHED, "/page"),
    ("service", SERVICE, SERVICE, "/service"),
];

/// Requests that a client sends without reading: more than fits into what lies between.
const MANY: usize = 30;

pub(super) fn all() -> Vec<Scenario> {
    let mut all: Vec<Scenario> =
        PAGES.iter().flat_map(|(name, plain, small, path)| of_page(name, plain, small, path)).collect();
    let failing = session("http/failing-init", "a service whose init fails", {
        vec![
            SessionStep::Connect(1, Socket::Http),
            SessionStep::Send(1, get("/failing", true)),
            SessionStep::ReadToEnd(1),
        ]
    });
    all.push(with(failing, |session| session.configuration = SERVICE));
    // The head of its page does not fit into the small buffers of 2.2, which then answers nothing.
    let small_stats = ["early-close", "unread", "leave"].map(|how| format!("http/stats/{how}"));
    for scenario in all.iter_mut().filter(|scenario| small_stats.contains(&scenario.name)) {
        scenario.session.iter_mut().for_each(|session| session.since = CONTEXTS);
    }
    all.into_iter().map(Scenario::unordered).collect()
}

fn of_page(name: &str, plain: &'static str, small: &'static str, path: &str) -> Vec<Scenario> {
    let connect = || SessionStep::Connect(1, Socket::Http);
    let ask = |last: bool| SessionStep::Send(1, get(path, last));
    let make = |how: &str, about: &'static str, configuration: &'static str, steps: Vec<SessionStep>| {
        // The cache has the page from the first time on.
        let before = [SessionStep::Connect(9, Socket::Http), SessionStep::Send(9, get(path, false))];
        let known = before.into_iter().chain([SessionStep::Response(9, 200), SessionStep::HangUp(9)]);
        let steps = known.chain(steps).collect();
        with(session(format!("http/{name}/{how}"), about, steps), |session| {
            session.configuration = configuration
        })
    };
    let many: String = (0..MANY).map(|_| get(path, false)).collect();
    vec![
        make("full", "an applet's answer, read to its end, twice on one connection", plain, {
            vec![
                connect(),
                ask(false),
                SessionStep::Response(1, 200),
                ask(true),
                SessionStep::Response(1, 200),
                SessionStep::ReadToEnd(1),
            ]
        }),
        make("early-close", "an applet's answer, of which the client reads the beginning", small, {
            vec![connect(), ask(true), SessionStep::ReadBytes(1, 100), SessionStep::HangUp(1)]
        }),
        make("pipelined", "two requests at once", plain, {
            vec![
                connect(),
                SessionStep::Send(1, get(path, false) + &get(path, true)),
                SessionStep::Response(1, 200),
                SessionStep::Response(1, 200),
                SessionStep::ReadToEnd(1),
            ]
        }),
        make("unread", "many requests of a client that reads nothing, and leaves", small, {
            vec![connect(), SessionStep::Send(1, many), SessionStep::Idle, SessionStep::HangUp(1)]
        }),
        make("half-close", "a client that says nothing more while it is answered", plain, {
            vec![connect(), ask(true), SessionStep::HalfClose(1), SessionStep::ReadToEnd(1)]
        }),
        make("leave", "a client that leaves at each call of an applet that waits", small, {
            vec![SessionStep::LeaveAtEveryCall(Socket::Http, get(path, true))]
        }),
    ]
}
