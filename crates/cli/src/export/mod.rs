//! GGUF files of the family, as published ones are: which tensors, in which types, which metadata.
//!
//! [`layout`] lists a model's tensors, [`mix`] chooses their types, [`metadata`] and
//! [`vocabulary`] fill the header, [`File`] writes all of it. Where the values come from is the
//! commands' business: `convert` takes them from a checkpoint, `synth` makes them up. What the
//! names mean is in `docs/gguf.md`.

mod file;
pub(crate) mod layout;
mod metadata;
mod mix;
mod stream;
mod vocabulary;

pub(crate) use file::{File, Report, Stopped};
pub(crate) use layout::{Extras, Part, Slot};
pub(crate) use mix::Mix;
pub(crate) use stream::write_rows;
