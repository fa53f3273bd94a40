//! Ways to start a server, and starts that fail.

use layers_trace::{Callback, Operation};

use super::super::{Ending, Scenario, Step, command};
use super::{always, connect, go, nth_after_next};
use crate::run::stack::{Given, Stack};
use crate::run::{Parameter, Start};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![
        informative("dump-plugin", "--dump-plugin", Start::DumpPlugin),
        dumped("without-words", "--dump-plugin, and a plugin with little in its structure", |stack| {
            stack.with(0, |plugin| {
                plugin.no_words = true;
                plugin.no_magic_key = true;
                plugin.errno_is_preserved = true;
                plugin.absent.insert(Callback::DumpPlugin);
            })
        }),
        dumped("models", "--dump-plugin, and layers that want different thread models", |stack| {
            stack
                .with(0, |plugin| plugin.thread_model_macro = Some(2))
                .with(1, |filter| filter.answers.extend([(Callback::ThreadModel, 1)]))
        }),
        dumped("macro", "--dump-plugin, and a plugin whose thread model is the macro's", |stack| {
            stack.with(0, |plugin| {
                plugin.thread_model_macro = Some(0);
                plugin.absent.insert(Callback::ThreadModel);
            })
        }),
        informative("help", "--help", Start::Help),
        informative("version", "--version", Start::Version),
        daemon(),
        activated(),
        parameters(),
        bare_parameter(),
        bare_first(),
        no_config(),
        script_parameter(),
        bare_later(),
        given("symlink", "a filter that is given twice, once through a symbolic link", Given::Symlink),
        given(
            "copy",
            "a filter that is given twice, once as another file with the same contents",
            Given::Copy,
        ),
    ];
    for callback in [
        Callback::Config,
        Callback::ConfigComplete,
        Callback::ThreadModel,
        Callback::GetReady,
        Callback::AfterFork,
    ] {
        all.extend((0..=2).map(|layer| failing_start(callback, layer)));
    }
    all.extend([Callback::Config, Callback::ConfigComplete].map(failing_after_next));
    all.push(failing_daemon());
    all
}

fn visit() -> [Step; 4] {
    [connect(1), go(1, ""), Step::Request(1, command(Operation::Read, 0, 512, 0)), Step::Disconnect(1)]
}

fn parameter(key: &str, value: &str) -> Parameter {
    Parameter { key: Some(key.to_owned()), value: value.to_owned() }
}

fn bare(value: &str) -> Parameter {
    Parameter { key: None, value: value.to_owned() }
}

fn informative(name: &str, about: &'static str, start: Start) -> Scenario {
    Scenario::new(format!("inform/{name}"), about, Stack::reference(2)).start(start).ending(Ending::ByItself)
}

/// `--dump-plugin` of another stack.
fn dumped(name: &str, about: &'static str, change: fn(Stack) -> Stack) -> Scenario {
    let scenario = informative(&format!("dump-plugin/{name}"), about, Start::DumpPlugin);
    Scenario { stack: change(scenario.stack.clone()), ..scenario }
}

fn daemon() -> Scenario {
    Scenario::new("start/daemon", "a server that forks into the background", Stack::reference(2))
        .start(Start::Daemon)
        .script(visit())
}

fn activated() -> Scenario {
    Scenario::new("start/activated", "a server that is passed a socket that listens", Stack::reference(2))
        .start(Start::Activated)
        .script(visit())
}

fn parameters() -> Scenario {
    let parameters = vec![
        parameter("size", "1M"),
        parameter("a", "1"),
        parameter("b", ""),
        parameter("x.y-z_1", "q"),
        parameter("c", "=d"),
    ];
    let stack = Stack { parameters, ..Stack::reference(2) };
    Scenario::new("start/parameters", "parameters of every shape", stack).script(visit())
}

fn bare_parameter() -> Scenario {
    let stack = Stack { parameters: vec![parameter("a", "1"), bare("1M")], ..Stack::reference(2) };
    Scenario::new("start/bare-parameter", "a bare argument for a plugin with a magic key", stack)
        .script(visit())
}

fn bare_first() -> Scenario {
    let stack = Stack { parameters: vec![bare("1M"), parameter("a", "1")], ..Stack::reference(2) };
    Scenario::new("start/bare-first", "a bare argument before the others", stack).script(visit())
}

fn no_config() -> Scenario {
    let stack = Stack::reference(0).with(0, |plugin| {
        plugin.absent.insert(Callback::Config);
    });
    let scenario = Scenario::new("start-fails/no-config", "a parameter for a plugin without config", stack);
    Scenario { start_fails: true, ..scenario }
}

fn without_magic_key(parameters: [Parameter; 2]) -> Stack {
    let stack = Stack::reference(2).with(0, |plugin| plugin.no_magic_key = true);
    Stack { parameters: parameters.into(), ..stack }
}

fn script_parameter() -> Scenario {
    let stack = without_magic_key([bare("1M"), parameter("size", "1M")]);
    Scenario::new("start/script-parameter", "a bare argument before the others, and no magic key", stack)
        .script(visit())
}

fn bare_later() -> Scenario {
    let stack = without_magic_key([parameter("size", "1M"), bare("1M")]);
    let scenario =
        Scenario::new("start-fails/bare-later", "a bare argument after another, and no magic key", stack);
    Scenario { start_fails: true, ..scenario }
}

fn given(name: &str, about: &'static str, given: Given) -> Scenario {
    let stack = Stack { given: [(2, given)].into(), ..Stack::reference(2) };
    Scenario::new(format!("start/filter-{name}"), about, stack).script(visit())
}

fn failing_start(callback: Callback, layer: u8) -> Scenario {
    let stack = Stack::reference(2).with(layer, |behaviour| behaviour.fail.push(always(callback)));
    let name = format!("start-fails/{callback}/L{layer}");
    let scenario = Scenario::new(name, "a callback of start-up that fails at this layer", stack);
    Scenario { start_fails: true, ..scenario }
}

fn failing_after_next(callback: Callback) -> Scenario {
    let stack = Stack::reference(2).with(1, |behaviour| behaviour.fail.push(nth_after_next(callback, 1)));
    let name = format!("start-fails/{callback}/L1-after-next");
    let scenario = Scenario::new(name, "a filter that fails after the layer below has succeeded", stack);
    Scenario { start_fails: true, ..scenario }
}

fn failing_daemon() -> Scenario {
    let stack = Stack::reference(2).with(1, |behaviour| behaviour.fail.push(always(Callback::AfterFork)));
    let scenario = Scenario::new("start-fails/daemon", "after_fork fails in the background", stack);
    Scenario { start_fails: true, start: Start::Daemon, ..scenario }
}
