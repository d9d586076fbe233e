//! Ids that nobody can guess, and seeds.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that no other call returns with any likelihood, and that does not tell the next one.
pub(crate) fn number() -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// An id of 24 hexadecimal digits behind a prefix, such as `chatcmpl-`.
pub(crate) fn id(prefix: &str) -> String {
    let mut id = prefix.to_owned();
    for byte in &bytes()[..12] {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}

/// Counts under a key that the system's randomness made once.
fn bytes() -> [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        for part in key.chunks_mut(8) {
            let random = RandomState::new().hash_one(std::process::id());
            part.copy_from_slice(&random.to_le_bytes());
        }
        key
    });
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    blake3::keyed_hash(key, &count.to_le_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let (a, b) = (id("x-"), id("x-"));
        assert_ne!(a, b);
        assert!(a.len() == 26 && a.starts_with("x-"), "{a}");
        assert_ne!(number(), number());
    }
}
