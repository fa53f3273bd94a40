//! One case: a server of its own, its clients, the model of its disk, and what is left when it has ended.

pub(super) mod case;
mod clients;
pub(super) mod disk_model;
pub(super) mod evidence;
mod flush_duty;
pub(super) mod in_flight;
pub(super) mod origin;
pub(super) mod played;
mod resource_usage;
mod sanitizers;
pub(super) mod stop;
pub(super) mod twist;
pub(super) mod words;
