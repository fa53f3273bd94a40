//! The options of `layers trace`.

use std::path::PathBuf;

use clap::Args;

use super::super::bounds;
use super::super::reports::Report;
use super::super::stack_args::StackArgs;
use super::show::Picture;

pub(super) const NO_PLUGIN: &str =
    "name a plugin, or a scenario with --scenario (`layers trace --list` lists them)";

#[derive(Debug, Args)]
#[command(
    override_usage = "layers trace [OPTIONS] [nbdkit] [--filter=FILTER]... PLUGIN [KEY=VALUE]... [-- CLIENT COMMAND]\n       \
    layers trace [OPTIONS] haproxy -f CONFIG [-- COMMAND | 'GET [FRONTEND]/PATH'...]\n       layers trace [OPTIONS] --scenario NAME\n       layers trace --list"
)]
pub(in crate::cli) struct Arguments {
    /// A named scenario with the reference layers, instead of layers of your own
    #[arg(long, value_name = "NAME", conflicts_with_all = ["filters", "plugin", "client"])]
    pub(super) scenario: Option<String>,
    /// List the named scenarios
    #[arg(long, exclusive = true)]
    pub(super) list: bool,
    /// The server program, if it is not the one on the PATH
    #[arg(long, value_name = "PATH")]
    pub(super) server: Option<PathBuf>,
    /// How to show it, and in which file if not on standard output; may be repeated [default: tree] [formats: tree, perfetto, html]
    #[arg(long, value_name = "FORMAT[=FILE]")]
    pub(super) report: Vec<Report<Picture>>,
    /// Keep the trace in this file, for `layers check`
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// Seconds that the whole run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: u64,
    #[command(flatten)]
    pub(super) bounds: bounds::Arguments,
    /// HAProxy's configuration; `{dir}` in it becomes a private directory, and what is bound elsewhere is left out; may be
    /// repeated
    #[arg(short = 'f', value_name = "CONFIG")]
    pub(super) configuration: Vec<PathBuf>,
    /// A module with keywords or services of yours, which is preloaded into HAProxy; may be repeated
    #[arg(long = "module", value_name = "FILE")]
    pub(super) modules: Vec<PathBuf>,
    /// So many clients at the same time ask HAProxy all of it
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) clients: u32,
    #[command(flatten)]
    pub(super) words: StackArgs,
    /// A program that drives nbdkit (`{uri}` in it becomes the address), or commands and requests for HAProxy (`show info`,
    /// `GET /x`, `GET FRONTEND/x`); what the program prints passes as it comes, to standard error
    #[arg(last = true, value_name = "CLIENT COMMAND")]
    pub(super) client: Vec<String>,
}
