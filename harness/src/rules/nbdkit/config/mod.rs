//! nbdkit-plugin(3), `.config` and `.config_complete`: how parameters reach the layers.

mod arguments;
mod complete;
mod failure;
mod order;

use layers_trace::{Callback, Probe};

use super::pass_through::PassThrough;
use super::probe_result::Probed;
use crate::rules::check::all_of::Both;
use crate::rules::check::{Checker, Kind, Party, Rule};
use crate::version::Version;

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "config.outer-to-inner",
        kind: Kind::Required,
        party: Party::Filter,
        since: Version(1, 1, 27),
        statement: "A parameter enters the outermost layer and comes inwards only by each filter's own call of next.",
        clause: "nbdkit-filter(3), Next config, open and close",
        antecedent: "a parameter that reaches a layer below another one with config",
        example: "L0.config, then L1.config",
        fix: "call next from within config only, with the parameter or what it stands for",
        check: Checker::Trace(|| {
            Box::new(Both::new(order::ConfigNests, PassThrough(|callback| callback == Callback::Config)))
        }),
    },
    Rule {
        id: "config.once-per-arg",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "The outermost layer gets each parameter of the command line once, in the order given there.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config",
        antecedent: "a parameter, and a layer with config",
        example: "`a=1 b=2`: L0.config b, L0.config a",
        fix: "walk through the arguments once, from the first to the last, before config_complete",
        check: Checker::Trace(|| Box::new(arguments::OncePerArgument::default())),
    },
    Rule {
        id: "config.phase",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "Parameters are handed out after every layer is loaded and before any layer's config_complete.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config_complete",
        antecedent: "a parameter that reaches a layer with config",
        example: "L0.config_complete L0.config",
        fix: "finish the parameters before calling config_complete",
        check: Checker::Trace(|| Box::new(order::ConfigPhase::default())),
    },
    Rule {
        id: "config.key-value-shape",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "A key begins with a letter and goes on with letters, digits, `.`, `_` and `-`; the value is not NULL.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter that reaches a layer with config",
        example: "L0.config \"1st\" \"x\"",
        fix: "treat an argument whose part before `=` is no key as a bare one",
        check: Checker::Trace(|| Box::new(arguments::KeyAndValue)),
    },
    Rule {
        id: "config.bare-arg",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 7, 0),
        statement: "A bare argument comes under the magic key; without one only the first may be bare, and is `script`.",
        clause: "nbdkit-plugin(3), .magic_config_key",
        antecedent: "an argument without `=` that reaches a layer with config",
        example: "plugin with magic key `file`, argument `disk`: L0.config \"script\" \"disk\"",
        fix: "deliver bare arguments under the plugin's magic_config_key, and refuse what has no key",
        check: Checker::Trace(|| Box::new(arguments::BareArguments::default())),
    },
    Rule {
        id: "config.no-callback-fatal",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "A parameter for a plugin without config ends the process with an error.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a stack in which no layer has config",
        example: "`a=1` for a plugin without config: L0.get_ready",
        fix: "refuse parameters that nobody takes",
        check: Checker::Trace(|| Box::new(failure::NobodyTakesIt::default())),
    },
    Rule {
        id: "config.string-lifetime",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "The key and the value that config got stay as they are until the plugin is unloaded.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a layer with config and cleanup, or a plugin with config and unload",
        example: "L0.config \"a\" \"1\", and in L0.unload the value reads \"2\"",
        fix: "keep the strings of all parameters until the last unload",
        check: Checker::Trace(|| {
            Box::new(Probed::new(&[Probe::ConfigStrings], "keys and values read as when config got them"))
        }),
    },
    Rule {
        id: "config.failure-exits",
        kind: Kind::Observed,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "When a callback of start-up fails the process exits at once, from inside the calls further out.",
        clause: "not in the manual, which calls it an error (nbdkit-plugin(3), .config to .after_fork)",
        antecedent: "a config, config_complete, thread_model, get_ready or after_fork that fails",
        example: "L0.config = -1, L0.config_complete",
        fix: "none needed; modules must cope with both",
        check: Checker::Trace(|| Box::new(failure::FailureExits)),
    },
    Rule {
        id: "config_complete.once-nested",
        kind: Kind::Required,
        party: Party::Server,
        since: Version(1, 1, 27),
        statement: "A serving run completes the configuration of the outermost layer once; inner ones nest in outer ones.",
        clause: "nbdkit-plugin(3), .config_complete; nbdkit-filter(3), Next config, open and close",
        antecedent: "a layer with config_complete, in a run that serves",
        example: "L0.config_complete L0.config_complete",
        fix: "call config_complete of the outermost layer once, after the last parameter, and leave the rest to the filters",
        check: Checker::Trace(|| {
            Box::new(Both::new(
                complete::CompletedOnce::default(),
                PassThrough(|callback| callback == Callback::ConfigComplete),
            ))
        }),
    },
    Rule {
        id: "config_complete.not-in-dump",
        kind: Kind::Forbidden,
        party: Party::Server,
        since: Version(1, 0, 0),
        statement: "`--dump-plugin` does not complete the configuration.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a run with --dump-plugin, and a layer with config_complete",
        example: "L0.load L0.config_complete L0.dump_plugin",
        fix: "leave config_complete out when only information is wanted",
        check: Checker::Trace(|| Box::new(complete::NotInDump)),
    },
];
