//! What a configuration and its modules add to a server: what the server lists with them and does not list without.

use std::collections::BTreeSet;

use layers_trace::appctx::{FIRST_APPLET, is_registration};
use layers_trace::{Callback, Field, Reader};

use super::bench::{Bench, Conditions};
use super::subject::HaproxyValidation;
use crate::campaign::select::matches;
use crate::client::asked::{Asked, HttpRequest};
use crate::server::haproxy::HaproxyError;

/// A keyword or a service of the subject, or something else of it that is listed and not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Its words, or its name.
    pub name: String,
    /// It answers HTTP.
    pub service: bool,
    /// It is written in Lua.
    pub lua: bool,
    /// How it is asked; nothing where it cannot be.
    pub asked: Option<Asked>,
    /// Why it is not judged.
    pub unjudged: Option<String>,
    /// It is of a kind that is judged, and nobody has left it out.
    pub is_asked_for: bool,
    /// It has an `io_handler`.
    pub handler: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovered {
    pub(super) entries: Vec<Handler>,
}

/// A registration, as far as it tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Registered {
    words: String,
    applet: bool,
    handler: bool,
    /// It has a parse, a handler and a release, as each command in Lua has.
    full: bool,
}

/// Returns what there is, or why the server does not start with it.
pub(super) fn discover(
    validate: &HaproxyValidation,
    bench: &Bench<'_>,
) -> Result<Result<Discovered, String>, HaproxyError> {
    let bare = match registered(bench, false)? {
        Ok((bare, _)) => bare,
        Err(complaint) => {
            return Ok(Err(format!("the server does not start without it, either: {complaint}")));
        }
    };
    let (all, others) = match registered(bench, true)? {
        Ok(all) => all,
        Err(complaint) => return Ok(Err(complaint)),
    };
    let known: BTreeSet<&str> = bare.iter().map(|one| one.words.as_str()).collect();
    let is_own = |words: &str| words.starts_with("layers ");
    let new = || all.iter().filter(|one| !known.contains(one.words.as_str()) && !is_own(&one.words));
    let mut entries: Vec<Handler> =
        new().filter(|one| !one.applet).map(|one| keyword(validate, one)).collect();
    entries.extend(services(validate));
    entries.extend(
        others
            .unwrapped
            .into_iter()
            .map(|what| unjudged(what, "the instrument cannot wrap it".to_owned(), true)),
    );
    for what in others.in_lua {
        let kind = what.split(" lua.").next().unwrap_or_default().to_owned();
        let is_used = |entry: &Handler| what.strip_prefix("service ") == Some(entry.name.as_str());
        if entries.iter().any(is_used) {
            continue;
        }
        let why = match kind.as_str() {
            "service" => "no rule `use-service` of the configuration names it".to_owned(),
            _ => "the server calls it, and no client can ask for it: it is not judged".to_owned(),
        };
        entries.push(Handler { lua: true, ..unjudged(what, why, false) });
    }
    let mut seen = BTreeSet::new();
    entries.retain(|entry| seen.insert((entry.name.clone(), entry.service)));
    Ok(Ok(Discovered { entries }))
}

/// What is there beside what can be judged.
#[derive(Default)]
struct Others {
    /// What the instrument says that it cannot wrap.
    unwrapped: Vec<String>,
    /// What code in Lua has registered beside commands, each with its kind before its name.
    in_lua: Vec<String>,
}

/// What is registered, and what else there is.
type Found = (Vec<Registered>, Others);

