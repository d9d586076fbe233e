//! How cache files look: a checked header, then bytes of the device.
//!
//! Two kinds of file. A *run* holds the key/value pages of consecutive whole pages; a *boundary*
//! holds what is needed to go on from one point: the recurrent state, the tokens behind the last
//! whole page with their page, and the last token's rows. All numbers are little-endian.
//!
//! ```text
//! header   magic [8]  kind u32  version u32  header bytes u32  0 u32  identity [32]
//!   run       parent key [32]  first page u32  pages u32
//!             per page: tokens [page_tokens] u64, checksum of its bytes [32]
//!   boundary  key of the whole pages [32]  whole pages u32  tail tokens u32
//!             flags u32  kind u32  message u32  0 u32
//!             checksum of the payload [32]  tail [tail tokens] u64
//!          checksum of the header so far [32]
//! payload
//!   run       per page: page_bytes
//!   boundary  tail page (if there is a tail), state, hidden row (flag 1), logits (flag 2)
//! ```
//!
//! Sizes of pages and states come from the engine, never from a file.

use super::key::{ChainKey, Checksum, Identity, checksum};
use crate::cache::{BoundaryKind, Key};

const MAGIC: [u8; 8] = *b"TIDEKVS\n";
/// Raised when a file of an older program must not be read any more.
pub(super) const VERSION: u32 = 1;
const KIND_RUN: u32 = 1;
const KIND_BOUNDARY: u32 = 2;
const FLAG_HIDDEN: u32 = 1;
const FLAG_LOGITS: u32 = 2;
/// Bytes before the part that differs by kind.
pub(super) const PREFIX_BYTES: usize = 8 + 4 * 4 + 32;
/// No header is larger: a run of this many pages of 1024 tokens.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// The most pages in a run: eviction works by file, so files stay moderate.
pub(super) const MAX_RUN_PAGES: usize = 64;

/// The sizes of what is stored, all in bytes but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Tokens per page.
    pub page_tokens: usize,
    /// One page over all layers.
    pub page_bytes: usize,
    /// One sequence's recurrent state.
    pub state_bytes: usize,
    /// One hidden row.
    pub hidden_bytes: usize,
    /// One row of logits.
    pub logits_bytes: usize,
}

/// The header of a run of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunHeader {
    /// Of the tokens before the first page.
    pub(super) parent: ChainKey,
    /// The first page's index in its sequence.
    pub(super) first_page: u32,
    pub(super) pages: Vec<PageHeader>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) tokens: Vec<Key>,
    pub(super) sum: Checksum,
}

/// Which of the last token's rows a boundary has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) hidden: bool,
    pub(super) logits: bool,
}

impl Rows {
    /// The bytes of the hidden row and of the logits.
    pub(super) fn bytes(self, shape: &Shape) -> (usize, usize) {
        let of = |is_there, bytes| if is_there { bytes } else { 0 };
        (
            of(self.hidden, shape.hidden_bytes),
            of(self.logits, shape.logits_bytes),
        )
    }
}

/// The header of a boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundaryHeader {
    /// Of the whole pages before it.
    pub(super) pages_key: ChainKey,
    pub(super) whole_pages: u32,
    /// The tokens behind the last whole page, fewer than a page.
    pub(super) tail: Vec<Key>,
    pub(super) kind: BoundaryKind,
    pub(super) rows: Rows,
    pub(super) sum: Checksum,
}

/// Either header, and the number of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    Run(RunHeader),
    Boundary(BoundaryHeader),
}

impl RunHeader {
    pub(super) fn payload_bytes(&self, shape: &Shape) -> u64 {
        self.pages.len() as u64 * shape.page_bytes as u64
    }

    pub(super) fn encode(&self, identity: &Identity) -> Vec<u8> {
        let mut out = Encoder::new(KIND_RUN, identity);
        out.bytes(&self.parent.0);
        out.number(self.first_page);
        out.number(self.pages.len() as u32);
        for page in &self.pages {
            out.tokens(&page.tokens);
            out.bytes(&page.sum);
        }
        out.finish()
    }
}

impl BoundaryHeader {
    pub(super) fn payload_bytes(&self, shape: &Shape) -> u64 {
        let tail = if self.tail.is_empty() {
            0
        } else {
            shape.page_bytes
        };
        let (hidden, logits) = self.rows.bytes(shape);
        [tail, shape.state_bytes, hidden, logits]
            .iter()
            .map(|&bytes| bytes as u64)
            .sum()
    }

    pub(super) fn encode(&self, identity: &Identity) -> Vec<u8> {
        let mut out = Encoder::new(KIND_BOUNDARY, identity);
        out.bytes(&self.pages_key.0);
        out.number(self.whole_pages);
        out.number(self.tail.len() as u32);
        let hidden = if self.rows.hidden { FLAG_HIDDEN } else { 0 };
        let logits = if self.rows.logits { FLAG_LOGITS } else { 0 };
        let (kind, message) = kind_numbers(self.kind);
        for number in [hidden | logits, kind, message, 0] {
            out.number(number);
        }
        out.bytes(&self.sum);
        out.tokens(&self.tail);
        out.finish()
    }
}

