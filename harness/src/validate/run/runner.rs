//! The order of things: the files, the first connection, and then every check, side by side.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::builder::Validate;
use super::listener::Listener;
use super::selection::Selection;
use super::tally::Tally;
use super::task::{Outcome, Task, tasks};
use super::variants::ProbedStack;
use crate::baseline::Baseline;
use crate::campaign::event_budget::EventBudget;
use crate::campaign::halt::{Halt, Limit};
use crate::campaign::schedule::{Items, in_order};
use crate::foreign::visible::visible_line;
use crate::outcome::Verdict;
use crate::run::stack::{Layers, Stack};
use crate::server::headroom::look_at_own;
use crate::server::nbdkit::{Nbdkit, ServerError, Under};
use crate::validate::checks::check::{CasePlan, ModuleCheck, Play, Profile};
use crate::validate::judge::blame::Scene;
use crate::validate::judge::discovery::{Explored, Found, discover};
use crate::validate::play::case::Bench;
use crate::validate::play::in_flight::failed;
use crate::validate::play::played::{Terms, Trouble};
use crate::validate::play::stop::Wrong;
use crate::validate::script::claims::Claims;
use crate::validate::script::fact::{EXPECTED, Fact};
use crate::validate::subject;
use crate::validate::subject::config_help;
use crate::validate::subject::consent::{Consent, Secrets};
use crate::validate::subject::module_file::{self, ImageError, Role};
use crate::validate::subject::same_files::Files;
use crate::validate::verdict::claimed_profiles::{self, Said};
use crate::validate::verdict::profile;
use crate::validate::verdict::validation::{Subject, Validation};
use crate::validate::verdict::verdicts::ModuleFinding;
use crate::version::Which;

/// Runs all of it.
pub(in crate::validate) fn run(
    validate: &Validate,
    nbdkit: &Nbdkit,
    selection: &Selection,
    listener: &mut dyn Listener,
) -> Result<Validation, ServerError> {
    let mut stack = validate.stack.clone();
    let consent = Consent::of(&stack, validate.copy_limit);
    // What a parameter names (a disk, a log, a socket) is there only once, and several servers would share it.
    let shared = !consent.is_free() || (validate.allow_writes && !consent.copied.is_empty());
    let jobs = if shared { NonZeroUsize::MIN } else { validate.jobs };
    look_at_own(jobs.get()).map_err(ServerError::Harness)?;
    let given = validate.allow_writes;
    let spared = (!consent.is_free() && !given && !stack.readonly).then(|| consent.spared.join("; "));
    let copied: Vec<String> = if given { Vec::new() } else { consent.copied.iter().cloned().collect() };
    let filters_spared = consent.filters_spared && !given;
    if !given {
        stack.copied = consent.copied;
    }
    stack.readonly |= spared.is_some();
    let secrets = Secrets::of(&stack);
    let under = validate.under;
    let terms = Terms { seed: validate.seed, memory: validate.memory, under };
    let timeout = validate.timeout.saturating_mul(under.map_or(1, Under::slowness));
    let limit = validate.limit.unwrap_or_else(|| Limit::new(validate.time));
    let files = Files::of(nbdkit.targets(&stack).into_iter().map(|(_, file)| file));
    let bench = Bench { nbdkit, files: &files, timeout, limit, room: validate.room, terms };
    listener.begins(&Subject {
        set: validate.set.clone(),
        words: visible_line(&subject::words(&validate.stack)),
        which: Which::Nbdkit,
        server: nbdkit.version.to_string(),
        spared: spared.clone(),
        copied: copied.clone(),
        level: validate.level,
        checks: selection.checks.len(),
        rules: selection.rules.len(),
    });
    let collected = Tally::new(selection, bench.terms, EventBudget::new(validate.keep_events));
    let Validate { expected, known, deny, .. } = validate;
    let mut runner =
        Runner { bench, jobs, stack, filters_spared, selection, listener, collected, expected, known, deny };
    let reached = runner.run();
    let told = limit.reached().filter(|halt| matches!(halt, Halt::Signal(_)));
    runner.collected.halt = told.or(runner.collected.halt);
    let reached = match (reached, told) {
        // Its server was killed, or not even started.
        (Err(_), Some(_)) => Reached::default(),
        (reached, _) => reached?,
    };
    if runner.collected.halt.is_some() {
        runner.collected.leave_out_unsaid(selection);
    } else {
        runner.say_of_claims(&validate.claims, &reached, spared.is_some());
    }
    let (cut, cases, halt) = (runner.collected.cut(), runner.collected.cases, runner.collected.halt);
    let halted = runner.collected.halted();
    let (checks, rules) = runner.collected.finish(selection);
    let mut validation = Validation {
        set: validate.set.clone(),
        subject: visible_line(&subject::words(&validate.stack)),
        which: Which::Nbdkit,
        server: nbdkit.version.to_string(),
        spared,
        copied,
        untried: reached.explored.first().map_or(Vec::new(), |first| {
            config_help::untried(&first.played.events, &validate.stack.parameters)
        }),
        claims: reached.claims,
        unloadable: reached.unloadable,
        cut_short: halted.or(reached.cut_short).or(cut),
        halt,
        profiles: profile::of(&checks),
        checks,
        rules,
        cases,
        known: Vec::new(),
        denied: Vec::new(),
        stale: Vec::new(),
    };
    if !secrets.is_empty() {
        validation.hide(&secrets);
    }
    Ok(validation)
}

