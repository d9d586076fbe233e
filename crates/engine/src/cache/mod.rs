//! What need not be computed again: states and pages of prompts that were read before.
//!
//! A recurrent state cannot be cropped, so a prompt can only go on from a place where a snapshot
//! of the state was taken. Those places are chosen where conversations are likely to part or to
//! go on ([`Boundary`]).

mod boundary;
mod chat;
pub mod disk;
mod key;
mod lookup;
mod prefix;
mod settings;
mod tier;
mod tree;

pub use boundary::{Boundary, BoundaryKind};
pub use chat::{boundaries_of_chat, start_of_tool_call};
pub use key::{Key, MediaRun, keys};
pub(crate) use lookup::Lookup;
pub(crate) use prefix::PrefixCache;
pub use settings::CacheSettings;
pub use tier::{Found, Known, Load, Loaded, Occasion, Offer, Snapshot, Tier};