fn kind_numbers(kind: BoundaryKind) -> (u32, u32) {
    match kind {
        BoundaryKind::EndOfSystem => (0, 0),
        BoundaryKind::EndOfMessage(message) => (1, message as u32),
        BoundaryKind::StartOfGeneration => (2, 0),
        BoundaryKind::StartOfToolCall => (3, 0),
        BoundaryKind::EndOfGeneration => (4, 0),
        BoundaryKind::Spaced => (5, 0),
        BoundaryKind::Parting => (6, 0),
        BoundaryKind::EndOfQuestion(message) => (7, message as u32),
    }
}

fn kind_from(number: u32, message: u32) -> Result<BoundaryKind, Unusable> {
    Ok(match number {
        0 => BoundaryKind::EndOfSystem,
        1 => BoundaryKind::EndOfMessage(message as usize),
        2 => BoundaryKind::StartOfGeneration,
        3 => BoundaryKind::StartOfToolCall,
        4 => BoundaryKind::EndOfGeneration,
        5 => BoundaryKind::Spaced,
        6 => BoundaryKind::Parting,
        7 => BoundaryKind::EndOfQuestion(message as usize),
        _ => return Err(Unusable::Sizes),
    })
}

/// Why a file is not used. The messages end a sentence that names the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it ends too early")]
    Truncated,
    #[error("it is no cache file")]
    NotOurs,
    #[error("it was written by another version of this program")]
    OtherVersion,
    #[error("it belongs to another model or other settings")]
    Foreign,
    #[error("its checksum is wrong")]
    Corrupt,
    #[error("its sizes do not fit together")]
    Sizes,
}

