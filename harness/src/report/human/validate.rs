//! What `layers validate` tells people: what broke, with all that helps to mend it; then the profiles; then one line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::style::{BAD, DIM, GOOD, ODD, style_of};
use crate::baseline::Entry;
use crate::cases::marks;
use crate::foreign::quoted::quoted;
use crate::outcome::{Standing, Verdict};
use crate::validate::repro::intent::leave_for;
use crate::validate::{ModuleFinding, Profile, ProfileResult, ProfileVerdict, Subject, Validation};

/// What is about to be judged.
pub(super) fn begin(to: &mut impl Write, subject: &Subject) -> io::Result<()> {
    if let Some(set) = &subject.set {
        writeln!(to, "set `{set}`:")?;
    }
    writeln!(to, "{} {}: {}", subject.which.name(), subject.server, subject.words)?;
    if !subject.copied.is_empty() {
        writeln!(to, "copied for each case: {}", subject.copied.join(", "))?;
    }
    if let Some(why) = &subject.spared {
        let unjudged: Vec<&str> =
            Profile::ALL.iter().filter(|one| one.writes()).map(|one| one.word()).collect();
        writeln!(to, "opened read-only: {why}")?;
        let unjudged = unjudged.join(", ");
        writeln!(to, "left unjudged for that: {unjudged} (--allow-writes judges them, and writes there)")?;
    }
    writeln!(to)?;
    to.flush()
}

/// Everything, when the run is over.
pub(super) fn write(to: &mut impl Write, validation: &Validation, files: &[PathBuf]) -> io::Result<()> {
    if let Some(reason) = &validation.unloadable {
        writeln!(to, "{BAD}cannot be loaded{BAD:#}: {reason}\n")?;
    }
    let mut files = files.iter();
    for (id, verdict, findings) in everything(validation) {
        if findings.is_empty() {
            continue;
        }
        headline(to, id, verdict, validation.standing(id).as_ref())?;
        for one in findings {
            finding(to, one, files.next().map(PathBuf::as_path))?;
        }
        if let Some(one) = findings.first() {
            writeln!(to, "      {DIM}to fix it:{DIM:#} {}\n", one.promise.fix)?;
        }
    }
    inconclusive(to, validation)?;
    stale(to, validation)?;
    if let Some(reason) = &validation.cut_short {
        writeln!(to, "{BAD}cut short{BAD:#}: {reason}\n")?;
    }
    profiles(to, &validation.profiles)?;
    rules(to, validation)?;
    untried(to, validation)?;
    last_line(to, validation)
}

fn everything(validation: &Validation) -> impl Iterator<Item = (&'static str, &Verdict, &[ModuleFinding])> {
    let checks = validation.checks.iter().map(|one| (one.check.id, &one.verdict, &*one.findings));
    checks.chain(validation.rules.iter().map(|one| (one.rule.id, &one.verdict, &*one.findings)))
}

fn headline(to: &mut impl Write, id: &str, verdict: &Verdict, standing: Option<&Standing>) -> io::Result<()> {
    let (style, word) = match verdict {
        _ if standing.is_some_and(|one| one.why().is_some()) => (ODD, "known"),
        Verdict::Warn if standing == Some(&Standing::New) => (BAD, "FAIL"),
        Verdict::Fail => (BAD, "FAIL"),
        Verdict::Crash(_) => (BAD, "CRASH"),
        Verdict::Hang(_) => (BAD, "HANG"),
        Verdict::Inconclusive(_) => (ODD, "inconclusive"),
        _ => (ODD, "warn"),
    };
    writeln!(to, "{style}{word:<5}{style:#} {id}")
}

