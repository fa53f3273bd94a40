//! nbdkit-plugin(3), `.config` and `.config_complete`: how parameters reach the layers.

mod arguments;
mod complete;
mod failure;
mod order;

use layers_trace::Callback::{Config, ConfigComplete, Load, Unload};
use layers_trace::Probe;

use super::order::inwards;
use super::pass_through::passed_through;
use crate::rules::check::{Party, Rule, at, by, calls, enters, enters_where, probed, remembering};

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "config.outer-to-inner",
        statement: "A parameter enters the outermost layer and comes inwards only by each filter's own call of next.",
        clause: "nbdkit-filter(3), Next config, open and close",
        antecedent: "a parameter that reaches a layer below another one with config",
        good: r#"run parameter="a=1"; L1.config "a" "1" { L0.config "a" "1" }"#,
        bad: r#"run parameter="a=1"; L1.config "a" "1"; L0.config "a" "1""#,
        fix: "call next from within config only, with the parameter or what it stands for",
        check: by!(passed_through(calls(&[Config]), at(enters(&[Config]), inwards))),
        ..Rule::REQUIRED.since(1, 1, 27).of(Party::Filter)
    },
    Rule {
        id: "config.once-per-arg",
        statement: "The outermost layer gets each parameter of the command line once, in the order given there.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config",
        antecedent: "a parameter, and a layer with config",
        good: r#"run parameter="a=1" parameter="b=2"; load L0.config "a" "1" L0.config "b" "2""#,
        bad: r#"run parameter="a=1" parameter="b=2"; load L0.config "b" "2""#,
        fix: "walk through the arguments once, from the first to the last, before config_complete",
        check: by!(remembering(
            enters(&[Config]).enters(arguments::AFTER_CONFIG),
            arguments::OncePerArgument::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.phase",
        statement: "Parameters are handed out after every layer is loaded and before any layer's config_complete.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .config_complete",
        antecedent: "a parameter that reaches a layer with config",
        good: r#"run parameter="a=1"; config config_complete"#,
        bad: r#"config_complete L0.config "a" "1""#,
        fix: "finish the parameters before calling config_complete",
        check: by!(at(enters(&[Load, Config, ConfigComplete]), order::in_its_phase)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.key-value-shape",
        statement: "A key begins with a letter and goes on with letters, digits, `.`, `_` and `-`; the value is not NULL.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter that reaches a layer with config",
        good: r#"run parameter="a=1"; L0.config "a" "1""#,
        bad: r#"run parameter="1st=x"; L0.config "1st" "1st=x""#,
        also: &["config.bare-arg"],
        fix: "treat an argument whose part before `=` is no key as a bare one",
        check: by!(at(enters(&[Config]), arguments::key_and_value)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.bare-arg",
        statement: "A bare argument comes under the magic key; without one only the first may be bare, and is `script`.",
        clause: "nbdkit-plugin(3), .magic_config_key",
        antecedent: "an argument without `=` that reaches a layer with config",
        good: r#"L0 magic="file"; run parameter="disk"; L0.config "file" "disk""#,
        bad: r#"L0 magic="file"; run parameter="disk"; L0.config "script" "disk""#,
        fix: "deliver bare arguments under the plugin's magic_config_key, and refuse what has no key",
        check: by!(remembering(enters(&[Config]), arguments::BareArguments::see)),
        ..Rule::REQUIRED.since(1, 7, 0)
    },
    Rule {
        id: "config.no-callback-fatal",
        statement: "A parameter for a plugin without config ends the process with an error.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a stack in which no layer has config",
        good: r#"L0 without=config; run parameter="a=1"; load unload ends = 1"#,
        bad: r#"L0 without=config; run parameter="a=1"; load config_complete"#,
        fix: "refuse parameters that nobody takes",
        check: by!(remembering(
            enters_where(|callback| { !matches!(callback, Load | Config | Unload) && !callback.is_data() }),
            failure::nobody_takes_it
        )
        .and_end(failure::nobody_takes_it_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.string-lifetime",
        statement: "The key and the value that config got stay as they are until the plugin is unloaded.",
        clause: "nbdkit-plugin(3), .config",
        antecedent: "a parameter, and a layer with config and cleanup, or a plugin with config and unload",
        good: "L0.unload { ConfigStrings }",
        bad: "L0.unload { ConfigStrings = 0 }",
        fix: "keep the strings of all parameters until the last unload",
        check: by!(probed(&[Probe::ConfigStrings], "keys and values read as when config got them")),
        ..Rule::REQUIRED
    },
    Rule {
        id: "config.failure-exits",
        statement: "When a callback of start-up fails the process exits at once, from inside the calls further out.",
        clause: "not in the manual, which calls it an error (nbdkit-plugin(3), .config to .after_fork)",
        antecedent: "a config, config_complete, thread_model, get_ready or after_fork that fails",
        good: r#"run parameter="a=1"; L0.config "a" "1" = -1 ends = 1"#,
        bad: r#"run parameter="a=1"; L0.config "a" "1" = -1 L0.config_complete"#,
        fix: "none needed; modules must cope with both",
        check: by!(at(
            enters_where(|callback| !callback.is_data()).exits(&[Config, ConfigComplete]),
            failure::failure_exits
        )
        .and_end(failure::failure_exits_at_end)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "config_complete.once-nested",
        statement: "A serving run completes the configuration of the outermost layer once; inner ones nest in outer ones.",
        clause: "nbdkit-plugin(3), .config_complete; nbdkit-filter(3), Next config, open and close",
        antecedent: "a layer with config_complete, in a run that serves",
        good: "L1.config_complete { L0.config_complete }",
        bad: "L1.config_complete L0.config_complete",
        fix: "call config_complete of the outermost layer once, after the last parameter, and leave the rest to the filters",
        check: by!(passed_through(
            calls(&[ConfigComplete]),
            at(enters(&[ConfigComplete]).enters(complete::AFTER), complete::completed_once)
        )),
        ..Rule::REQUIRED.since(1, 1, 27)
    },
    Rule {
        id: "config_complete.not-in-dump",
        statement: "`--dump-plugin` does not complete the configuration.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a run with --dump-plugin, and a layer with config_complete",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: "run start=dump-plugin; load L0.config_complete",
        also: &["dump.sequence"],
        fix: "leave config_complete out when only information is wanted",
        check: by!(at(enters(&[ConfigComplete]), complete::not_in_dump).and_end(complete::not_in_dump_at_end)),
        ..Rule::FORBIDDEN
    },
];