/// The bytes of the whole header, as the prefix says them; within bounds, but unverified.
pub(super) fn header_bytes(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, Unusable> {
    let mut input = Decoder(prefix);
    if input.take::<8>()? != MAGIC {
        return Err(Unusable::NotOurs);
    }
    let _kind = input.number()?;
    if input.number()? != VERSION {
        return Err(Unusable::OtherVersion);
    }
    let bytes = input.number()? as usize;
    if !(PREFIX_BYTES + 32..=MAX_HEADER_BYTES).contains(&bytes) {
        return Err(Unusable::Sizes);
    }
    Ok(bytes)
}

/// Reads a whole header of a file of `file_bytes`.
pub(super) fn decode(
    header: &[u8],
    file_bytes: u64,
    identity: &Identity,
    shape: &Shape,
) -> Result<Header, Unusable> {
    let body_bytes = header.len().checked_sub(32).ok_or(Unusable::Truncated)?;
    let (body, sum) = header.split_at(body_bytes);
    if checksum(&[body]) != sum {
        return Err(Unusable::Corrupt);
    }
    let mut input = Decoder(body);
    if input.take::<8>()? != MAGIC {
        return Err(Unusable::NotOurs);
    }
    let kind = input.number()?;
    if input.number()? != VERSION {
        return Err(Unusable::OtherVersion);
    }
    let (said, _zero) = (input.number()?, input.number()?);
    if said as usize != header.len() {
        return Err(Unusable::Sizes);
    }
    if input.take::<32>()? != identity.0 {
        return Err(Unusable::Foreign);
    }
    let (header, payload) = match kind {
        KIND_RUN => {
            let run = decode_run(&mut input, shape)?;
            let payload = run.payload_bytes(shape);
            (Header::Run(run), payload)
        }
        KIND_BOUNDARY => {
            let boundary = decode_boundary(&mut input, shape)?;
            let payload = boundary.payload_bytes(shape);
            (Header::Boundary(boundary), payload)
        }
        _ => return Err(Unusable::NotOurs),
    };
    if !input.0.is_empty() {
        return Err(Unusable::Sizes);
    }
    match file_bytes.cmp(&(u64::from(said) + payload)) {
        std::cmp::Ordering::Less => Err(Unusable::Truncated),
        std::cmp::Ordering::Equal => Ok(header),
        std::cmp::Ordering::Greater => Err(Unusable::Sizes),
    }
}

fn decode_run(input: &mut Decoder<'_>, shape: &Shape) -> Result<RunHeader, Unusable> {
    let parent = ChainKey(input.take()?);
    let (first_page, count) = (input.number()?, input.number()? as usize);
    if count == 0 || count > MAX_RUN_PAGES || first_page.checked_add(count as u32).is_none() {
        return Err(Unusable::Sizes);
    }
    let mut pages = Vec::with_capacity(count);
    for _ in 0..count {
        pages.push(PageHeader {
            tokens: input.tokens(shape.page_tokens)?,
            sum: input.take()?,
        });
    }
    Ok(RunHeader {
        parent,
        first_page,
        pages,
    })
}

fn decode_boundary(input: &mut Decoder<'_>, shape: &Shape) -> Result<BoundaryHeader, Unusable> {
    let pages_key = ChainKey(input.take()?);
    let (whole_pages, tail) = (input.number()?, input.number()? as usize);
    let (flags, kind) = (input.number()?, input.number()?);
    let (message, _zero) = (input.number()?, input.number()?);
    if tail >= shape.page_tokens {
        return Err(Unusable::Sizes);
    }
    let sum = input.take()?;
    Ok(BoundaryHeader {
        pages_key,
        whole_pages,
        tail: input.tokens(tail)?,
        kind: kind_from(kind, message)?,
        rows: Rows {
            hidden: flags & FLAG_HIDDEN != 0,
            logits: flags & FLAG_LOGITS != 0,
        },
        sum,
    })
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn new(kind: u32, identity: &Identity) -> Self {
        let mut out = Self(MAGIC.to_vec());
        // The header's size is set in `finish`.
        [kind, VERSION, 0, 0].iter().for_each(|&n| out.number(n));
        out.bytes(&identity.0);
        out
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn tokens(&mut self, tokens: &[Key]) {
        for token in tokens {
            self.bytes(&token.to_bits().to_le_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let bytes = (self.0.len() + 32) as u32;
        self.0[16..20].copy_from_slice(&bytes.to_le_bytes());
        let sum = checksum(&[&self.0]);
        self.bytes(&sum);
        self.0
    }
}

struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Unusable::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u32, Unusable> {
        self.take().map(u32::from_le_bytes)
    }

    /// Checks that they are there before it makes room for them.
    fn tokens(&mut self, count: usize) -> Result<Vec<Key>, Unusable> {
        if count
            .checked_mul(8)
            .is_none_or(|bytes| bytes > self.0.len())
        {
            return Err(Unusable::Truncated);
        }
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            tokens.push(Key::from_bits(u64::from_le_bytes(self.take()?)));
        }
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        page_tokens: 4,
        page_bytes: 10,
        state_bytes: 7,
        hidden_bytes: 3,
        logits_bytes: 2,
    };

    fn samples() -> [(Header, Vec<u8>, u64); 2] {
        let identity = Identity::new(&[]);
        let run = RunHeader {
            parent: ChainKey([1; 32]),
            first_page: 3,
            pages: vec![
                PageHeader {
                    tokens: [1, 2, 3, 4].map(Key::text).to_vec(),
                    sum: [5; 32],
                },
                PageHeader {
                    tokens: [5, 6, 7, 8].map(Key::text).to_vec(),
                    sum: [6; 32],
                },
            ],
        };
        let boundary = BoundaryHeader {
            pages_key: ChainKey([2; 32]),
            whole_pages: 5,
            tail: [9, 8, 7].map(Key::text).to_vec(),
            kind: BoundaryKind::EndOfMessage(7),
            rows: Rows {
                hidden: true,
                logits: false,
            },
            sum: [7; 32],
        };
        let (run_bytes, boundary_bytes) = (run.encode(&identity), boundary.encode(&identity));
        let run_file = run_bytes.len() as u64 + 20;
        let boundary_file = boundary_bytes.len() as u64 + 20;
        [
            (Header::Run(run), run_bytes, run_file),
            (Header::Boundary(boundary), boundary_bytes, boundary_file),
        ]
    }

    #[test]
    fn headers_come_back() {
        let identity = Identity::new(&[]);
        for (header, bytes, file) in samples() {
            let prefix = bytes[..PREFIX_BYTES].try_into().unwrap();
            assert_eq!(header_bytes(&prefix), Ok(bytes.len()));
            assert_eq!(decode(&bytes, file, &identity, &SHAPE), Ok(header));
            for (file, why) in [(file - 1, Unusable::Truncated), (file + 1, Unusable::Sizes)] {
                assert_eq!(decode(&bytes, file, &identity, &SHAPE), Err(why));
            }
            let other = Identity::new(&[("model", b"other")]);
            assert_eq!(decode(&bytes, file, &other, &SHAPE), Err(Unusable::Foreign));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let identity = Identity::new(&[]);
        for (_, bytes, file) in samples() {
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut], file, &identity, &SHAPE).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                let mut bent = bytes.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    decode(&bent, file, &identity, &SHAPE),
                    Err(Unusable::Corrupt)
                );
            }
        }
    }

    #[test]
    fn a_header_with_a_good_checksum_may_still_lie_about_sizes() {
        let identity = Identity::new(&[]);
        let mut lie = Encoder::new(KIND_RUN, &identity);
        lie.bytes(&[0; 32]);
        lie.number(0);
        lie.number(MAX_RUN_PAGES as u32);
        let bytes = lie.finish();
        assert_eq!(
            decode(&bytes, u64::MAX, &identity, &SHAPE),
            Err(Unusable::Truncated)
        );
    }
}
