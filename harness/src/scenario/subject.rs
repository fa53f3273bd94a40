//! A named scenario with somebody else's layers in place of ours.
//!
//! What a scenario is about must not be lost with our layers: one whose layers misbehave on purpose says nothing of another
//! stack. And its clients must take what they are offered: another plugin may not write, or may have no such export.

use std::collections::BTreeSet;

use layers_behaviour::Behaviour;

use super::{Ending, Scenario, Step};
use crate::run::stack::{Layers, Stack};
use crate::version::Which;

/// Why a scenario cannot be played with layers that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitSubject {
    /// It is one of HAProxy's.
    #[error("it is a scenario of HAProxy")]
    Haproxy,
    /// Its layers are what it is about.
    #[error("it is about what layers of our own do")]
    OurLayers,
    /// Its calls vary from run to run.
    #[error("its calls come in another order each time")]
    Unordered,
    /// Its clients have several requests in flight, or leave while one is.
    #[error("requests that are in flight together meet in another order each time")]
    InFlight,
    /// Clients are connected at the same time, and the stack does not serve them so.
    #[error("clients of it are served at the same time, which the thread model of the stack does not allow")]
    Together,
    /// The moment of its end varies.
    #[error("the server is stopped while clients are connected, and what it still does then varies")]
    EndsEarly,
}

impl Scenario {
    /// This scenario with the layers of `subject`, whose clients send what they are offered, and expect nothing of how it is
    /// answered. Options of both stacks count.
    ///
    /// # Errors
    ///
    /// The scenario would lose what it is about, or would not make the same calls each time.
    pub fn with_layers(&self, subject: &Stack) -> Result<Scenario, UnfitSubject> {
        self.fits_others()?;
        let own = &self.stack;
        let stack = Stack {
            readonly: subject.readonly || own.readonly,
            threads: own.threads.or(subject.threads),
            no_structured_replies: subject.no_structured_replies || own.no_structured_replies,
            tls: own.tls,
            proof: own.proof,
            arguments: [own.arguments.clone(), subject.arguments.clone()].concat(),
            ..subject.clone()
        };
        let script = self.script.iter().cloned().map(Step::taking_any_answer).collect();
        Ok(Scenario { stack, script, ..self.clone() })
    }

    /// Several clients are connected at the same time.
    pub fn clients_meet(&self) -> bool {
        let mut connected = BTreeSet::new();
        self.script.iter().any(|step| {
            match step.plain() {
                Step::Connect(client, _) | Step::ConnectTls(client) => connected.insert(*client),
                Step::ConnectRaw(client) | Step::Dial(client) => connected.insert(*client),
                Step::Abort(client) | Step::Disconnect(client) | Step::HangUp(client) => {
                    connected.remove(client)
                }
                Step::Dropped(client) => connected.remove(client),
                _ => false,
            };
            connected.len() > 1
        })
    }

    fn fits_others(&self) -> Result<(), UnfitSubject> {
        if self.server() != Which::Nbdkit {
            return Err(UnfitSubject::Haproxy);
        }
        if self.is_about_its_layers() {
            return Err(UnfitSubject::OurLayers);
        }
        if !self.repeatable || self.needs_quiet() {
            return Err(UnfitSubject::Unordered);
        }
        if self.script.iter().any(Step::leaves_in_flight) {
            return Err(UnfitSubject::InFlight);
        }
        match self.ending {
            Ending::Stop(_) | Ending::ByItself => Ok(()),
            Ending::Interrupt(_) | Ending::Cut(_) | Ending::CommandEnds => Err(UnfitSubject::EndsEarly),
        }
    }

    /// Other layers would make another scenario of it.
    fn is_about_its_layers(&self) -> bool {
        let Layers::Reference(behaviours) = &self.stack.layers else { return true };
        let plain = Behaviour::default();
        let parameters = &Stack::reference(0).parameters;
        behaviours.plugin != plain
            || behaviours.filters.iter().any(|filter| *filter != plain)
            || !self.stack.replaced.is_empty()
            || !self.stack.given.is_empty()
            || self.stack.parameters != *parameters
            || self.start_fails
            || self.command.is_some()
            || !self.expects.is_empty()
    }
}

impl Step {
    /// What a client does that knows nothing of the stack: it sends what it is offered, and takes any answer.
    fn taking_any_answer(self) -> Step {
        match self {
            Step::Request(client, command) => Step::Offered(client, vec![command]).perhaps(),
            Step::Fails(step) | Step::Perhaps(step) => step.taking_any_answer(),
            step => step.perhaps(),
        }
    }

    fn leaves_in_flight(&self) -> bool {
        let plain = self.plain();
        matches!(plain, Step::Pipeline(..) | Step::Running(..) | Step::Entered(..) | Step::Signal(_))
    }

    /// The step itself, whatever is expected of it.
    pub(crate) fn plain(&self) -> &Step {
        match self {
            Step::Fails(step) | Step::Perhaps(step) => step.plain(),
            step => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::named;

    fn with(name: &str) -> Result<Scenario, UnfitSubject> {
        let layers = Layers::Wrapped { filters: vec!["cow".to_owned()], plugin: "memory".to_owned() };
        let subject = Stack { layers, arguments: vec!["-v".to_owned()], ..Stack::default() };
        named::find(name).unwrap().with_layers(&subject)
    }

    #[test]
    fn the_options_of_both_stacks_count() {
        let scenario = with("readonly/server").unwrap();
        assert!(scenario.stack.readonly);
        assert_eq!((scenario.stack.filters(), scenario.stack.arguments.len()), (1, 1));
        assert_eq!(scenario.stack.parameters, [], "those of the subject, not of our plugin");
    }

    #[test]
    fn its_clients_take_any_answer() {
        let scenario = with("readonly/server").unwrap();
        assert!(scenario.script.iter().all(|step| matches!(step, Step::Perhaps(_))), "{:?}", scenario.script);
    }

    #[test]
    fn clients_meet_where_one_comes_before_another_has_left() {
        let meet = |name| with(name).unwrap().clients_meet();
        assert!(meet("connections/several"));
        assert!(!meet("leave/abort"), "the second client comes when the first has gone");
        assert!(!meet("classical"));
    }

    #[test]
    fn what_would_lose_its_meaning_is_refused_with_the_reason() {
        let refused = |name| with(name).err();
        assert_eq!(refused("absent/filter"), Some(UnfitSubject::OurLayers));
        assert_eq!(refused("start-fails/captive"), Some(UnfitSubject::OurLayers));
        assert_eq!(refused("connections/pipelined"), Some(UnfitSubject::InFlight));
        assert_eq!(refused("leave/hang-up-unread"), Some(UnfitSubject::Unordered));
        assert_eq!(refused("end/sigkill-idle"), Some(UnfitSubject::EndsEarly));
        assert_eq!(refused("leave-cli/table"), Some(UnfitSubject::Haproxy));
    }
}
