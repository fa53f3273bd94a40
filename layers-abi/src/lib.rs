//! nbdkit's C interface as the instruments see it, and what the two of them share.
//!
//! | module | answers |
//! |---|---|
//! | [`arguments`] | what each argument and result of a callback puts into the trace |
//! | [`plugin`], [`filter`] | which callbacks there are, with their signatures |
//! | [`layout`] | where they stand in the filter structure of a server version |
//! | [`next`] | how a filter calls the layer below |
//! | [`call`], [`outcome`], [`layer`] | how one call is recorded, and by whom |
//! | [`conditions`] | what the environment asks for beside recording |
//! | [`handle_table`] | which `open` a handle came from |
//! | [`lent`] | what a target did to a buffer that it had for one call |
//! | [`lent_string`] | whether a string of the server still reads as it did |
//! | [`prepared`] | what a reference layer does |
//! | [`side_effects`] | what it does to the server and to itself |
//! | [`system`] | what a target asks of the system, and what fails for it |
//! | [`target`] | how somebody else's file is loaded |
//! | [`watched`] | how an instrument comes into a server that the harness has not started |
//! | [`server`] | the functions of nbdkit that the instruments link |
//!
//! Nothing outside [`server`] refers to a symbol of nbdkit, so that tests of this crate link without it.

pub mod arguments;
pub mod call;
pub mod conditions;
pub mod constants;
pub mod errno;
pub mod filter;
pub mod handle_table;
pub mod init;
pub mod layer;
pub mod layout;
pub mod lent;
pub mod lent_string;
pub mod midway;
pub mod next;
pub mod outcome;
pub mod pauses;
pub mod plugin;
pub mod pointers;
pub mod prepared;
mod record_call;
pub mod server;
pub mod side_effects;
pub mod system;
pub mod target;
pub mod version;
pub mod watched;

pub use init::InitError;
