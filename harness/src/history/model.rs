//! The thread model in force, as far as the trace tells it.

use layers_trace::Event;

/// How much may run at the same time (nbdkit-plugin(3), "Threads"), the most serial first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadModel {
    /// NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS.
    SerializeConnections,
    /// NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS.
    SerializeAllRequests,
    /// NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS.
    SerializeRequests,
    /// NBDKIT_THREAD_MODEL_PARALLEL.
    Parallel,
}

impl ThreadModel {
    /// The model with this number; a larger one is clamped, a negative one is a failure.
    pub(super) fn from_number(number: i64) -> Option<ThreadModel> {
        match number {
            ..0 => None,
            0 => Some(ThreadModel::SerializeConnections),
            1 => Some(ThreadModel::SerializeAllRequests),
            2 => Some(ThreadModel::SerializeRequests),
            _ => Some(ThreadModel::Parallel),
        }
    }
}

/// What has been said of thread models.
#[derive(Debug, Default)]
pub(super) struct Models {
    /// Answer of the plugin's thread_model.
    pub(super) plugin: Option<ThreadModel>,
    /// The most serial answer of a filter's.
    pub(super) filters: Option<ThreadModel>,
    /// The most serial one that a filter's get_ready was told.
    pub(super) told: Option<ThreadModel>,
    /// The one that the server is bound to by all of them.
    pub(super) in_force: Option<ThreadModel>,
}

impl Models {
    pub(super) fn answered(&mut self, exit: &Event) {
        let answer = ThreadModel::from_number(exit.result());
        let most_serial = if exit.layer == 0 { &mut self.plugin } else { &mut self.filters };
        *most_serial = (*most_serial).into_iter().chain(answer).min();
    }

    pub(super) fn was_told(&mut self, enter: &Event) {
        if enter.layer > 0 {
            let told = ThreadModel::from_number(enter.a.cast_signed());
            self.told = self.told.into_iter().chain(told).min();
        }
    }
}
