//! nbdkit-plugin(3) and nbdkit-filter(3): from thread_model to after_fork, and runs that never serve.

mod dump;
mod dump_fields;
mod exit;
mod fork;
mod outwards;
mod thread_model;

use layers_trace::{Callback, Kind};

use crate::rules::check::{
    Checker, Party, Rule, Watch, at, at_end, by, calls, enters, enters_where, exits, notes, remembering,
};
use crate::version::Version;

/// The rules of this family.
pub const RULES: &[Rule] = &[
    Rule {
        id: "thread_model.inner-to-outer",
        since: Version(1, 13, 4),
        statement: "Each layer is asked once for its thread model, between config_complete and get_ready; from 1.44 outwards.",
        clause: "nbdkit-plugin(3) and nbdkit-filter(3), .thread_model",
        antecedent: "a layer with thread_model, in a run that serves",
        good: "L0.thread_model L1.thread_model",
        bad: "L1.thread_model",
        fix: "ask every layer once when the configuration is complete, the plugin first",
        check: by!(remembering(
            calls(&[Callback::ThreadModel]).enters(&[Callback::ConfigComplete, Callback::GetReady]),
            thread_model::AskedOnce::see
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "thread_model.dump",
        since: Version(1, 13, 9),
        statement: "With `--dump-plugin` the thread model is asked for too, after the last parameter.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a run with --dump-plugin, and a layer with thread_model",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: r#"run start=dump-plugin parameter="a=1"; load L0.thread_model L0.config "a" "1""#,
        also: &["dump.sequence", "config.once-per-arg"],
        fix: "ask for thread models when all parameters have been handed out",
        check: by!(remembering(
            enters(&[Callback::ThreadModel, Callback::Config]),
            thread_model::asked_in_dump
        )
        .and_end(thread_model::asked_in_dump_at_end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "thread_model.final-is-min",
        since: Version(1, 21, 24),
        statement: "The most serial answer, the plugin's THREAD_MODEL among them, wins, and get_ready of every filter is told.",
        clause: "nbdkit-plugin(3), Threads; nbdkit-filter(3), .thread_model and .get_ready",
        antecedent: "a filter with get_ready, in a stack of which every layer is recorded",
        good: "L0.thread_model L1.thread_model = 1 L0.get_ready L1.get_ready model=1",
        bad: "L0.thread_model L1.thread_model = 1 L0.get_ready L1.get_ready model=3",
        fix: "take the minimum over the plugin's macro and all answers, and pass it to get_ready",
        check: by!(remembering(
            exits(&[Callback::ThreadModel]).enters(&[Callback::GetReady]),
            thread_model::most_serial_wins
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "thread_model.next-arg",
        since: Version(1, 43, 0),
        statement: "A filter that is asked for its thread model is told the one in force below it.",
        clause: "nbdkit-filter(3) of 1.44, .thread_model",
        antecedent: "a filter with thread_model, in a stack of which every layer is recorded",
        good: "L0.thread_model = 1 L1.thread_model model=1",
        bad: "L0.thread_model = 1 L1.thread_model model=3",
        fix: "pass the minimum over the layers below",
        check: by!(remembering(calls(&[Callback::ThreadModel]), thread_model::ToldModelBelow::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.sequence",
        statement: "`--dump-plugin` makes loads, configs, thread_models, dump_plugins and unloads, in this order, and no more.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes, and .dump_plugin; nbdkit-filter(3) of 1.36, .dump_plugin",
        antecedent: "a run with --dump-plugin that ends well",
        good: "run start=dump-plugin; load config thread_model dump_plugin unload ends",
        bad: "run start=dump-plugin; load config thread_model L0.get_ready",
        fix: "stop short of get_ready when only information is wanted",
        check: by!(
            remembering(enters_where(|_| true), dump::DumpSequence::see).and_end(dump::DumpSequence::end)
        ),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.has-fields",
        statement: "`--dump-plugin` prints has_X=1 for each callback that the plugin has, and for no other.",
        clause: "nbdkit-probing(1) and nbdkit-plugin(3), .dump_plugin",
        antecedent: "a run with --dump-plugin whose output is in the trace",
        good: r#"L0 only=pread; run start=dump-plugin; ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        bad: r#"L0 only=pread; run start=dump-plugin; ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1\nhas_zero=1""#,
        fix: "print the line for each entry of the plugin's table that is not NULL",
        check: by!(at(notes(Kind::End), dump::has_fields)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.fields",
        since: Version(1, 26, 0),
        statement: "`--dump-plugin` prints the plugin's file and the fields of its structure, each once, and none that is NULL.",
        clause: "nbdkit-probing(1), Query information about a particular plugin; nbdkit-plugin(3), CALLBACKS, on each field",
        antecedent: "a run with --dump-plugin whose output is in the trace, and a registration with the plugin's structure",
        good: r#"L0 only=pread name="p" magic="" size=1 api=2; run start=dump-plugin; ends message="path=/p.so\nname=p\napi_version=2\nstruct_size=1\nerrno_is_preserved=0\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        bad: r#"L0 only=pread name="p" magic="" size=1 api=2; run start=dump-plugin; ends message="path=/p.so\nname=q\napi_version=2\nstruct_size=1\nerrno_is_preserved=0\nmax_thread_model=parallel\nthread_model=parallel\nhas_pread=1""#,
        fix: "print path, name, version, api_version, struct_size, errno_is_preserved and magic_config_key of the plugin",
        check: by!(at(notes(Kind::End), dump_fields::Fields::see)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.thread-models",
        since: Version(1, 26, 0),
        statement: "`--dump-plugin` prints the THREAD_MODEL macro as max_thread_model, and as thread_model what all layers settle on.",
        clause: "nbdkit-plugin(3), Threads",
        antecedent: "a run with --dump-plugin whose output is in the trace",
        good: r#"L0 only=thread_model; run start=dump-plugin; L0.thread_model = 1 ends message="max_thread_model=parallel\nthread_model=serialize_all_requests\napi_version=2\nhas_thread_model=1""#,
        bad: r#"L0 only=thread_model; run start=dump-plugin; L0.thread_model = 1 ends message="max_thread_model=parallel\nthread_model=parallel\napi_version=2\nhas_thread_model=1""#,
        fix: "print the model of the plugin's structure, and the minimum over all layers",
        check: by!(at(notes(Kind::End), dump_fields::models)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "dump.own-fields",
        statement: "What the plugin's dump_plugin prints is part of the output of `--dump-plugin`.",
        clause: "nbdkit-plugin(3), .dump_plugin",
        antecedent: "a run with --dump-plugin whose output is in the trace, and the reference plugin",
        good: r#"L0 only=dump_plugin name="layers"; run start=dump-plugin; L0.dump_plugin ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nlayers_reference=1\nhas_dump_plugin=1""#,
        bad: r#"L0 only=dump_plugin name="layers"; run start=dump-plugin; L0.dump_plugin ends message="api_version=2\nmax_thread_model=parallel\nthread_model=parallel\nhas_dump_plugin=1""#,
        fix: "call dump_plugin with standard output as it is, when the server's own fields are printed",
        check: by!(remembering(exits(&[Callback::DumpPlugin]).notes(Kind::End), dump_fields::own)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "help-version.sequence",
        statement: "`--help` and `--version` with a plugin load and unload the layers and call nothing else.",
        clause: "not in the manual",
        antecedent: "a run with --help or --version and a plugin",
        good: "run start=help; load unload ends",
        bad: "run start=help; load L0.thread_model",
        fix: "none needed; modules should be ready for unload right after load",
        check: by!(at(
            {
                let expected = |callback| matches!(callback, Callback::Load | Callback::Unload);
                enters_where(|callback| !expected(callback) && !callback.is_data())
            },
            dump::load_and_unload_only
        )
        .and_end(dump::load_and_unload_only_at_end)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "get_ready.inner-to-outer",
        since: Version(1, 25, 8),
        statement: "Each layer gets ready once, after all thread models, and only when the layer below has succeeded.",
        clause: "nbdkit-filter(3), .get_ready",
        antecedent: "a layer with get_ready that the start reaches",
        good: "thread_model L0.get_ready L1.get_ready",
        bad: "thread_model L1.get_ready",
        fix: "call get_ready of the plugin first, then of each filter outwards, and exit on the first failure",
        check: by!(outwards::Outwards::new(Callback::GetReady, &[Callback::ThreadModel])),
        ..Rule::REQUIRED
    },
    Rule {
        id: "get_ready.before-fork",
        since: Version(1, 18, 0),
        statement: "get_ready runs in the process that loaded the layer, before any fork.",
        clause: "nbdkit-plugin(3), .get_ready",
        antecedent: "a layer with load and get_ready",
        good: "thread_model L0.get_ready",
        bad: "thread_model fork L0.get_ready",
        fix: "fork after the last get_ready",
        check: by!(remembering(enters(&[Callback::Load, Callback::GetReady]), fork::ready_before_fork)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "after_fork.inner-to-outer",
        since: Version(1, 25, 8),
        statement: "after_fork runs once in each layer, after every get_ready, and only when the layer below has succeeded.",
        clause: "nbdkit-filter(3), .after_fork",
        antecedent: "a layer with after_fork that the start reaches",
        good: "get_ready L0.after_fork L1.after_fork",
        bad: "thread_model get_ready L1.after_fork",
        fix: "call after_fork of the plugin first, then of each filter outwards, and exit on the first failure",
        check: by!(outwards::Outwards::new(
            Callback::AfterFork,
            &[Callback::ThreadModel, Callback::GetReady],
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "after_fork.always",
        since: Version(1, 21, 12),
        statement: "Every run that serves calls after_fork, also when the server does not fork.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes",
        antecedent: "a layer with after_fork, in a run that serves a client or ends cleanly",
        good: "start stop",
        bad: "L0 without=cleanup; load config_complete thread_model get_ready SIGTERM L0.unload ends",
        fix: "call after_fork on every way to serving: -f, -s, --run, socket activation",
        check: by!(remembering(
            enters(&[Callback::AfterFork, Callback::Preconnect, Callback::Open]),
            fork::AlwaysAfterFork::see
        )
        .and_end(fork::AlwaysAfterFork::end)),
        ..Rule::REQUIRED
    },
    Rule {
        id: "after_fork.pid",
        since: Version(1, 21, 12),
        statement: "A daemon runs after_fork in another process than start-up; a server in the foreground in the same.",
        clause: "nbdkit-plugin(3), Callback lifecycle, Notes; nbdkit(1), --foreground and --single",
        antecedent: "a layer with after_fork, in a daemon or with -f or -s",
        good: "run start=daemon; get_ready fork L0.after_fork",
        bad: "run start=daemon; get_ready L0.after_fork",
        fix: "call after_fork in the process that will serve",
        check: by!(remembering(
            {
                const BEFORE: &[Callback] = &[
                    Callback::Load,
                    Callback::Config,
                    Callback::ConfigComplete,
                    Callback::ThreadModel,
                    Callback::GetReady,
                ];
                enters(BEFORE).enters(&[Callback::AfterFork])
            },
            fork::forks_as_asked
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "after_fork.before-clients",
        since: Version(1, 21, 12),
        statement: "No connection is taken on before after_fork of every layer has returned.",
        clause: "nbdkit-plugin(3), Callback lifecycle and .after_fork",
        antecedent: "a connection, and a layer with after_fork",
        good: "start connect",
        bad: "get_ready L0.after_fork connect { L1.preconnect }",
        fix: "accept connections when all layers are through after_fork",
        check: by!(remembering(
            exits(&[Callback::AfterFork]).enters(&[Callback::Preconnect, Callback::Open]),
            fork::forked_before_clients
        )),
        ..Rule::REQUIRED
    },
    Rule {
        id: "fork.parent-silent",
        statement: "The process that a fork leaves behind makes no further callback.",
        clause: "not in the manual",
        antecedent: "a server that goes on in another process",
        good: "run start=daemon; start",
        bad: "run start=daemon; thread_model get_ready fork after_fork p1: L0.unload",
        fix: "none needed; unload in the parent would surprise modules, though",
        check: by!(remembering(Watch::CALLS, fork::ParentSilent::see)),
        ..Rule::OBSERVED
    },
    Rule {
        id: "ready.not-pidfile",
        since: Version(1, 21, 12),
        statement: "A pidfile, or the command of --run having started, does not mean that after_fork has run.",
        clause: "not in the manual",
        antecedent: "a server with a pidfile or with --run",
        fix: "wait for the server to answer, not for its pidfile",
        check: Checker::Nothing,
        ..Rule::UNSPECIFIED
    },
    Rule {
        id: "exit.config-only",
        party: Party::Module,
        since: Version(1, 19, 2),
        statement: "A plugin or filter calls exit(3) up to get_ready at the latest; once serving it asks with nbdkit_shutdown.",
        clause: "nbdkit-plugin(3), SHUTDOWN, Requesting asynchronous shutdown",
        antecedent: "a run with a client that ends with an exit status",
        good: "NBD_CMD_DISC stop",
        bad: "send NBD_CMD_READ enter L0.pread ends",
        fix: "call nbdkit_shutdown and return an error instead of exiting",
        check: by!(at_end(exit::no_exit_while_serving)),
        ..Rule::FORBIDDEN
    },
];
