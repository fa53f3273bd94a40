//! What the client is told of an export: the transmission flags.

use layers_trace::Callback;

use super::told::Choices;
use crate::history::{History, Layer};
use crate::protocol::transmission::{HAS_FLAGS, MULTI_CONN, READ_ONLY};
use crate::rules::check::{Now, Report, Rule, by, remembering};
use crate::version::Version;

/// The rules of this topic.
pub const RULES: &[Rule] = &[
    Rule {
        id: "nego.multi_conn.gated",
        since: Version(1, 9, 9),
        statement: "Where connections are serialized the client is not told of can_multi_conn, whatever the answer was.",
        clause: "not in the manual",
        antecedent: "thread model 0, an outermost layer that answers 1 to can_multi_conn, and a client",
        good: r#"L1 thread_model=0; NBD_OPT_GO "a" = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|SEND_CACHE|SEND_FAST_ZERO"#,
        bad: r#"L1 thread_model=0; NBD_OPT_GO "a""#,
        fix: "none needed; such a client would wait for itself",
        check: by!(remembering(Choices::WATCH.enters(&[Callback::GetReady]), MultiConnGated::see)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "nego.defaults",
        statement: "Where no layer has a can_* callback or is_rotational, the flags follow from the plugin's data callbacks.",
        clause: "nbdkit-plugin(3), .can_write … .can_cache, each on what happens if it is omitted",
        antecedent: "a query that no layer has, and a client that is told the flags",
        good: r#"L0 without=can_flush; NBD_OPT_GO "a""#,
        bad: r#"L0 without=can_cache; NBD_OPT_GO "a" = 0 flags=HAS_FLAGS|SEND_FLUSH|SEND_FUA|SEND_TRIM|SEND_ZERO|MULTI_CONN|SEND_FAST_ZERO"#,
        fix: "answer for the plugin as its manual says",
        check: by!(remembering(Choices::WATCH, defaults)),
        ..Rule::REQUIRED
    },
];

/// No multi-conn under NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS.
#[derive(Default)]
struct MultiConnGated {
    choices: Choices,
    /// The model in force, as filters were told.
    model: Option<u64>,
}

impl MultiConnGated {
    fn see(&mut self, now: &Now<'_>, report: &mut Report<'_>) {
        if now.event.callback() == Some(Callback::GetReady) {
            if now.event.layer > 0 {
                self.model = Some(now.event.a);
            }
            return;
        }
        let Some(told) = self.choices.see(now).filter(|_| self.model == Some(0)) else { return };
        let outermost = told.choice.answer(Callback::CanMultiConn).and_then(|answer| answer.exit.as_ref());
        if let Some(answer) = outermost.filter(|answer| answer.result() > 0) {
            report.exercised();
            if now.event.b & MULTI_CONN != 0 {
                report.broken([answer, now.event], "no NBD_FLAG_CAN_MULTI_CONN", "the client is told of it");
            }
        }
    }
}

/// A flag, and what it says when nobody answers the query.
struct Default {
    /// Nobody has these.
    absent: &'static [Callback],
    /// Number of the flag.
    bit: u32,
    flag: &'static str,
    /// It is not there when the export is read-only.
    writes: bool,
    expected: fn(&Layer) -> bool,
}

const DEFAULTS: &[Default] = &[
    Default {
        absent: &[Callback::CanFlush],
        bit: 2,
        flag: "NBD_FLAG_SEND_FLUSH",
        writes: false,
        expected: |plugin| plugin.records(Callback::Flush),
    },
    Default {
        absent: &[Callback::CanFua, Callback::CanFlush],
        bit: 3,
        flag: "NBD_FLAG_SEND_FUA",
        writes: true,
        expected: |plugin| plugin.records(Callback::Flush),
    },
    Default {
        absent: &[Callback::IsRotational],
        bit: 4,
        flag: "NBD_FLAG_ROTATIONAL",
        writes: false,
        expected: |_| false,
    },
    Default {
        absent: &[Callback::CanTrim],
        bit: 5,
        flag: "NBD_FLAG_SEND_TRIM",
        writes: true,
        expected: |plugin| plugin.records(Callback::Trim),
    },
    Default {
        absent: &[Callback::CanZero],
        bit: 6,
        flag: "NBD_FLAG_SEND_WRITE_ZEROES",
        writes: true,
        expected: |_| true,
    },
    Default {
        absent: &[Callback::CanMultiConn],
        bit: 8,
        flag: "NBD_FLAG_CAN_MULTI_CONN",
        writes: false,
        expected: |_| false,
    },
    Default {
        absent: &[Callback::CanCache],
        bit: 10,
        flag: "NBD_FLAG_SEND_CACHE",
        writes: false,
        expected: |plugin| plugin.records(Callback::Cache),
    },
    Default {
        absent: &[Callback::CanFastZero, Callback::CanZero],
        bit: 11,
        flag: "NBD_FLAG_SEND_FAST_ZERO",
        writes: true,
        expected: |plugin| !plugin.records(Callback::Zero),
    },
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
    [Callback::PreadV1, Callback::PwriteV1, Callback::FlushV1, Callback::TrimV1, Callback::ZeroV1]
        .iter()
        .any(|callback| plugin.records(*callback))
}

/// The flags follow from which data callbacks there are.
fn defaults(choices: &mut Choices, now: &Now<'_>, report: &mut Report<'_>) {
    let told = choices.see(now).filter(|told| told.reply.b & HAS_FLAGS != 0);
    let Some(choice) = told.map(|told| told.choice) else { return };
    let plugin = now.history.layer(0).filter(|plugin| !is_first_version(plugin));
    let Some(plugin) = plugin else { return };
    let told = |set: bool, flag: &str| format!("{}{flag}", if set { "" } else { "no " });
    let mut readonly = now.event.b & READ_ONLY != 0;
    if nobody_has(now.history, Callback::CanWrite) {
        let expected = !plugin.records(Callback::Pwrite) || choice.readonly;
        report.exercised();
        if expected != readonly {
            const FLAG: &str = "NBD_FLAG_READ_ONLY";
            report.broken([now.event], told(expected, FLAG), told(readonly, FLAG));
            readonly = expected;
        }
    }
    for default in DEFAULTS {
        if default.absent.iter().any(|query| !nobody_has(now.history, *query)) {
            continue;
        }
        report.exercised();
        let expected = (default.expected)(plugin) && !(readonly && default.writes);
        let actual = now.event.b & 1 << default.bit != 0;
        if expected != actual {
            report.broken([now.event], told(expected, default.flag), told(actual, default.flag));
        }
    }
}
