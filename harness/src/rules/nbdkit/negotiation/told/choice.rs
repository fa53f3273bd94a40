//! The export that a client chooses, and what the outermost layer answers for it.

use layers_trace::Callback::{self, Close, Finalize};
use layers_trace::{Event, Kind, Operation};

use crate::history::{ChainId, Handle, History};
use crate::protocol::info;
use crate::rules::check::{
    Check, Now, PerConnection, Report, Said, Watch, enters, given, remembering, unless,
};

/// An answer of the layers to a query of the server, as it reaches the server.
#[derive(Clone, Debug)]
pub(in super::super) struct Answer {
    /// The query.
    pub(in super::super) query: Callback,
    /// What it comes to, with the defaults where a layer has not the callback; `None` where that is no number.
    pub(in super::super) value: Option<i64>,
    /// The exit that gave it; `None` where it is the server's default.
    pub(in super::super) exit: Option<Event>,
}

/// What the layers have answered of an export that a client has chosen, or asks about.
#[derive(Clone, Debug)]
pub(in super::super) struct Choice {
    pub(in super::super) chain: ChainId,
    /// Enter of the outermost `open`.
    pub(in super::super) open: Event,
    /// A layer was opened read-only.
    pub(in super::super) readonly: bool,
    pub(in super::super) answers: Vec<Answer>,
}

impl Choice {
    pub(in super::super) fn of(history: &History, top: &Handle) -> Choice {
        let own = history.is_servers(top);
        let queries = Callback::NBDKIT.iter().copied().filter(|callback| callback.is_query());
        let answers = queries.filter_map(|query| {
            // What comes from further in may come by way of a context that the server knows nothing of.
            let answering = answering(history, top, query).filter(|by| own || by.layer == top.layer);
            let exit = answering.and_then(|handle| handle.answered(query)).cloned();
            let value = history.offered(top, query).filter(|_| own || exit.is_some());
            given(value.is_some() || exit.is_some() || answering.is_none() && own)?;
            Some(Answer { query, value, exit })
        });
        Choice {
            chain: top.chain,
            open: top.open.clone(),
            readonly: history.chain(top.chain).iter().any(|handle| handle.readonly()),
            answers: answers.collect(),
        }
    }

    /// What they have answered to this query, or the default; `None` where that is unknown.
    pub(in super::super) fn answer(&self, query: Callback) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.query == query)
    }
}

/// The handle whose layer answers this query: the nearest inwards from `top` that has the callback.
fn answering<'h>(history: &'h History, top: &'h Handle, query: Callback) -> Option<&'h Handle> {
    let mut handle = top;
    while !history.records(handle.layer, query) {
        handle = history.below(handle)?;
    }
    Some(handle)
}

/// The choices of all clients. What was answered for NBD_OPT_INFO is kept beyond the end of its handles: the client may
/// write down what it was told later than that.
#[derive(Default)]
pub(in super::super) struct Choices {
    kept: PerConnection<Choice>,
}

/// A reply by which a client is told of an export, and what the layers have answered about that.
pub(in super::super) struct Told<'a> {
    /// The reply.
    pub(in super::super) reply: &'a Event,
    /// The request, where it still waits for the answer.
    pub(in super::super) request: Option<&'a Event>,
    /// The answers.
    pub(in super::super) choice: Choice,
}

impl Told<'_> {
    /// The client has asked for this NBD_INFO type.
    pub(in super::super) fn is_asked(&self, info: u64) -> bool {
        let asks = |request: &&Event| matches!(request.operation(), Some(Operation::Info | Operation::Go));
        self.has(info::EXPORT) && self.request.filter(asks).is_some_and(|request| request.b & info != 0)
    }

    /// The client was told this NBD_INFO type.
    pub(in super::super) fn has(&self, info: u64) -> bool {
        u64::from(self.reply.d) & info != 0
    }
}

/// The operation chooses an export, or asks about one.
fn chooses(event: &Event, oldstyle: bool) -> bool {
    match event.operation() {
        Some(Operation::Info | Operation::Go | Operation::ExportName) => true,
        Some(Operation::Connect) => oldstyle,
        _ => false,
    }
}

impl Choices {
    /// What it needs to see.
    pub(in super::super) const WATCH: Watch = enters(&[Finalize, Close]).notes(&[Kind::Reply]);

    /// What the client is told, where the event is a reply that tells of an export. (Traces of old have no more than the
    /// flags: there [`Told::has`] says no to everything.)
    pub(in super::super) fn see<'a>(&mut self, now: &Now<'a>) -> Option<Told<'a>> {
        if now.event.kind != Kind::Reply {
            self.ends(now);
            return None;
        }
        given(chooses(now.event, now.history.run()?.oldstyle) && now.event.result() == 0)?;
        given(now.history.is_complete())?;
        let client = now.client().filter(|client| !client.pipelines)?;
        let connection = client.connection?;
        let request = client.waits_for(now.event.call).map(|request| &request.event);
        let open = now.history.top(connection).map(|top| Choice::of(now.history, top));
        let choice = [open, self.kept.take(connection)]
            .into_iter()
            .flatten()
            .find(|choice| choice.chain.0 > now.event.call)?;
        Some(Told { reply: now.event, request, choice })
    }

    /// The handles of a choice are about to go.
    fn ends(&mut self, now: &Now<'_>) -> Said {
        let connection = now.connection()?;
        let chain = now.handle.map(|handle| handle.chain);
        let top = now.history.top(connection).filter(|top| Some(top.chain) == chain)?;
        unless(self.kept.get(connection).is_some_and(|choice| choice.chain == top.chain))?;
        self.kept.renew(now.history, connection, Choice::of(now.history, top))
    }
}

/// Judges what each client is told of an export.
pub(in super::super) fn at_told(see: fn(&Told<'_>, &Now<'_>, &mut Report<'_>) -> Said) -> impl Check {
    remembering(Choices::WATCH, move |choices: &mut Choices, now: &Now<'_>, report: &mut Report<'_>| {
        see(&choices.see(now)?, now, report)
    })
}
