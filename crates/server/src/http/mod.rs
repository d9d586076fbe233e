//! What all dialects share: bodies, errors, keys, streams, and the server itself.

mod accept;
mod auth;
mod body;
mod errors;
mod listen;
mod router;
mod stream;

pub use auth::ApiKeys;
pub(crate) use body::JsonBody;
pub use listen::{Bound, ServeError, Stopper};
pub(crate) use router::router;
pub(crate) use stream::{Encoder, data, named, push_json, respond, respond_all};