/// How far it went.
#[derive(Default)]
struct Reached {
    claims: Option<Claims>,
    /// The first cases.
    explored: Vec<Explored>,
    /// Why the server cannot load the subject.
    unloadable: Option<String>,
    /// Why nothing more could be judged.
    cut_short: Option<String>,
}

struct Runner<'a> {
    bench: Bench<'a>,
    /// Cases played at a time.
    jobs: NonZeroUsize,
    /// As it is played: read-only where the storage is the user's.
    stack: Stack,
    /// What may be a filter's own storage is the user's.
    filters_spared: bool,
    selection: &'a Selection,
    listener: &'a mut dyn Listener,
    collected: Tally,
    /// What its author says that clients see.
    expected: &'a [Fact],
    /// What does not count.
    known: &'a Baseline,
    /// The ids whose warnings count.
    deny: &'a [String],
}

impl Runner<'_> {
    fn run(&mut self) -> Result<Reached, ServerError> {
        if let Err(wrong) = self.look_at_files() {
            self.say_of_file(Some(&wrong));
            self.leave_out("the subject cannot be loaded");
            return Ok(Reached { unloadable: Some(visible_line(&wrong)), ..Reached::default() });
        }
        let (found, explored) = discover(&self.bench, &self.stack, 0)?;
        let stack = self.stack.clone();
        if self.is_refused_as_expected(&found) {
            return self.play_refusals();
        }
        self.absorb(&stack, &explored);
        match found {
            Found::Claims(claims) => {
                let claims = Claims { expected: self.expected.to_vec(), ..claims };
                self.say_of_file(None);
                self.collected.say(self.selection, opens, &Verdict::Pass);
                let ground = ProbedStack { stack, claims: Ok(claims.clone()) };
                self.play(&ground)?;
                Ok(Reached { claims: Some(claims), explored, ..Reached::default() })
            }
            Found::DoesNotStart(reason) => {
                let reason = self.advised(reason, &explored);
                self.say_of_file(module_file::of_server(&reason).as_deref());
                self.leave_out("the subject does not start");
                Ok(Reached { unloadable: Some(visible_line(&reason)), ..Reached::default() })
            }
            Found::Halted(halt) => {
                self.collected.halt = Some(halt);
                self.say_of_file(None);
                self.leave_out(&format!("not judged: {}", halt.reason()));
                Ok(Reached::default())
            }
            Found::Troubled => {
                let reason = match explored.last().and_then(|one| one.played.trouble.as_ref()) {
                    Some(Trouble::Environment(why)) => why.clone(),
                    _ => "the server did not survive the first connection".to_owned(),
                };
                self.say_of_file(None);
                self.leave_out(&reason);
                Ok(Reached { cut_short: Some(reason), ..Reached::default() })
            }
            Found::NoExport(reason) => {
                let reason = format!("no export opens: {reason}");
                self.say_of_file(None);
                self.say_of_open(&explored, &reason);
                self.leave_out("no export opens: see open.succeeds");
                Ok(Reached { cut_short: Some(reason), ..Reached::default() })
            }
        }
    }

    /// That it does not start, or that the default export does not open, is what its author says.
    fn is_refused_as_expected(&self, found: &Found) -> bool {
        match found {
            Found::DoesNotStart(reason) => {
                self.expected.contains(&Fact::StartRefused) && module_file::of_server(reason).is_none()
            }
            Found::NoExport(_) => self.expected.contains(&Fact::Refused(String::new())),
            _ => false,
        }
    }

    /// Of what is refused there is no more to be judged than that it is refused in good order.
    fn play_refusals(&mut self) -> Result<Reached, ServerError> {
        self.say_of_file(None);
        let expected = self.expected.iter().filter(|fact| fact.is_refusal()).cloned().collect();
        let claims = Ok(Claims { expected, ..Claims::default() });
        let ground = ProbedStack { stack: self.stack.clone(), claims };
        let (asked, others): (Vec<&'static ModuleCheck>, Vec<_>) =
            self.selection.checks.iter().partition(|check| check.id == EXPECTED);
        let only = |checks| Selection { checks, rules: Vec::new() };
        for task in tasks(&only(asked), &ground, &[]) {
            let outcome = task.play(&self.bench)?;
            self.collected.hear(&task, &outcome);
        }
        let left = Verdict::Skipped("it is refused, as its author expects".to_owned());
        self.collected.say(&only(others), |play| is_played(play) || opens(play), &left);
        Ok(Reached::default())
    }

    fn look_at_files(&self) -> Result<(), String> {
        let Layers::Wrapped { filters, plugin } = &self.stack.layers else { return Ok(()) };
        let nbdkit = self.bench.nbdkit;
        let look = |name: &str, path: PathBuf, role| {
            module_file::look(&path, role, &nbdkit.path).map_err(|error| {
                match (&error, module_file::advice(name, &path)) {
                    (ImageError::Unreadable { .. }, Some(advice)) => format!("{error}; {advice}"),
                    _ => error.to_string(),
                }
            })
        };
        for filter in filters {
            look(filter, nbdkit.filter_file(filter), Role::Filter)?;
        }
        look(plugin, nbdkit.plugin_file(plugin), Role::Plugin)
    }

    /// The server looks for a file without a directory among the system's libraries; and a parameter that nobody knows is
    /// a slip of the pen.
    fn advised(&self, reason: String, explored: &[Explored]) -> String {
        let Layers::Wrapped { filters, plugin } = &self.stack.layers else { return reason };
        let named = |name: &&String| reason.contains(&format!("cannot load `{name}`"));
        let file = filters.iter().chain([plugin]).find(named);
        let file = file.and_then(|name| module_file::advice(name, Path::new(name)));
        let parameter = || {
            let events = &explored.first()?.played.events;
            let (key, near) = config_help::mistyped(events, &self.stack.parameters)?;
            let is_of_it = reason.contains(&key);
            is_of_it.then(|| format!("the nearest parameter to `{key}` that --help names is `{near}`"))
        };
        file.or_else(parameter).map_or(reason.clone(), |advice| format!("{reason}; {advice}"))
    }

    fn say_of_file(&mut self, wrong: Option<&str>) {
        let of_file = |play: &Play| matches!(play, Play::File);
        let Some(actual) = wrong else { return self.collected.say(self.selection, of_file, &Verdict::Pass) };
        let wrong = Wrong::new("a module that this server can load", actual);
        let (stack, plan) = (&self.stack, CasePlan::new(Vec::new()));
        let scene = Scene { stack, plan: &plan, index: 0, terms: self.bench.terms };
        let finding = |check: &'static ModuleCheck| scene.finding(check, &wrong, Vec::new());
        self.collected.say_wrong(self.selection, of_file, &Verdict::Fail, finding);
    }

    /// That nothing opens may have a good reason outside of the subject; but then nothing is known of it.
    fn say_of_open(&mut self, explored: &[Explored], reason: &str) {
        let Some(Explored { plan, played }) = explored.first() else { return };
        let scene = Scene { stack: &self.stack, plan, index: plan.script.len(), terms: self.bench.terms };
        let wrong = Wrong::new("an export opens", reason);
        let finding = |check: &'static ModuleCheck| -> ModuleFinding {
            scene.finding(check, &wrong, failed(&played.events))
        };
        let verdict = Verdict::Inconclusive(reason.to_owned());
        self.collected.say_wrong(self.selection, opens, &verdict, finding);
    }

    /// What it is said to claim against what it claims.
    fn say_of_claims(&mut self, claims: &[Profile], reached: &Reached, spared: bool) {
        let by_claims = claimed_profiles::by_claims;
        let said = match (&reached.claims, reached.explored.first()) {
            (Some(_), Some(first)) => {
                Some((claimed_profiles::compare(claims, &self.collected.profiles(), spared), first))
            }
            _ => None,
        };
        let verdict = match said {
            _ if claims.is_empty() => {
                Verdict::NotApplicable("nothing is said to be claimed (--claim)".to_owned())
            }
            None => Verdict::Skipped("no export opens: see open.succeeds".to_owned()),
            Some((Said::Kept, _)) => Verdict::Pass,
            Some((Said::Untold(why), _)) => Verdict::Skipped(why),
            Some((Said::Lost { expected, actual }, Explored { plan, .. })) => {
                let scene =
                    Scene { stack: &self.stack, plan, index: plan.script.len(), terms: self.bench.terms };
                let wrong = Wrong::new(expected, actual);
                let finding = |check: &'static ModuleCheck| scene.finding(check, &wrong, Vec::new());
                return self.collected.say_wrong(self.selection, by_claims, &Verdict::Fail, finding);
            }
        };
        self.collected.say(self.selection, by_claims, &verdict);
    }

    fn leave_out(&mut self, reason: &str) {
        self.collected.say(self.selection, is_played, &Verdict::Skipped(reason.to_owned()));
    }

    fn absorb(&mut self, stack: &Stack, explored: &[Explored]) {
        for one in explored {
            self.collected.absorb(stack, &one.plan, &one.played);
        }
    }

    /// Plays every check that is judged by cases.
    fn play(&mut self, given: &ProbedStack) -> Result<(), ServerError> {
        let filters = self.filters()?;
        let tasks = tasks(self.selection, given, &filters);
        let Runner { bench, listener, collected, known, deny, .. } = self;
        let fail_fast = |collected: &Tally| {
            if collected.fails(known, deny) {
                bench.limit.found();
            }
        };
        fail_fast(collected);
        // Two cases that hang are enough: the others need not begin.
        let hung = AtomicBool::new(collected.hangs());
        let work = |index: usize| match tasks.get(index) {
            Some(_) if bench.files.changed().is_some() => {
                Ok(Outcome { halt: Some(Halt::Changed), ..Outcome::default() })
            }
            Some(task) if !hung.load(Ordering::Relaxed) => task.play(bench).or_else(|error| {
                // In a run beside the cases: what they are compared with is missing.
                let halt = Some(Halt::of(&error).ok_or(error)?);
                Ok(Outcome { halt, ..Outcome::default() })
            }),
            _ => Ok(Outcome::default()),
        };
        let items = Items { alone: vec![false; tasks.len()], jobs: self.jobs };
        let tell = |listener: &mut dyn Listener, index: usize| {
            let check = tasks.get(index).map(|task: &Task<'_>| task.check);
            if let Some(check) = check {
                listener.playing(index, tasks.len(), check);
            }
        };
        tell(*listener, 0);
        in_order(&items, work, |index, outcome| {
            if let Some(task) = tasks.get(index) {
                collected.hear(task, &outcome);
                hung.store(collected.hangs(), Ordering::Relaxed);
                fail_fast(collected);
            }
            tell(*listener, index + 1);
        })
    }

    /// Each filter alone over our own plugin, where a check asks for that.
    fn filters(&mut self) -> Result<Vec<ProbedStack>, ServerError> {
        let asked = self.selection.checks.iter().any(|check| check.play.on_filters().is_some());
        let filters = match &self.stack.layers {
            Layers::Wrapped { filters, .. } if asked => filters.clone(),
            _ => Vec::new(),
        };
        let mut grounds = Vec::new();
        for filter in filters {
            if self.bench.limit.reached().is_some() {
                break;
            }
            match ProbedStack::of_filter(&self.bench, &self.stack, &filter, self.filters_spared) {
                Ok((ground, explored)) => {
                    self.absorb(&ground.stack, &explored);
                    grounds.push(ground);
                }
                Err(error) => {
                    self.collected.halt = Some(Halt::of(&error).ok_or(error)?);
                    break;
                }
            }
        }
        Ok(grounds)
    }
}

/// By cases of its own.
fn is_played(play: &Play) -> bool {
    play.on_stack().or(play.on_filters()).is_some()
}

fn opens(play: &Play) -> bool {
    matches!(play, Play::Opens)
}
