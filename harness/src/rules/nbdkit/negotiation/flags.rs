//! What the client is told of an export: the transmission flags.

use layers_trace::Callback::{
    self, Cache, CanCache, CanFastZero, CanFlush, CanFua, CanMultiConn, CanTrim, CanZero, Flush,
    IsRotational, Trim, Zero,
};

use super::told::{Told, at_told};
use crate::history::{History, Layer};
use crate::protocol::transmission::{HAS_FLAGS, MULTI_CONN, READ_ONLY};
use crate::rules::check::{Now, Report, Rule, Said, by, given};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "nego.multi_conn.gated",
        statement: "Where connections are serialized the client is not told of can_multi_conn, whatever the answer was.",
        clause: "not in the manual",
        antecedent: "thread model 0, an outermost layer that answers 1 to can_multi_conn, and a client",
        good: r#"L1 thread_model=0; NBD_OPT_GO "a" = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|SEND_CACHE|SEND_FAST_ZERO"#,
        bad: r#"L1 thread_model=0; NBD_OPT_GO "a""#,
        fix: "none needed; such a client would wait for itself",
        check: by!(at_told(multi_conn_gated)),
        ..Rule::OBSERVED.since(1, 9, 9)
    },
    Rule {
        id: "nego.defaults",
        statement: "Where no layer has a can_* callback or is_rotational, the flags follow from the plugin's data callbacks.",
        clause: "nbdkit-plugin(3), .can_write … .can_cache, each on what happens if it is omitted",
        antecedent: "a query that no layer has, and a client that is told the flags",
        good: r#"L0 without=can_flush; NBD_OPT_GO "a""#,
        bad: r#"L0 without=can_cache; NBD_OPT_GO "a" = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|MULTI_CONN|SEND_FAST_ZERO"#,
        fix: "answer for the plugin as its manual says",
        check: by!(at_told(defaults)),
        ..Rule::REQUIRED
    },
];

/// No multi-conn under NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS, which filters are told is in force.
fn multi_conn_gated(told: &Told<'_>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let mut filters = now.history.first_enters(Callback::GetReady).filter(|enter| enter.layer > 0);
    let answer = told.choice.answer(Callback::CanMultiConn).and_then(|answer| answer.exit.as_ref());
    let answer = answer.filter(|answer| answer.result() > 0)?;
    given(filters.next_back().is_some_and(|enter| enter.a == 0))?;
    let holds = told.reply.b & MULTI_CONN == 0;
    report.expect(holds, answer, "no NBD_FLAG_CAN_MULTI_CONN", "the client is told of it")
}

/// A flag, and what it says when nobody answers the query.
pub(super) struct Default {
    /// Nobody has these; the first is the query that decides about the flag where somebody has it.
    pub(super) absent: &'static [Callback],
    /// Number of the flag.
    pub(super) bit: u32,
    pub(super) flag: &'static str,
    /// It is not there when the export is read-only.
    writes: bool,
    expected: fn(&Layer) -> bool,
}

const fn default(
    absent: &'static [Callback],
    bit: u32,
    flag: &'static str,
    writes: bool,
    expected: fn(&Layer) -> bool,
) -> Default {
    Default { absent, bit, flag, writes, expected }
}

pub(super) const DEFAULTS: &[Default] = &[
    default(&[CanFlush], 2, "NBD_FLAG_SEND_FLUSH", false, |plugin| plugin.records(Flush)),
    default(&[CanFua, CanFlush], 3, "NBD_FLAG_SEND_FUA", true, |plugin| plugin.records(Flush)),
    default(&[IsRotational], 4, "NBD_FLAG_ROTATIONAL", false, |_| false),
    default(&[CanTrim], 5, "NBD_FLAG_SEND_TRIM", true, |plugin| plugin.records(Trim)),
    default(&[CanZero], 6, "NBD_FLAG_SEND_WRITE_ZEROES", true, |_| true),
    default(&[CanMultiConn], 8, "NBD_FLAG_CAN_MULTI_CONN", false, |_| false),
    default(&[CanCache], 10, "NBD_FLAG_SEND_CACHE", false, |plugin| plugin.records(Cache)),
    default(&[CanFastZero, CanZero], 11, "NBD_FLAG_SEND_FAST_ZERO", true, |plugin| !plugin.records(Zero)),
];

/// Nobody answers this.
fn nobody_has(history: &History, query: Callback) -> bool {
    history.outermost(query).is_none()
}

/// The flag that this query decides about is the default, because nobody answers what it depends on.
pub(super) fn is_default(history: &History, query: Callback) -> bool {
    let decides = |default: &&Default| default.absent.first() == Some(&query);
    let first_version = history.layer(0).is_none_or(is_first_version);
    let nobody = |queries: &[Callback]| queries.iter().all(|query| nobody_has(history, *query));
    !first_version
        && DEFAULTS.iter().find(decides).map_or_else(|| nobody(&[query]), |default| nobody(default.absent))
}

/// A plugin of the first version of the interface has other defaults.
fn is_first_version(plugin: &Layer) -> bool {
    use Callback::{FlushV1, PreadV1, PwriteV1, TrimV1, ZeroV1};
    [PreadV1, PwriteV1, FlushV1, TrimV1, ZeroV1].iter().any(|callback| plugin.records(*callback))
}

/// The flags follow from which data callbacks there are.
fn defaults(told: &Told<'_>, now: &Now<'_>, report: &mut Report<'_>) -> Said {
    let plugin = now.history.layer(0).filter(|plugin| !is_first_version(plugin));
    let plugin = plugin.filter(|_| told.reply.b & HAS_FLAGS != 0)?;
    let said = |set: bool, flag: &str| format!("{}{flag}", if set { "" } else { "no " });
    let mut readonly = now.event.b & READ_ONLY != 0;
    if nobody_has(now.history, Callback::CanWrite) {
        let expected = !plugin.records(Callback::Pwrite) || told.choice.readonly;
        report.same((), expected, readonly, |set| said(set, "NBD_FLAG_READ_ONLY"));
        readonly = expected;
    }
    let is_judged = |default: &&Default| default.absent.iter().all(|query| nobody_has(now.history, *query));
    for default in DEFAULTS.iter().filter(is_judged) {
        let expected = (default.expected)(plugin) && !(readonly && default.writes);
        let actual = now.event.b & 1 << default.bit != 0;
        report.same((), expected, actual, |set| said(set, default.flag));
    }
    Some(())
}
