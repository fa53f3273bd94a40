//! The stack of a case: how it differs from the one that was given.

use layers_behaviour::{Behaviour, Behaviours};

use crate::run::stack::{Layers, Stack};
use crate::validate::checks::check::Twist;
use crate::validate::subject::stock;

/// The innermost layer of a stack that is the subject's.
pub(in crate::validate) fn innermost(stack: &Stack) -> u8 {
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
pub(in crate::validate) fn variable(stack: &Stack) -> Vec<(usize, bool)> {
    let all = stack.parameters.iter().enumerate();
    let own = all.filter(|(place, one)| match &stack.layers {
        Layers::Wrapped { plugin, .. } => !stock::is_code(plugin, *place, one),
        Layers::Over { .. } => *place > 0,
        Layers::Reference(_) => false,
    });
    own.map(|(place, one)| (place, one.key.is_some())).collect()
}

/// The stack of a case.
pub(in crate::validate) fn twisted(stack: &Stack, twist: &Twist) -> Stack {
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
