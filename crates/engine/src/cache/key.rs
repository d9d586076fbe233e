//! By what prompts are compared: tokens, and what images and videos stand for.

use std::ops::Range;

/// One place of a prompt: a text token, or a part of an image.
///
/// The pad tokens of all images are the same, so they are compared by a hash of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// Text tokens are below this bit, hashes have it set.
const MEDIA: u64 = 1 << 63;

impl Key {
    /// Of a text token.
    pub fn text(token: u32) -> Self {
        Self(u64::from(token))
    }

    /// Of a token that stands for a part of an image or video with this hash.
    pub fn media(hash: u64) -> Self {
        Self(hash | MEDIA)
    }

    /// Whether it stands for a part of an image or video.
    pub fn is_media(self) -> bool {
        self.0 & MEDIA != 0
    }

    /// As a number, for storage.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From [`Key::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// The tokens of one image or video in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRun {
    /// Which tokens of the prompt.
    pub tokens: Range<usize>,
    /// Of its content and of everything that decides how it is embedded.
    pub hash: u64,
}

/// The keys of a prompt.
pub fn keys(tokens: &[u32], media: &[MediaRun]) -> Vec<Key> {
    let mut keys: Vec<Key> = tokens.iter().map(|&token| Key::text(token)).collect();
    for run in media {
        if let Some(run_keys) = keys.get_mut(run.tokens.clone()) {
            run_keys.fill(Key::media(run.hash));
        }
    }
    keys
}
