//! Strings that the server keeps for a layer.

use layers_trace::Probe;

use crate::rules::check::{Rule, by, probed};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "ptr.exportname.scope",
        statement: "nbdkit_export_name gives the plugin the same name from open through close of a handle.",
        clause: "nbdkit-plugin(3), EXPORT NAME; nbdkit-filter(3), .open",
        antecedent: "a handle of the plugin that is closed",
        good: "NBD_CMD_DISC { L0.close { ExportName } }",
        bad: "NBD_CMD_DISC { L0.close { ExportName = 0 } }",
        fix: "keep the name with the connection's context until its last close has returned",
        check: by!(probed(&[Probe::ExportName], "nbdkit_export_name gives in close what it gave in open",)),
        ..Rule::REQUIRED.since(1, 15, 2)
    },
    Rule {
        id: "ptr.intern.lifetime",
        statement: "A string interned outside connections lasts through unload; one interned in a connection, through close.",
        clause: "nbdkit-plugin(3), STRING LIFETIME",
        antecedent: "a reference plugin that is unloaded, or a handle of its that is closed",
        good: "NBD_CMD_DISC { L0.close { InternedInConnection } }",
        bad: "NBD_CMD_DISC { L0.close { InternedInConnection = 0 } }",
        fix: "free interned strings after the last close, or the last unload, has returned",
        check: by!(probed(
            &[Probe::InternedInConnection, Probe::InternedGlobally],
            "an interned string reads as it did"
        )),
        ..Rule::REQUIRED.since(1, 23, 3)
    },
];
