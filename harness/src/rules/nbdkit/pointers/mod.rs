//! Which pointers and strings a layer is given, and how long they stay what they are.

mod backend;
mod context;
mod next;

use layers_trace::{Callback, Kind, Probe};

use super::probe_result::Probed;
use crate::rules::check::{Checker, Party, Rule, at, by, enters, enters_where, remembering};
use crate::version::Version;

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "ptr.backend.stable",
        since: Version(1, 25, 8),
        statement: "A filter sees one and the same backend from after_fork to cleanup, its contexts' backend included.",
        clause: "nbdkit-filter(3), nbdkit_next and nbdkit_context_get_backend",
        antecedent: "a filter that is given a backend twice",
        good: "start connect { L1.preconnect { L0.preconnect } }",
        bad: "start connect { L1.preconnect backend=7 }",
        fix: "give a filter the same nbdkit_backend pointer in all its callbacks",
        check: by!(remembering(
            {
                const GIVEN: &[Callback] = &[
                    Callback::AfterFork,
                    Callback::Preconnect,
                    Callback::ListExports,
                    Callback::DefaultExport,
                    Callback::Open,
                    Callback::Cleanup,
                ];
                enters(GIVEN).notes(Kind::Probe)
            },
            backend::backend_is_stable
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.backend.config-unrelated",
        since: Version(1, 25, 4),
        statement: "What config and config_complete get as nxdata need not be the backend of later callbacks.",
        clause: "nbdkit-filter(3), Next config, open and close",
        antecedent: "a filter with config and after_fork",
        fix: "pass nxdata to next and use it for nothing else",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "ptr.next.stable",
        since: Version(1, 17, 8),
        statement: "A filter that leaves its context alone gets the same next in all callbacks of a handle.",
        clause: "nbdkit-filter(3), nbdkit_next",
        antecedent: "a handle of a filter that opens no contexts of its own, called a second time",
        good: "NBD_CMD_READ { L1.pread { L0.pread } }",
        bad: "NBD_CMD_READ { L1.pread next=7 }",
        fix: "keep one next for each context, from prepare to finalize",
        check: by!(at(enters_where(next::given_next), next::next_is_stable)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.next.null-when-skipped",
        // What the server gives is seen in every trace, what a filter does with it only where it writes that down.
        party: Party::Filter,
        since: Version(1, 25, 4),
        statement: "A filter that has opened nothing below gets NULL as next, and does not use it.",
        clause: "nbdkit-filter(3), nbdkit_context_set_next and Other considerations",
        antecedent: "a filter whose open does not call next, or in which next failed, and whose handle is used",
        good: r#"NBD_OPT_GO "a" { L1.open L1.prepare }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open L1.prepare next=7 }"#,
        fix: "pass NULL until a context is associated",
        check: by!(at(enters_where(next::given_next).notes(Kind::Ask), next::null_when_skipped)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.context.lifetime",
        // Whether the context is there is the server's part, to use it in time the filter's.
        party: Party::Filter,
        since: Version(1, 25, 4),
        statement: "The context given to open stays this handle's own, and answers for its backend, up to its close; a filter uses it no longer.",
        clause: "nbdkit-filter(3), nbdkit_context_get_backend and .open",
        antecedent: "a handle of a filter that is closed, or a second one while it is open",
        good: r#"NBD_OPT_GO "a" { L1.open { L0.open } prepare } c2: connect c2: NBD_OPT_GO "a" { L1.open }"#,
        bad: r#"NBD_OPT_GO "a" { L1.open context=7 { L0.open } prepare } c2: connect c2: NBD_OPT_GO "a" { L1.open context=7 }"#,
        fix: "free a context after the close of its handle has returned",
        check: by!(at(enters(&[Callback::Open]).notes(Kind::Probe).notes(Kind::Ask), context::context_lives)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.handle.identity",
        statement: "A layer gets back the handles that its own open returned: never NULL, never another layer's.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .open",
        antecedent: "a call with a handle",
        good: "NBD_CMD_READ { L0.pread }",
        bad: "NBD_CMD_READ { L0.pread handle=foreign }",
        fix: "keep the handle in the layer's own context",
        check: by!(at(enters_where(Callback::has_handle), context::handle_is_own)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.not-unique",
        statement: "Values of handles, contexts and next may come again, later or in another layer.",
        clause: "nbdkit-plugin(3), .open (NBDKIT_HANDLE_NOT_NEEDED)",
        antecedent: "two handles",
        fix: "tell connections apart by something of your own",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "ptr.exportname.scope",
        since: Version(1, 15, 2),
        statement: "nbdkit_export_name gives the plugin the same name from open through close of a handle.",
        clause: "nbdkit-plugin(3), EXPORT NAME; nbdkit-filter(3), .open",
        antecedent: "a handle of the plugin that is closed",
        good: "NBD_CMD_DISC { L0.close { ExportName } }",
        bad: "NBD_CMD_DISC { L0.close { ExportName = 0 } }",
        fix: "keep the name with the connection's context until its last close has returned",
        check: by!(Probed::new(
            &[Probe::ExportName],
            "nbdkit_export_name gives in close what it gave in open",
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "ptr.intern.lifetime",
        since: Version(1, 23, 3),
        statement: "A string interned outside connections lasts through unload; one interned in a connection, through close.",
        clause: "nbdkit-plugin(3), STRING LIFETIME",
        antecedent: "a reference plugin that is unloaded, or a handle of its that is closed",
        good: "NBD_CMD_DISC { L0.close { InternedInConnection } }",
        bad: "NBD_CMD_DISC { L0.close { InternedInConnection = 0 } }",
        fix: "free interned strings after the last close, or the last unload, has returned",
        check: by!({
            let probes = &[Probe::InternedInConnection, Probe::InternedGlobally];
            Probed::new(probes, "an interned string reads as it did")
        }),
        ..Rule::REQUIRED
    },
];
