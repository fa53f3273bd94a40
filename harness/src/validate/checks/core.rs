//! Loading, information, configuration, open.

use super::check::{CasePlan, Level, ModuleCheck, Planned, Play, Profile, ServerOutcome, Twist, Unfit};
use super::script;
use crate::rules::Party;
use crate::run::{Parameter, Start};
use crate::validate::script::claims::Claims;
use crate::validate::script::fact::Fact;
use crate::validate::script::op::Op;

pub(super) const CHECKS: &[ModuleCheck] = &[
    ModuleCheck {
        id: "inform.dump-plugin",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "`--dump-plugin` comes to its end with status 0, without any parameters.",
        clause: "nbdkit(1), \"--dump-plugin\"; nbdkit-plugin(3), \".dump_plugin\"",
        broken_by: "a .load or .dump_plugin that needs what only parameters give",
        fix: "leave what needs parameters to .config_complete or .get_ready, which --dump-plugin does not call",
        play: Play::Stack(|_| informs(Start::DumpPlugin)),
    },
    ModuleCheck {
        id: "inform.help",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "`--help` comes to its end with status 0, without any parameters.",
        clause: "nbdkit(1), \"--help\"; nbdkit-plugin(3), \".config_help\"",
        broken_by: "a .load that fails without its environment",
        fix: "leave what may fail to .config_complete or .get_ready, which --help does not call",
        play: Play::Stack(|_| informs(Start::Help)),
    },
    ModuleCheck {
        id: "inform.version",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "`--version` comes to its end with status 0, without any parameters.",
        clause: "nbdkit(1), \"--version\"; nbdkit-plugin(3), \".version\"",
        broken_by: "a .load that fails without its environment",
        fix: "leave what may fail to .config_complete or .get_ready, which --version does not call",
        play: Play::Stack(|_| informs(Start::Version)),
    },
    ModuleCheck {
        id: "parameters.unknown",
        level: Level::Should,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "A parameter that nobody knows is refused, with a message.",
        clause: "nbdkit-plugin(3), \".config\"",
        broken_by: "a .config that returns 0 for every key",
        fix: "compare the key with those that are known; for any other call nbdkit_error and return -1",
        play: Play::Stack(|_| {
            Ok(vec![with_parameter("layers-no-such-parameter", "1", ServerOutcome::Refuses)])
        }),
    },
    ModuleCheck {
        id: "parameters.empty",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "An unknown parameter with an empty value is taken or refused.",
        clause: "nbdkit-plugin(3), \".config\": the value may be empty",
        broken_by: "a .config that looks at value[0] or takes strlen(value) - 1",
        fix: "values may be empty: look at their length first",
        play: Play::Stack(|_| {
            Ok(vec![with_parameter("layers-no-such-parameter", "", ServerOutcome::StartsOrRefuses)])
        }),
    },
    ModuleCheck {
        id: "parameters.missing",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "Without any parameters it serves, or refuses to start with a message.",
        clause: "nbdkit-plugin(3), \".config_complete\"",
        broken_by: "an open that follows the pointer of a parameter that was never given",
        fix: "look in .config_complete whether all that is needed was given; call nbdkit_error and return -1 if not",
        play: Play::Stack(missing),
    },
    ModuleCheck {
        id: "claims.kept",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Plugin,
        statement: "What it is said to claim it claims.",
        clause: "layers validate --claim PROFILE, and `claims` in layers.toml",
        broken_by: "a callback that got lost, or a .can_... that now answers no",
        fix: "bring the callback back, or say no longer that it is claimed",
        play: Play::Claims,
    },
    ModuleCheck {
        id: "claims.expected",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "Its clients see what its author says that they see.",
        clause: "layers validate --expect FACT, and `expected` in layers.toml",
        broken_by: "a parameter that does nothing, or something else; a value that must be refused and is taken",
        fix: "look at what becomes of the parameter, or say what is expected now",
        play: Play::Stack(expected),
    },
    ModuleCheck {
        id: "parameters.each",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "With any one of its parameters left out, or empty, it serves, or refuses to start with a message.",
        clause: "nbdkit-plugin(3), \".config\", \".config_complete\"; nbdkit-filter(3), \".config\", \".config_complete\"",
        broken_by: "a .config that takes value[0], or a parameter that is used although only another one was given",
        fix: "look in .config_complete whether all that is needed was given, and is something",
        play: Play::Both(each, each),
    },
    ModuleCheck {
        id: "open.succeeds",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "The default export opens, or one that is listed; without that nothing else can be judged.",
        clause: "nbdkit-plugin(3), \".open\", \".get_size\", \".can_write\" and the other questions",
        broken_by: "an .open that always fails; a .can_* that always answers -1; what is served is not there",
        fix: "look at the calls that failed and at their message; give the parameters with which it serves something",
        play: Play::Opens,
    },
    ModuleCheck {
        id: "open.again",
        level: Level::Must,
        profile: Profile::Core,
        party: Party::Module,
        statement: "The export that opened opens again: on later connections, and beside others where the thread model has them.",
        clause: "nbdkit-plugin(3), \".open\", \"Callback lifecycle\", \"Threads\"",
        broken_by: "an .open that fails for every client but the first; a handle that is never given back",
        fix: "look at why .open fails; free in .close what .open has taken; or claim a stricter thread model",
        play: Play::Stack(again),
    },
    ModuleCheck {
        id: "open.same-answers",
        level: Level::Should,
        profile: Profile::Core,
        party: Party::Module,
        statement: "The size, what the export can do, and its block sizes are the same on every open; the manual lets them \
                    differ, and clients that connect again or several times seldom expect it.",
        clause: "nbdkit-plugin(3), \"Callback lifecycle\": answers may differ from one .open to the next",
        broken_by: "a .can_* that answers from a counter or a clock; a size that grows with each open",
        fix: "if it is not meant: answer from what does not change while the server runs, or from the export's name",
        play: Play::Stack(same_answers),
    },
];

