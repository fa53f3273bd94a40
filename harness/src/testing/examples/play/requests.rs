//! The requests of an example, and what a server does for them.

use layers_trace::{Callback, Event, Field, Operation, Speaker};

use super::Player;
use crate::protocol::is_gone;
use crate::testing::examples::fields::{fill, put_result};
use crate::testing::examples::parse::{Half, Step, steps};
use crate::testing::examples::words::{OPERATIONS, choice};
use crate::testing::text;
use crate::version::Version;

impl Player {
    pub(super) fn request(&mut self, step: &Step, operation: Operation) {
        let kept = self.tid;
        self.script.tid = 100 + self.client;
        let client = self.client;
        let begun = (step.half != Half::End).then(|| {
            self.last = self.script.events.len();
            let event = self.script.request(client, operation);
            if operation.is_data() && operation != Operation::Flush {
                (event.a, event.c) = (4096, 512);
            }
            if choice(operation) && step.arguments.iter().all(|argument| argument.key.is_some()) {
                event.texts.push(text(Field::Export, ""));
            }
            fill(event, &step.arguments, Field::Export);
            event.position
        });
        if let Some(position) = begun {
            self.waiting.push((client, operation, position));
        }
        if step.half == Half::Begin {
            return self.steps(step.inner.as_deref().unwrap_or_default());
        }
        if step.half == Half::Both {
            match &step.inner {
                Some(inner) => self.steps(inner),
                None if step.result.as_deref().is_none_or(|result| result == "0") => {
                    self.carried_out(operation)
                }
                None => {}
            }
        }
        self.tid = kept;
        let mine = |one: &&(u32, Operation, u32)| (one.0, one.1) == (client, operation);
        let position = begun.or_else(|| self.waiting.iter().rfind(mine).map(|one| one.2)).expect("a request");
        self.waiting.retain(|one| one.2 != position);
        self.script.tid = 100 + client;
        if step.half == Half::End {
            self.last = self.script.events.len();
        }
        let (size, flags) = (self.outermost(Callback::GetSize).cast_unsigned(), self.flags());
        let event = self.script.reply(position, 0);
        event.layer = match operation {
            Operation::Read | Operation::BlockStatus => Speaker::Structured as u8,
            operation if operation.is_data() => Speaker::Simple as u8,
            _ => 0,
        };
        if let Some(result) = &step.result {
            put_result(event, result, Field::Export);
        }
        // Some errors the client tells by itself.
        let error = event.errno().cast_signed();
        if event.result() < 0 && (is_gone(error) || error == libc::ETIMEDOUT) {
            event.layer = 0;
        }
        if choice(operation) && event.a == 0 {
            (event.context, event.b, event.d) = (size, flags, 1);
            event.texts.push(text(Field::Name, "base:allocation"));
        }
        if event.a != 0 {
            (event.context, event.d) = (0, 0);
        }
        fill(event, &step.told, Field::Export);
    }

    /// Plays what a server does for a request of which an example says no more.
    pub(super) fn carried_out(&mut self, operation: Operation) {
        let names = |event: &Event| event.texts.iter().any(|text| !text.bytes.is_empty());
        let asks = self.run.version >= Version(1, 21, 22) && !self.script.events.last().is_some_and(names);
        let open = if asks { "default_export open" } else { "open" };
        let (.., inner) =
            OPERATIONS.iter().find(|(_, one, _)| *one == operation).expect("it is in the table");
        let begun = self.last;
        self.steps(&steps(&inner.replace("OPEN", open)));
        self.last = begun;
    }
}
