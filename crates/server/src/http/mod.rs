//! What all dialects share: bodies, errors, keys, streams, and the server itself.

mod accept;
mod auth;
mod body;
mod errors;
mod late;
mod listen;
mod rate;
mod router;
mod stream;
mod tls;

pub use auth::ApiKeys;
pub(crate) use body::JsonBody;
pub(crate) use late::{StreamForm, with_model};
pub use listen::{Bound, ServeError, Stopper};
pub(crate) use rate::RateLimit;
pub(crate) use router::router;
pub(crate) use stream::{Encoder, data, named, push_json, respond, respond_all};
pub use tls::{TlsError, TlsFiles};
