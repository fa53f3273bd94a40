//! The multi-conn promise: a flush on one connection is seen on the others.

use layers_trace::Operation;

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile};
use super::script;
use crate::rules::Party;
use crate::scenario::flag;
use crate::validate::script::claims::{Claims, request};
use crate::validate::script::op::{DiskRequest, Op};

const CLAUSE: &str = "nbdkit-plugin(3), \".can_multi_conn\"";

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "multi-conn.flush",
        level: Level::Must,
        profile: Profile::MultiConn,
        party: Party::Module,
        statement: "What one connection has written and flushed is what another one reads, also where it has read before.",
        clause: CLAUSE,
        broken_by: "a disk or a cache of its own for each connection, and a .can_multi_conn that says yes",
        fix: "share what connections write, or let .can_multi_conn say no",
        play: Play::Stack(|claims| seen(claims, false)),
    },
    ModuleCheck {
        id: "multi-conn.fua",
        level: Level::Must,
        profile: Profile::MultiConn,
        party: Party::Module,
        statement: "What one connection has written with FUA is what another one reads.",
        clause: CLAUSE,
        broken_by: "a cache for each connection that FUA writes do not reach",
        fix: "treat a write with FUA as a write and a flush of its range",
        play: Play::Stack(|claims| seen(claims, true)),
    },
];

fn seen(claims: &Claims, fua: bool) -> Planned {
    claims.is_multi_conn()?;
    claims.writes()?;
    if fua {
        claims.has_fua()?;
    } else {
        claims.flushes()?;
    }
    let by = |client, operation, place| DiskRequest { client, ..request(operation, place) };
    let setup = vec![Op::Connect(2, claims.export.clone())];
    let mut judged = Vec::new();
    for (data, place) in (1..).zip(claims.places()) {
        let (writer, reader) = if data % 2 == 0 { (1, 2) } else { (2, 1) };
        judged.push(Op::Request(by(reader, Operation::Read, place)));
        let flags = if fua { flag::FUA } else { 0 };
        judged.push(Op::Request(DiskRequest { data, flags, ..by(writer, Operation::Write, place) }));
        if !fua {
            judged.push(Op::Request(by(writer, Operation::Flush, (0, 0))));
        }
        judged.push(Op::Share(writer, reader));
        judged.push(Op::Request(by(reader, Operation::Read, place)));
    }
    Ok(vec![CasePlan::new(script(claims, setup, judged))])
}