fn registered(bench: &Bench<'_>, with: bool) -> Result<Result<Found, String>, HaproxyError> {
    let conditions = Conditions { bare: !with, tells: with, ..Conditions::default() };
    let server = match bench.start(&conditions)? {
        Ok(server) => server,
        Err(complaint) => return Ok(Err(complaint)),
    };
    let Some(trace) = server.trace() else { return Ok(Err("there is no trace".to_owned())) };
    let (mut all, mut others) = (Vec::new(), Others::default());
    for event in Reader::of(&trace).events().flatten() {
        let text = |field| event.text(field).map(|text| String::from_utf8_lossy(&text.bytes).into_owned());
        if event.probe() == Some(layers_trace::Probe::Unwrapped) {
            others.unwrapped.extend(text(Field::Message));
        }
        if is_registration(&event) && event.c == 0 {
            all.push(Registered {
                words: text(Field::Keyword).unwrap_or_default(),
                applet: event.handle >= u32::from(FIRST_APPLET),
                handler: event.a & Callback::IoHandler.bit() != 0,
                full: [Callback::Parse, Callback::IoHandler, Callback::IoRelease]
                    .iter()
                    .all(|callback| event.a & callback.bit() != 0),
            });
        }
    }
    bench.end(server, &conditions);
    let shown = bench.take_shown();
    others.in_lua = shown.rounds.into_iter().flat_map(|round| round.registered).collect();
    Ok(Ok((all, others)))
}

fn keyword(validate: &HaproxyValidation, registered: &Registered) -> Handler {
    let words = &registered.words;
    let named = validate.keywords.iter().find(|pattern| {
        matches(pattern, words)
            || pattern.strip_prefix(words.as_str()).is_some_and(|rest| rest.starts_with(' '))
    });
    let left_out = named.is_none() && !(validate.keywords.is_empty() && validate.requests.is_empty());
    let command = named.filter(|pattern| pattern.starts_with(words.as_str()) && !pattern.contains('*'));
    Handler {
        name: words.clone(),
        service: false,
        lua: validate.configuration.lua && registered.full,
        asked: (!left_out).then(|| Asked::Command(command.unwrap_or(words).clone())),
        unjudged: left_out.then(|| "left out: --keyword and --request do not name it".to_owned()),
        is_asked_for: !left_out,
        handler: registered.handler,
    }
}

/// The services that rules use, each by the request that is given or that its rule asks for.
fn services(validate: &HaproxyValidation) -> Vec<Handler> {
    let configuration = &validate.configuration;
    let given: Vec<HttpRequest> = validate.requests.iter().filter_map(|text| HttpRequest::of(text)).collect();
    let own = configuration.services.iter().filter(|used| used.service != "prometheus-exporter");
    let entry = |used: &crate::server::haproxy::UsedService| {
        let lua = used.service.starts_with("lua.");
        let is_of = |request: &&HttpRequest| {
            used.path.as_deref().is_none_or(|path| request.path.starts_with(path))
                && (request.frontend.is_empty() || request.frontend == used.section)
        };
        let request = given.iter().find(is_of).cloned().or_else(|| {
            let path = used.path.clone().filter(|_| given.is_empty() && validate.keywords.is_empty())?;
            let frontend = configuration.frontends.iter().find(|one| one.name == used.section);
            let frontend = frontend.map_or_else(String::new, |one| one.name.clone());
            Some(HttpRequest { method: "GET".to_owned(), frontend, path, body: String::new() })
        });
        let left_out = request.is_none() && !(given.is_empty() && validate.keywords.is_empty());
        let reachable =
            request.filter(|request| used.http && configuration.frontend(&request.frontend).is_some());
        let why = match (&reachable, used.http, left_out) {
            (Some(_), ..) => None,
            (None, _, true) => Some("left out: --keyword and --request do not name it"),
            (None, false, _) => Some("it is no service of HTTP"),
            (None, true, _) => Some("what its rule asks for is not known: name a request with --request"),
        };
        Handler {
            name: used.service.clone(),
            service: true,
            lua,
            asked: reachable.map(Asked::Request),
            unjudged: why.map(str::to_owned),
            is_asked_for: !left_out,
            handler: true,
        }
    };
    own.map(entry).collect()
}

fn unjudged(name: String, why: String, is_asked_for: bool) -> Handler {
    Handler {
        name,
        service: false,
        lua: false,
        asked: None,
        unjudged: Some(why),
        is_asked_for,
        handler: false,
    }
}