fn finding(to: &mut impl Write, finding: &ModuleFinding, file: Option<&Path>) -> io::Result<()> {
    let ModuleFinding { promise, expected, actual, hint, blame, .. } = finding;
    writeln!(to, "      {}", promise.statement)?;
    writeln!(to, "      {DIM}{}{DIM:#}", promise.clause)?;
    let layer = blame.layer.map_or(String::new(), |layer| format!("L{layer} "));
    writeln!(to, "      at fault: {layer}{} ({})", blame.name, blame.party)?;
    writeln!(to, "      expected: {expected}")?;
    writeln!(to, "      actual:   {actual}")?;
    if let Some(hint) = hint {
        writeln!(to, "      hint:     {hint}")?;
    }
    let main = marks::main(finding);
    for (call, mark) in marks::marks(finding) {
        let style = if main == Some(call.position) { BAD } else { DIM };
        let note = mark.map_or(String::new(), |mark| format!("   {style}<- {mark}{style:#}"));
        writeln!(to, "      {DIM}{:>6} |{DIM:#} {call}{note}", call.position)?;
    }
    for line in &finding.said {
        writeln!(to, "      {DIM}said:{DIM:#}     {line}")?;
    }
    if !finding.also.is_empty() {
        writeln!(to, "      also met by {}: one cause, and no finding of its own", finding.also.join(", "))?;
    }
    match (file, &finding.repro, &finding.replay) {
        (Some(file), Some(repro), _) => {
            writeln!(to, "      replay:   layers repro {}{}", leave_for(repro), quoted(file))
        }
        (_, _, Some(command)) => writeln!(to, "      replay:   {command}"),
        _ => Ok(()),
    }
}

fn stale(to: &mut impl Write, validation: &Validation) -> io::Result<()> {
    for Entry { id, why, .. } in &validation.stale {
        writeln!(to, "{BAD}stale{BAD:#} {id}: the baseline lists it, and it did not happen: {why}")?;
    }
    Ok(())
}

fn inconclusive(to: &mut impl Write, validation: &Validation) -> io::Result<()> {
    for (id, verdict, _) in everything(validation).filter(|(_, _, findings)| findings.is_empty()) {
        if let Verdict::Inconclusive(reason) | Verdict::HarnessError(reason) = verdict {
            writeln!(to, "{ODD}{}{ODD:#} {id}: {reason}", verdict.word())?;
        }
    }
    Ok(())
}

fn profiles(to: &mut impl Write, profiles: &[ProfileResult]) -> io::Result<()> {
    writeln!(to, "profiles:")?;
    for one in profiles {
        let style = match one.verdict {
            ProfileVerdict::Conformant => GOOD,
            ProfileVerdict::NotConformant => BAD,
            ProfileVerdict::Inconclusive => ODD,
            ProfileVerdict::NotClaimed | ProfileVerdict::NotJudged => DIM,
        };
        let plural = if one.hold == 1 { "check holds" } else { "checks hold" };
        let evidence = match one.evidence.cases {
            0 => String::new(),
            _ => format!("; {}", one.evidence),
        };
        let counted = match (one.hold, one.broken) {
            (0, 0) => String::new(),
            (hold, 0) => format!("{hold} {plural}{evidence}"),
            (hold, broken) => format!("{hold} {plural}, {broken} do not{evidence}"),
        };
        let reason = one.reason.as_deref().unwrap_or(&counted);
        writeln!(to, "  {:<13} {style}{:<15}{style:#} {reason}", one.word(), one.verdict.word())?;
    }
    Ok(())
}

fn rules(to: &mut impl Write, validation: &Validation) -> io::Result<()> {
    let judged = validation.rules.iter().filter(|one| one.verdict.reason().is_none());
    let (count, calls) = judged.fold((0, 0), |(count, calls), one| (count + 1, calls + one.exercised));
    writeln!(to, "  {:<13} {count} of the catalogue had something to say, {calls} times\n", "rules")
}

/// Parameters change what a module does: what is not given is not judged.
fn untried(to: &mut impl Write, validation: &Validation) -> io::Result<()> {
    if validation.untried.is_empty() {
        return Ok(());
    }
    let judged = if validation.set.is_some() { "in no set" } else { "not given" };
    writeln!(to, "parameters of --help that are {judged}: {}\n", validation.untried.join(", "))
}

fn last_line(to: &mut impl Write, validation: &Validation) -> io::Result<()> {
    let exit = validation.exit();
    let style = style_of(exit);
    let count = |word| validation.count(word);
    let broken = count("fail") + count("crash") + count("hang");
    writeln!(
        to,
        "{}: {} hold, {broken} broken, {} warn; {} not applicable, {} skipped, {} inconclusive; {} servers\n\
         {style}exit {}: {}{style:#}",
        validation.subject,
        count("pass"),
        count("warn"),
        count("not-applicable"),
        count("skipped"),
        count("inconclusive"),
        validation.cases,
        exit.code(),
        validation.meaning(),
    )
}
