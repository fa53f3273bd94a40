//! nbdkit-filter(3), "nbdkit_next": contexts that a filter opens and manages itself.

mod identity;
mod life;
mod owner;
mod ownership;
mod place;
mod reopen;

use layers_trace::Callback::{self, AfterFork, Close, DefaultExport, Finalize, Open};
use layers_trace::Kind;

use crate::rules::check::{Party, Rule, Watch, at, by, enters, enters_where, notes, remembering};
use owner::{by_owner, opens_manual, top_of_manual};

/// The rules of this family, a list for each topic, in the order of the catalogue.
pub const RULES: &[&[Rule]] = &[MANUAL];

const MANUAL: &[Rule] = &[
    Rule {
        id: "manual.life",
        statement: "A filter prepares a context of its own before it uses it, finalizes what is prepared, and closes it once.",
        clause: "nbdkit-filter(3), nbdkit_next and nbdkit_next_context_close",
        antecedent: "a context that a filter has opened itself, and then uses or closes",
        good: "NBD_CMD_READ { L1.pread { L1.context_open { L0.open } = 77 L0.get_size of=2 L0.pread of=2 L0.close of=2 } }",
        bad: "NBD_CMD_READ { L2.pread { L2.context_open { L1.open { L0.open } } = 77 L1.get_size of=2 } }",
        fix: "call next->prepare after nbdkit_next_context_open, and next->finalize before nbdkit_next_context_close",
        check: by!(remembering(
            enters_where(|callback| callback.is_query() || callback.is_data())
                .enters(&[Close])
                .exits(&[Open])
                .notes(&[Kind::Answer]),
            life::Life::see
        )
        .and_end(life::Life::end)),
        ..Rule::REQUIRED.since(1, 25, 4).of(Party::Filter)
    },
    Rule {
        id: "manual.where",
        statement: "A filter opens contexts while it serves a client; shared ones also from after_fork to cleanup. Those that are not shared it uses for that client only.",
        clause: "nbdkit-filter(3), nbdkit_next_context_open and .after_fork",
        antecedent: "a context that a filter opens itself, and each use of one that is not shared",
        good: "NBD_CMD_READ { L1.pread { L1.context_open { L0.open } = 77 L0.close of=2 } }",
        bad: "L0 without=get_ready; L1.get_ready { L0.open }",
        fix: "open shared contexts in after_fork at the earliest, others in callbacks of their connection",
        check: by!(remembering(enters_where(Callback::has_handle).calls(&[Open]), place::Place::see)),
        ..Rule::REQUIRED.since(1, 25, 8).of(Party::Filter)
    },
    Rule {
        id: "manual.nesting-in-after_fork",
        statement: "When a filter opens a context in its after_fork, the after_fork of each layer that is opened has returned.",
        clause: "nbdkit-filter(3), .after_fork",
        antecedent: "an open below a filter that is in its after_fork",
        good: "L0.after_fork L1.after_fork { L0.open }",
        bad: "L1.after_fork { L0.open }",
        also: &["after_fork.inner-to-outer"],
        fix: "run after_fork from the plugin outwards",
        check: by!(remembering(enters(&[Open]).exits(&[AfterFork]), place::in_after_fork)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "manual.nesting-in-cleanup",
        statement: "When a filter closes a context in its cleanup, the layers below have not begun their own cleanup.",
        clause: "nbdkit-filter(3), .cleanup",
        antecedent: "a finalize or close below a filter that is in its cleanup",
        good: "L0.after_fork L1.after_fork { L0.open } SIGTERM L1.cleanup { L0.close }",
        bad: "L0.after_fork L1.after_fork { L0.open } SIGTERM enter L0.cleanup t7: L1.cleanup { L0.close }",
        also: &["lifecycle.cleanup.outer-to-inner", "lifecycle.main-thread"],
        fix: "run cleanup from the outermost layer inwards",
        check: by!(at(enters(&[Finalize, Close]), place::in_cleanup)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "manual.shared-anonymous",
        statement: "In a shared context there is no export name, default_export is not asked, and is_tls is 1 with --tls=require only.",
        clause: "nbdkit-filter(3), nbdkit_next_context_open",
        antecedent: "a reference plugin that asks who its client is when a shared context is opened",
        good: "L0.after_fork L1.after_fork { L0.open { Identity = 0 b=0 } }",
        bad: "L0.after_fork L1.after_fork { L0.open { Identity = 1 b=0 } }",
        fix: "bind a shared context to no connection",
        check: by!(at(notes(&[Kind::Probe]).enters(&[DefaultExport]), identity::anonymous)),
        ..Rule::REQUIRED.since(1, 25, 8)
    },
    Rule {
        id: "manual.reopen",
        statement: "A filter can reopen what is below it during a request: the layers above see nothing of it, and its own handle is finalized and closed later, even if that failed.",
        clause: "nbdkit-filter(3), nbdkit_context_set_next; nbdkit-retry-filter(1)",
        antecedent: "a request in which a filter closes what is below it and opens it again",
        good: "NBD_CMD_READ { L1.pread { L0.close L0.open = NULL } = EIO } = EIO",
        bad: "NBD_CMD_READ { L2.pread { L1.pread { L0.close L2.block_size } } }",
        fix: "keep a filter's handle whatever becomes of the contexts below it",
        check: by!(remembering(Watch::CALLS, reopen::Reopen::see).and_end(reopen::Reopen::end)),
        ..Rule::REQUIRED.since(1, 25, 4)
    },
    Rule {
        id: "manual.set_next.ownership",
        statement: "nbdkit_context_set_next gives back what was associated before, which is the filter's from then on; later callbacks get what is associated now.",
        clause: "nbdkit-filter(3), nbdkit_context_set_next",
        antecedent: "a filter that changes its next, and writes that down",
        good: "NBD_CMD_READ { L1.pread { L1.set_next new=77 = 0xc000 } }",
        bad: "NBD_CMD_READ { L1.pread { L1.set_next new=77 = NULL } }",
        fix: "exchange the pointer in the context and nothing else",
        check: by!(remembering(
            enters_where(Callback::has_handle).notes(&[Kind::Answer]),
            ownership::Ownership::see
        )),
        ..Rule::REQUIRED.since(1, 25, 4)
    },
];
