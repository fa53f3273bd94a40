//! Where checks are played: on the stack as it was given, and on each of its filters alone over our own plugin.

use layers_behaviour::Behaviour;

use crate::outcome::Verdict;
use crate::run::Parameter;
use crate::run::stack::{Layers, Stack};
use crate::server::nbdkit::ServerError;
use crate::validate::judge::discovery::{Explored, Found, discover};
use crate::validate::play::case::Bench;
use crate::validate::script::claims::Claims;

/// Parameter that says how large our own plugin's disk is.
const OWN_SIZE: &str = "64M";

/// A stack that was looked at.
#[derive(Debug)]
pub(in crate::validate) struct ProbedStack {
    /// The stack.
    pub(in crate::validate) stack: Stack,
    /// What it offers; or what there is to be said of every check on it.
    pub(in crate::validate) claims: Result<Claims, Verdict>,
}

impl ProbedStack {
    /// This filter of the stack alone, over our own plugin; and the cases that were played to look at it.
    pub(in crate::validate) fn of_filter(
        bench: &Bench<'_>,
        given: &Stack,
        filter: &str,
        readonly: bool,
    ) -> Result<(ProbedStack, Vec<Explored>), ServerError> {
        let stack = Stack { readonly, ..over(given, filter, &Behaviour::default()) };
        let (found, explored) = discover(bench, &stack, 1)?;
        let claims = match found {
            Found::Claims(claims) => Ok(claims),
            Found::NoExport(reason) | Found::DoesNotStart(reason) => Err(Verdict::NotApplicable(format!(
                "{filter} does not serve over the reference plugin: {reason}"
            ))),
            Found::Halted(halt) => Err(Verdict::Skipped(format!("not judged: {}", halt.reason()))),
            Found::Troubled => Err(Verdict::Inconclusive(format!(
                "{filter} over the reference plugin did not survive a connection"
            ))),
        };
        Ok((ProbedStack { stack, claims }, explored))
    }
}

/// This filter alone, with the parameters that may be its own, over our plugin.
fn over(stack: &Stack, filter: &str, behaviour: &Behaviour) -> Stack {
    let size = Parameter { key: Some("size".to_owned()), value: OWN_SIZE.to_owned() };
    let keyed = stack.parameters.iter().filter(|one| one.key.as_deref().is_some_and(|key| key != "size"));
    Stack {
        layers: Layers::Over { filters: vec![filter.to_owned()], plugin: Box::new(behaviour.clone()) },
        parameters: std::iter::once(size).chain(keyed.cloned()).collect(),
        readonly: false,
        ..stack.clone()
    }
}