fn informs(start: Start) -> Planned {
    Ok(vec![CasePlan::new(Vec::new()).twist(Twist::Bare).start(start, ServerOutcome::Succeeds)])
}

fn with_parameter(key: &str, value: &str, outcome: ServerOutcome) -> CasePlan {
    let parameter = Parameter { key: Some(key.to_owned()), value: value.to_owned() };
    CasePlan::new(Vec::new()).twist(Twist::Parameter(parameter)).start(Start::Foreground, outcome)
}

fn missing(claims: &Claims) -> Planned {
    let script = vec![Op::Judge, Op::Connect(1, claims.export.clone())];
    Ok(vec![
        CasePlan::new(script).twist(Twist::Bare).start(Start::Foreground, ServerOutcome::StartsOrRefuses),
    ])
}

/// Parameters of which each is left out in turn.
const MOST_PARAMETERS: usize = 8;

fn each(claims: &Claims) -> Planned {
    let visit = || CasePlan::new(vec![Op::Judge, Op::Visit(1, claims.export.clone())]);
    let vary = |twist| visit().twist(twist).start(Start::Foreground, ServerOutcome::StartsOrRefuses);
    let without = |(place, has_key): &(usize, bool)| {
        let emptied = has_key.then(|| vary(Twist::Emptied(*place)));
        [vary(Twist::Without(*place))].into_iter().chain(emptied)
    };
    if claims.parameters.is_empty() {
        return Err(Unfit::NotClaimed("it has no parameters"));
    }
    Ok(claims.parameters.iter().take(MOST_PARAMETERS).flat_map(without).collect())
}

/// A case for each fact: one that is wrong hides no other.
fn expected(claims: &Claims) -> Planned {
    if claims.expected.is_empty() {
        return Err(Unfit::NotClaimed("nothing is said to be expected (--expect)"));
    }
    let case = |fact: &Fact| match fact {
        Fact::StartRefused => CasePlan::new(Vec::new()).start(Start::Foreground, ServerOutcome::Refuses),
        Fact::Refused(_) => CasePlan::new(vec![Op::Judge, Op::Expect(1, fact.clone())]),
        _ => CasePlan::new(script(claims, Vec::new(), vec![Op::Expect(1, fact.clone())])),
    };
    Ok(claims.expected.iter().map(case).collect())
}

fn again(claims: &Claims) -> Planned {
    let connect = |client| Op::Connect(client, claims.export.clone());
    let judged = if claims.is_shared().is_ok() {
        // All the time some client is there: a module may end the server with the last one.
        let beside = [connect(2), connect(3), Op::Disconnect(1), connect(4), Op::Disconnect(2)];
        let later = (5..13).flat_map(|client| [Op::Disconnect(client - 2), connect(client)]);
        beside.into_iter().chain(later).collect()
    } else {
        (2..10).flat_map(|client| [Op::Disconnect(client - 1), connect(client)]).collect()
    };
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}

fn same_answers(claims: &Claims) -> Planned {
    let mut judged = Vec::new();
    for client in 2..10 {
        judged.push(Op::Disconnect(client - 1));
        judged.push(Op::Connect(client, claims.export.clone()));
        judged.push(Op::Answers(client));
    }
    Ok(vec![CasePlan::new(script(claims, Vec::new(), judged))])
}
