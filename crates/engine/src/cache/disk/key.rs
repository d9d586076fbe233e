//! Names of token prefixes: a chain of hashes, one link per page.
//!
//! The hash is cryptographic. Whoever could make two prefixes with one name could have one
//! user's keys and values served to another.

use std::fmt;

use crate::cache::Key;

/// What entries of a directory must have in common to be exchangeable.
///
/// Two engines with equal identities compute the same bytes for the same tokens. Everything that
/// changes these bytes goes in: the model's weights, the types of keys and values, the page size,
/// rotary scaling, and the device's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub(super) [u8; 32]);

impl Identity {
    /// From named facts, in a fixed order: `[("model", hash), ("keys", b"f16"), ..]`.
    pub fn new(facts: &[(&str, &[u8])]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (name, value) in facts {
            for part in [name.as_bytes(), value] {
                // Lengths keep ("ab", "c") apart from ("a", "bc").
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        // Device bytes are stored as they lie in memory.
        let order: &[u8] = if cfg!(target_endian = "little") {
            b"little"
        } else {
            b"big"
        };
        hasher.update(order);
        Self(hasher.finalize().into())
    }

    /// A short form for folder names and logs.
    pub(super) fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

/// Names all tokens from the first up to the end of some page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChainKey(pub(super) [u8; 32]);

impl ChainKey {
    /// Of no tokens. The same for all models, so that the directory can tell that a prompt is
    /// stored under another one; files say themselves whose they are.
    pub(super) const ROOT: Self = Self([0; 32]);

    /// Of this prefix and `tokens` after it: a whole page, or what is left behind the last one.
    pub(super) fn then(&self, tokens: &[Key]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        let bits = tokens.iter().map(|token| token.to_bits());
        let bytes: Vec<u8> = bits.flat_map(u64::to_le_bytes).collect();
        hasher.update(&bytes);
        Self(hasher.finalize().into())
    }

    /// The keys of all whole pages of `tokens`.
    pub(super) fn pages(tokens: &[Key], page_tokens: usize) -> impl Iterator<Item = Self> {
        let pages = tokens.chunks_exact(page_tokens);
        pages.scan(Self::ROOT, |key, page| {
            *key = key.then(page);
            Some(*key)
        })
    }

    /// Half of it, for file names.
    pub(super) fn short(&self) -> String {
        hex(&self.0[..16])
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainKey({}..)", hex(&self.0[..4]))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of file contents, against decay.
pub(super) type Checksum = [u8; 32];

/// The checksum of several parts, as if they were one.
pub(super) fn checksum(parts: &[&[u8]]) -> Checksum {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_in_every_fact() {
        let base = Identity::new(&[("model", b"a"), ("kv", b"f16")]);
        assert_eq!(base, Identity::new(&[("model", b"a"), ("kv", b"f16")]));
        assert_ne!(base, Identity::new(&[("model", b"b"), ("kv", b"f16")]));
        assert_ne!(base, Identity::new(&[("model", b"a"), ("kv", b"q8_0")]));
        assert_ne!(base, Identity::new(&[("modela", b""), ("kv", b"f16")]));
        assert_ne!(base, Identity::new(&[("model", b"a")]));
    }

    #[test]
    fn keys_name_the_whole_prefix() {
        let keys = |tokens: &[u32]| {
            let tokens: Vec<Key> = tokens.iter().map(|&token| Key::text(token)).collect();
            ChainKey::pages(&tokens, 2).collect::<Vec<_>>()
        };
        let (a, b) = (keys(&[1, 2, 3, 4, 5]), keys(&[9, 2, 3, 4]));
        assert_eq!(a.len(), 2, "whole pages only");
        assert_eq!(a[0], keys(&[1, 2])[0]);
        assert_ne!(a[1], b[1], "equal pages behind other pages");
    }
}
