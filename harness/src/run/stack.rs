//! A stack: a plugin under its filters, and how the server that runs it is started.
//!
//! Its layers are somebody's own, each wrapped, or the reference layers, whose behaviour can be changed:
//!
//! ```
//! use layers::stack::{Layers, Stack};
//! use layers::trace::Callback;
//!
//! let layers = Layers::Wrapped { filters: vec!["cow".to_owned()], plugin: "memory".to_owned() };
//! let somebodys = Stack { layers, ..Stack::reference(0) };
//! let ours = Stack::reference(2).with(1, |filter| {
//!     filter.answers.insert(Callback::CanTrim, 0);
//! });
//! assert_eq!((somebodys.filters(), ours.filters()), (1, 2));
//! ```

use std::collections::{BTreeMap, BTreeSet};

use layers_behaviour::{Behaviour, Behaviours};
use serde::{Deserialize, Serialize};

use crate::run::credentials::Proof;
use crate::run::{Parameter, Tls};

/// Worker threads that may be asked for: as many as a process of Linux has at most in practice.
pub(crate) const MOST_THREADS: u32 = 1 << 15;

/// One server process with its plugin and ordered filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// What the layers are and do.
    pub layers: Layers,
    /// Among layers of our own, those that are somebody else's, wrapped: a name or a file, by number (0 is the plugin).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<u8, String>,
    /// How the server is given the files of filters of our own, by number, where it is not the one file of them all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<u8, Given>,
    /// Parameters after the plugin, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Values of parameters that name a file of the user's: each case gets a copy of its own, and the copy is named.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub copied: BTreeSet<String>,
    /// `-r`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
    /// `-t`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// `--no-sr`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_structured_replies: bool,
    /// `--tls`.
    pub tls: Tls,
    /// Who proves what under TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub proof: Proof,
    /// Further arguments of the server, as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a server is given a file that it has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Given {
    /// Through a symbolic link: to the dynamic linker still the same library.
    Symlink,
    /// As another file with the same contents: to the dynamic linker another library.
    Copy,
}

/// The layers of a stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "there is one for each scenario, and most are the large one")]
pub enum Layers {
    /// Our own plugin and filters.
    Reference(Behaviours),
    /// Somebody else's, each wrapped: files of the filters (outermost first, as on the command line) and the plugin.
    Wrapped {
        /// Outermost first.
        filters: Vec<String>,
        /// The plugin.
        plugin: String,
    },
    /// Somebody else's filters, each wrapped, over our own plugin.
    Over {
        /// Outermost first.
        filters: Vec<String>,
        /// What the plugin is and does.
        plugin: Box<Behaviour>,
    },
}

impl Default for Layers {
    fn default() -> Layers {
        Layers::Reference(Behaviours::default())
    }
}

impl Stack {
    /// A reference plugin of 1 MiB under this many pass-through filters.
    pub fn reference(filters: u8) -> Stack {
        let behaviours =
            Behaviours { filters: vec![Behaviour::default(); usize::from(filters)], ..Behaviours::default() };
        Stack {
            layers: Layers::Reference(behaviours),
            parameters: vec![Parameter { key: Some("size".to_owned()), value: "1M".to_owned() }],
            ..Stack::default()
        }
    }

    /// The same with another behaviour of one layer (0 is the plugin).
    pub fn with(mut self, layer: u8, change: impl FnOnce(&mut Behaviour)) -> Stack {
        if let Layers::Reference(behaviours) = &mut self.layers {
            match usize::from(layer).checked_sub(1) {
                None => change(&mut behaviours.plugin),
                Some(filter) => {
                    if let Some(behaviour) = behaviours.filters.get_mut(filter) {
                        change(behaviour);
                    }
                }
            }
        }
        self
    }

    /// Number of filters.
    pub fn filters(&self) -> u8 {
        let filters = match &self.layers {
            Layers::Reference(behaviours) => behaviours.filters.len(),
            Layers::Wrapped { filters, .. } | Layers::Over { filters, .. } => filters.len(),
        };
        u8::try_from(filters).unwrap_or(u8::MAX)
    }

    /// For each filter of ours, the innermost first: the callbacks that it hands on to the layer below unchanged, and whose
    /// answers it returns. Empty where there are others.
    pub fn hands_on(&self) -> Vec<u64> {
        match &self.layers {
            Layers::Reference(behaviours) if self.replaced.is_empty() => {
                behaviours.filters.iter().map(Behaviour::hands_on).collect()
            }
            _ => Vec::new(),
        }
    }

    /// All layers are ours, and none of them ends the process.
    pub fn never_exits(&self) -> bool {
        let Layers::Reference(behaviours) = &self.layers else { return false };
        let mut layers = [&behaviours.plugin].into_iter().chain(&behaviours.filters);
        self.replaced.is_empty() && !layers.any(Behaviour::exits)
    }
}
