//! The models that can be served: which there are, which are loaded, and which of them a request
//! is for.
//!
//! A loaded model has a thread of its own that drives its engine ([`crate::worker`]). Whoever uses
//! one holds a [`Lease`]; a model is unloaded only when nobody does.

mod lease;
mod names;
mod offer;
mod registry;
mod room;
mod status;

pub(crate) use lease::{Lease, Ticket};
pub(crate) use names::Place;
pub use offer::{
    KeptLoaded, LoadError, LoadedModel, Loader, Loading, ModelFacts, ModelLimits, Offer, Profile,
};
pub(crate) use registry::Registry;
pub(crate) use status::Status;
