//! Byte-pair encoding of one piece of text: merge the best-ranked neighbours until none is left.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::TokenId;
use super::error::TokenizerError;

/// The merge table and the tokens of single bytes.
#[derive(Debug)]
pub(crate) struct Bpe {
    byte_ids: Box<[Option<TokenId>; 256]>,
    merges: HashMap<Pair, Merge, BuildHasherDefault<PairHasher>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Merge {
    /// Lower ranks merge first.
    pub(crate) rank: u32,
    pub(crate) merged: TokenId,
}

/// Two neighbouring tokens in one word, so that hashing is one multiplication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair(u64);

impl Pair {
    fn new(left: TokenId, right: TokenId) -> Self {
        Self((u64::from(left) << 32) | u64::from(right))
    }
}

impl std::hash::Hash for Pair {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Looking pairs up is most of the work, and the keys come from the model file alone: a text
/// cannot choose them, so the default hasher's protection buys nothing here.
#[derive(Debug, Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // 2^64 / golden ratio. The rotation brings the well-mixed high bits down to where the
        // table takes its index from.
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32);
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (self.0 >> 29);
    }
}

/// Buffers of [`Bpe::encode`], kept between pieces.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Reverse<Candidate>>,
}

/// A token of the piece in the making, linked to its neighbours.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    token: TokenId,
    /// Index of the neighbour, `NONE` at the ends.
    previous: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;
/// Marks a symbol that was merged into its left neighbour. No vocabulary has that many tokens.
const MERGED_AWAY: TokenId = TokenId::MAX;

/// A merge that was possible when it was found. Ordered by rank, then from left to right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    merged: TokenId,
    tokens: (TokenId, TokenId),
}

impl Bpe {
    pub(crate) fn new(
        byte_ids: Box<[Option<TokenId>; 256]>,
        merges: impl IntoIterator<Item = ((TokenId, TokenId), Merge)>,
    ) -> Self {
        let merges = merges
            .into_iter()
            .map(|((left, right), merge)| (Pair::new(left, right), merge))
            .collect();
        Self { byte_ids, merges }
    }

    /// Appends the tokens of `piece` to `tokens`, in O(n log n).
    ///
    /// # Errors
    /// When a byte of the piece has no token.
    pub(crate) fn encode(
        &self,
        piece: &[u8],
        scratch: &mut Scratch,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        self.fill(piece, scratch)?;
        let Scratch {
            symbols,
            candidates,
        } = scratch;
        for left in 1..symbols.len() {
            self.consider(symbols, candidates, left as u32 - 1);
        }
        while let Some(Reverse(best)) = candidates.pop() {
            self.apply(&best, symbols, candidates);
        }
        tokens.extend(
            symbols
                .iter()
                .map(|symbol| symbol.token)
                .filter(|&token| token != MERGED_AWAY),
        );
        Ok(())
    }

    /// Starts with a symbol for each byte.
    fn fill(&self, piece: &[u8], scratch: &mut Scratch) -> Result<(), TokenizerError> {
        if piece.len() >= NONE as usize {
            return Err(TokenizerError::PieceTooLong { bytes: piece.len() });
        }
        scratch.candidates.clear();
        scratch.symbols.clear();
        for (index, &byte) in (0_u32..).zip(piece) {
            let token = self.byte_ids[usize::from(byte)]
                .ok_or(TokenizerError::ByteWithoutToken { byte })?;
            scratch.symbols.push(Symbol {
                token,
                previous: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
            });
        }
        if let Some(last) = scratch.symbols.last_mut() {
            last.next = NONE;
        }
        Ok(())
    }

    /// Queues the merge of the symbol at `left` with its right neighbour, if there is one.
    fn consider(
        &self,
        symbols: &[Symbol],
        candidates: &mut BinaryHeap<Reverse<Candidate>>,
        left: u32,
    ) {
        let symbol = symbols[left as usize];
        if symbol.next == NONE {
            return;
        }
        let tokens = (symbol.token, symbols[symbol.next as usize].token);
        if let Some(&Merge { rank, merged }) = self.merges.get(&Pair::new(tokens.0, tokens.1)) {
            candidates.push(Reverse(Candidate {
                rank,
                left,
                merged,
                tokens,
            }));
        }
    }

    /// Merges the pair of `best`, unless an earlier merge took one of its halves.
    fn apply(
        &self,
        best: &Candidate,
        symbols: &mut [Symbol],
        candidates: &mut BinaryHeap<Reverse<Candidate>>,
    ) {
        let left = symbols[best.left as usize];
        if left.token != best.tokens.0 || left.next == NONE {
            return;
        }
        let right = symbols[left.next as usize];
        if right.token != best.tokens.1 {
            return;
        }
        symbols[left.next as usize].token = MERGED_AWAY;
        symbols[best.left as usize].token = best.merged;
        symbols[best.left as usize].next = right.next;
        if right.next != NONE {
            symbols[right.next as usize].previous = best.left;
        }
        if left.previous != NONE {
            self.consider(symbols, candidates, left.previous);
        }
        self.consider(symbols, candidates, best.left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens 0..256 are the bytes; merges make 256, 257, ... in the order given.
    fn check(merges: &[(u32, u32)], piece: &[u8], want: &[u32]) {
        let byte_ids = Box::new(std::array::from_fn(|byte| Some(byte as u32)));
        let merges = merges.iter().zip(0..).map(|(&pair, rank)| {
            let merged = 256 + rank;
            (pair, Merge { rank, merged })
        });
        let mut tokens = Vec::new();
        Bpe::new(byte_ids, merges)
            .encode(piece, &mut Scratch::default(), &mut tokens)
            .unwrap();
        assert_eq!(tokens, want, "{piece:?}");
    }

    #[test]
    fn merges_by_rank_then_from_the_left() {
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        check(&[(a, a)], b"aaa", &[256, a]);
        check(&[(a, a), (256, 256)], b"aaaaa", &[257, a]);
        check(&[(b, a), (a, b)], b"aba", &[a, 256]);
        check(&[(a, b), (b, a)], b"aba", &[256, a]);
        check(&[(a, b), (256, b)], b"abbab", &[257, 256]);
        check(&[], b"ab", &[a, b]);
        check(&[], b"", &[]);
    }

    #[test]
    fn a_byte_without_a_token_is_an_error() {
        let mut byte_ids: Box<[_; 256]> = Box::new([Some(0); 256]);
        byte_ids[7] = None;
        let encoded = Bpe::new(byte_ids, []).encode(&[1, 7], &mut Scratch::default(), &mut vec![]);
        assert!(matches!(
            encoded,
            Err(TokenizerError::ByteWithoutToken { byte: 7 })
        ));
    }
}
