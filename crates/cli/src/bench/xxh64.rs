//! The XXH64 hash: as fast as memory, and the same as `xxhsum -H1` prints, so that anyone can
//! check it. It tells files apart; it does not protect against a forger.

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];

/// Hashes bytes that come in pieces. The seed is 0.
#[derive(Debug, Clone)]
pub(crate) struct Xxh64 {
    lanes: [u64; 4],
    /// What does not fill a stripe of 32 bytes yet.
    rest: Vec<u8>,
    length: u64,
}

impl Xxh64 {
    pub(crate) fn new() -> Self {
        let [p1, p2, ..] = PRIMES;
        Self {
            lanes: [p1.wrapping_add(p2), p2, 0, p1.wrapping_neg()],
            rest: Vec::with_capacity(32),
            length: 0,
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if !self.rest.is_empty() {
            let (head, tail) = bytes.split_at(bytes.len().min(32 - self.rest.len()));
            self.rest.extend_from_slice(head);
            bytes = tail;
            if self.rest.len() < 32 {
                return;
            }
            let full = std::mem::take(&mut self.rest);
            self.stripe(&full);
        }
        let stripes = bytes.chunks_exact(32);
        let rest = stripes.remainder();
        stripes.for_each(|stripe| self.stripe(stripe));
        self.rest.extend_from_slice(rest);
    }

    fn stripe(&mut self, stripe: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, little_endian(word));
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        let [p1, p2, p3, p4, p5] = PRIMES;
        let [a, b, c, d] = self.lanes;
        let mut hash = if self.length < 32 {
            p5
        } else {
            let mixed = [(a, 1), (b, 7), (c, 12), (d, 18)]
                .iter()
                .fold(0u64, |sum, (lane, turn)| {
                    sum.wrapping_add(lane.rotate_left(*turn))
                });
            [a, b, c, d].into_iter().fold(mixed, |hash, lane| {
                (hash ^ round(0, lane)).wrapping_mul(p1).wrapping_add(p4)
            })
        };
        hash = hash.wrapping_add(self.length);
        let mut words = self.rest.chunks_exact(8);
        for word in &mut words {
            hash ^= round(0, little_endian(word));
            hash = hash.rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
        }
        let mut tail = words.remainder();
        if tail.len() >= 4 {
            hash ^= little_endian(&tail[..4]).wrapping_mul(p1);
            hash = hash.rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
            tail = &tail[4..];
        }
        for &byte in tail {
            hash ^= u64::from(byte).wrapping_mul(p5);
            hash = hash.rotate_left(11).wrapping_mul(p1);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(p2);
        hash = (hash ^ hash >> 29).wrapping_mul(p3);
        hash ^ hash >> 32
    }
}

fn round(lane: u64, word: u64) -> u64 {
    let [p1, p2, ..] = PRIMES;
    lane.wrapping_add(word.wrapping_mul(p2))
        .rotate_left(31)
        .wrapping_mul(p1)
}

/// Up to 8 bytes as a number.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        let mut hash = Xxh64::new();
        hash.update(bytes);
        hash.finish()
    }

    #[test]
    fn known_values() {
        // From the xxHash command line tool.
        assert_eq!(hash(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(hash(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(hash(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(
            hash(b"Nobody inspects the spammish repetition"),
            0xFBCE_A83C_8A37_8BF1
        );
    }

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..200u32).map(|value| (value * 7) as u8).collect();
        for cut in [0, 1, 31, 32, 33, 64, 199] {
            let mut pieces = Xxh64::new();
            pieces.update(&bytes[..cut]);
            pieces.update(&bytes[cut..]);
            assert_eq!(pieces.finish(), hash(&bytes), "cut at {cut}");
        }
    }
}
