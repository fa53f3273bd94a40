//! A stack as it is written on nbdkit's own command line.

use clap::Args;

use super::failure::Failure;
use crate::outcome::Exit;
use crate::run::options;
use crate::run::stack::{Layers, MOST_THREADS, Stack};
use crate::validate::subject;

/// Returns a debug flag that is written as nbdkit(1) has it.
fn debug_flag(word: &str) -> Result<String, &'static str> {
    let (flag, number) = word.split_once('=').ok_or("it is LAYER.FLAG=N")?;
    let named = flag.split_once('.').is_some_and(|(layer, flag)| !layer.is_empty() && !flag.is_empty());
    match named && number.parse::<i32>().is_ok() {
        true => Ok(word.to_owned()),
        false => Err("it is LAYER.FLAG=N, where N is a number"),
    }
}

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct StackArgs {
    /// A filter (name or path), outermost first; may be repeated
    #[arg(long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Serve read-only
    #[arg(short, long)]
    readonly: bool,
    /// Worker threads for each connection
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_THREADS)))]
    threads: Option<u32>,
    /// A debug flag of the server or a layer, as nbdkit takes it; may be repeated
    #[arg(short = 'D', long = "debug", value_name = "LAYER.FLAG=N", value_parser = debug_flag)]
    debug: Vec<String>,
    /// One more argument for the server, as it is; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// The plugin (name or path) and its parameters
    #[arg(value_name = "PLUGIN", num_args = 0..)]
    pub(super) plugin: Vec<String>,
}

impl StackArgs {
    /// The stack. `nbdkit` before the plugin names the server; a plugin of that name is written as a path.
    pub(super) fn stack(&self, without: &str) -> Result<Stack, Failure> {
        let named = self.plugin.first().is_some_and(|word| word == "nbdkit");
        let mut words = self.plugin.iter().skip(usize::from(named));
        let plugin = words.next().cloned().ok_or_else(|| Failure::new(Exit::Usage, without))?;
        let refused = |refused| Failure::new(Exit::Usage, refused);
        options::check(&self.server_arg, options::Words::Users).map_err(refused)?;
        words.clone().try_for_each(|word| options::check_parameter(word)).map_err(refused)?;
        let debug = self.debug.iter().flat_map(|flag| ["-D".to_owned(), flag.clone()]);
        Ok(Stack {
            layers: Layers::Wrapped { filters: self.filters.clone(), plugin },
            parameters: words.map(|word| subject::parameter(word)).collect(),
            readonly: self.readonly,
            threads: self.threads,
            arguments: debug.chain(self.server_arg.iter().cloned()).collect(),
            ..Stack::default()
        })
    }
}
