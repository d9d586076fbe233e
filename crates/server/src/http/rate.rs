//! How often one client may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::key_in;
use crate::app::App;
use crate::error::{ApiError, ErrorKind};

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// With more clients than this, those are forgotten that could ask at once again.
const REMEMBERED: usize = 10_000;

/// Buckets of requests: each client's holds a minute's worth, and is filled again as time goes by.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_minute: NonZeroU32,
    clients: Mutex<HashMap<Client, Bucket>>,
}

/// Whoever has a key is that key's owner, wherever it asks from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Key([u8; 32]),
    Address(Option<IpAddr>),
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimit {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self {
            per_minute,
            clients: Mutex::default(),
        }
    }

    /// Takes one request from a client's bucket.
    ///
    /// # Errors
    /// When it is empty, with the seconds until there is one again.
    fn take(&self, client: Client, now: Instant) -> Result<(), u32> {
        let most = f64::from(self.per_minute.get());
        let per_second = most / 60.0;
        let refilled = |bucket: &Bucket| {
            let time = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + time * per_second).min(most)
        };
        // Nobody panics while they hold it.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= REMEMBERED {
            clients.retain(|_, bucket| refilled(bucket) < most);
        }
        let full = Bucket {
            left: most,
            at: now,
        };
        let bucket = clients.entry(client).or_insert(full);
        let left = refilled(bucket);
        (bucket.left, bucket.at) = (left, now);
        if left < 1.0 {
            let seconds = (1.0 - left) / per_second;
            // What rounding has added is no second more.
            return Err((seconds - 1e-6).ceil().max(1.0) as u32);
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// Refuses requests of clients that ask too often. What only tells of the server is free.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(limit) = app
        .rate_limit()
        .filter(|_| request.method() == Method::POST)
    else {
        return next.run(request).await;
    };
    // Without keys, a made-up one would be a new client each time.
    let key = key_in(request.headers()).filter(|_| !app.config().keys.is_empty());
    let client = match key {
        Some(key) => Client::Key(blake3::hash(key.as_bytes()).into()),
        None => Client::Address(request.extensions().get::<Peer>().map(|peer| peer.0)),
    };
    match limit.take(client, Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(seconds) => {
            let per_minute = limit.per_minute.get();
            let why = format!(
                "only {per_minute} requests a minute are answered; try again in {seconds} s"
            );
            let error = ApiError {
                numbers: vec![("requests_per_minute", u64::from(per_minute))],
                retry_after: Some(seconds),
                ..ApiError::new(ErrorKind::TooOften, why)
            };
            error.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn buckets_are_emptied_and_filled_again() {
        let limit = RateLimit::new(NonZeroU32::new(2).unwrap());
        let (one, other) = (Client::Key([1; 32]), Client::Address(None));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.take(one, at(0)), Ok(()));
        assert_eq!(limit.take(one, at(0)), Ok(()));
        assert_eq!(limit.take(one, at(0)), Err(30));
        assert_eq!(limit.take(other, at(0)), Ok(()), "each has its own");
        assert_eq!(limit.take(one, at(10)), Err(20));
        assert_eq!(limit.take(one, at(31)), Ok(()));
        assert_eq!(limit.take(one, at(31)), Err(29));
        assert_eq!(limit.take(one, at(600)), Ok(()));
        for client in 0..=REMEMBERED {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(client as u64).to_le_bytes());
            assert_eq!(
                limit.take(Client::Key(hash), at(600 + client as u64)),
                Ok(())
            );
        }
        assert!(limit.clients.lock().unwrap().len() < 200);
    }
}
