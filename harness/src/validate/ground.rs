//! Where checks are played: on the stack as it was given, and on each of its filters alone over our own plugin.

use layers_behaviour::{Behaviour, Behaviours};

use super::case::Bench;
use super::check::Twist;
use super::claims::Claims;
use super::discovery::{Explored, Found, discover};
use super::stock;
use crate::run::Parameter;
use crate::server::nbdkit::ServerError;
use crate::stack::{Layers, Stack};
use crate::verdict::Verdict;

/// Parameter that says how large our own plugin's disk is.
const OWN_SIZE: &str = "64M";

/// A stack that was looked at.
#[derive(Debug)]
pub(super) struct Ground {
    /// The stack.
    pub(super) stack: Stack,
    /// What it offers; or what there is to be said of every check on it.
    pub(super) claims: Result<Claims, Verdict>,
}

impl Ground {
    /// This filter of the stack alone, over our own plugin; and the cases that were played to look at it.
    pub(super) fn of_filter(
        bench: &Bench<'_>,
        given: &Stack,
        filter: &str,
        readonly: bool,
    ) -> Result<(Ground, Vec<Explored>), ServerError> {
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
        Ok((Ground { stack, claims }, explored))
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

/// The innermost layer of a stack that is the subject's.
pub(super) fn innermost(stack: &Stack) -> u8 {
    match &stack.layers {
        Layers::Wrapped { .. } => 0,
        Layers::Over { .. } => 1,
        Layers::Reference(_) => stack.replaced.keys().next().copied().unwrap_or(0),
    }
}

/// Takes the parameters away, but not the code of what is judged.
fn bare(stack: &mut Stack) {
    let Layers::Wrapped { plugin, .. } = &stack.layers else { return stack.parameters.clear() };
    let kept = stack.parameters.iter().enumerate().filter(|(index, one)| stock::is_code(plugin, *index, one));
    stack.parameters = kept.map(|(_, one)| one.clone()).collect();
}

/// The parameters that are not the code of what is judged, and not ours: the place of each, and whether it has a key.
pub(super) fn variable(stack: &Stack) -> Vec<(usize, bool)> {
    let all = stack.parameters.iter().enumerate();
    let own = all.filter(|(place, one)| match &stack.layers {
        Layers::Wrapped { plugin, .. } => !stock::is_code(plugin, *place, one),
        Layers::Over { .. } => *place > 0,
        Layers::Reference(_) => false,
    });
    own.map(|(place, one)| (place, one.key.is_some())).collect()
}

/// The stack of a case.
pub(super) fn twisted(stack: &Stack, twist: &Twist) -> Stack {
    let mut stack = stack.clone();
    match twist {
        Twist::None => {}
        Twist::Readonly => stack.readonly = true,
        Twist::Parameter(parameter) => stack.parameters.push(parameter.clone()),
        Twist::Bare => bare(&mut stack),
        Twist::OneThread => stack.threads = Some(1),
        Twist::Without(place) if *place < stack.parameters.len() => {
            stack.parameters.remove(*place);
        }
        Twist::Without(_) => {}
        Twist::Emptied(place) => {
            if let Some(parameter) = stack.parameters.get_mut(*place) {
                parameter.value.clear();
            }
        }
        Twist::OverFilter => {
            if let Layers::Over { filters, plugin } = &stack.layers {
                stack.replaced = (2..).zip(filters.iter().rev().cloned()).collect();
                let ours = vec![Behaviour::default(); filters.len() + 1];
                stack.layers = Layers::Reference(Behaviours { plugin: (**plugin).clone(), filters: ours });
            }
        }
        Twist::Over(behaviour) => {
            if let Layers::Over { plugin, .. } = &mut stack.layers {
                plugin.clone_from(behaviour);
            }
        }
    }
    stack
}
