//! A model for tests of everything above models: tiny, exact, and offended by any mix-up.
//!
//! Its logits depend on every token that is in a sequence's pages, at its place, and on its state.
//! So a wrong page, a stale state or a token too many changes what it answers, and [`answer`] says
//! without any memory what that should be. Thousands of answers take a second.

use formats::DType;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, MemoryLayout, OpError, PageId, Span, StateId,
    StateSnapshot, Tensor,
};

use crate::engine::Engine;
use crate::held::DraftVocabulary;
use crate::runner::{Outputs, Runner, Wanted};

/// Tokens are below this.
pub(crate) const VOCABULARY: usize = 24;
/// A token on which the device fails.
pub(crate) const POISON: u32 = 23;
/// The values of a hidden row.
pub(crate) const HIDDEN: usize = 8;
const HELD_ROWS: usize = 6;

/// The sizes of a toy's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToySize {
    pub(crate) page_tokens: usize,
    pub(crate) pages: usize,
    pub(crate) states: usize,
    pub(crate) context: usize,
}

/// An engine that runs a toy.
pub(crate) fn engine(size: ToySize) -> Engine {
    let layout = MemoryLayout {
        // The second is the head's.
        attention_layers: 2,
        attention: AttentionShape {
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
        },
        key_type: DType::F32,
        value_type: DType::F32,
        page_tokens: size.page_tokens,
        pages: size.pages,
        delta_layers: 1,
        delta: DeltaShape {
            key_heads: 1,
            value_heads: 1,
            key_dim: 2,
            value_dim: 2,
            conv_taps: 1,
            order: HeadOrder::Grouped,
        },
        states: size.states,
        held_rows: HELD_ROWS,
    };
    let toy = Toy {
        page_tokens: size.page_tokens,
        pages: vec![vec![[u64::MAX; 2]; size.page_tokens]; size.pages],
        states: vec![u64::MAX; size.states],
        held: vec![Vec::new(); size.states],
    };
    Engine::new(Box::new(toy), &layout, size.context, VOCABULARY).expect("f32 holds everything")
}

/// The logits behind these tokens.
pub(crate) fn logits_behind(tokens: &[u32]) -> Vec<f32> {
    let state = tokens
        .iter()
        .fold(EMPTY, |state, &token| next_state(state, token));
    let entries = tokens
        .iter()
        .enumerate()
        .map(|(at, &token)| entry(token, at));
    logits(Digest {
        state,
        entries: entries.fold(EMPTY, mix),
    })
}

/// All that the toy knows behind a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    state: u64,
    /// Of everything in pages.
    entries: u64,
}

impl Digest {
    /// Behind one more token.
    fn next(self, token: u32, at: usize) -> Self {
        Self {
            state: next_state(self.state, token),
            entries: mix(self.entries, entry(token, at)),
        }
    }

    fn to_row(self) -> Vec<f32> {
        [to_row(self.state), to_row(self.entries)].concat()
    }

    fn from_row(row: &[f32]) -> Self {
        let (state, entries) = row.split_at(HIDDEN / 2);
        Self {
            state: from_row(state),
            entries: from_row(entries),
        }
    }
}

const EMPTY: u64 = 7;

fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.rotate_left(23) ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 32)
}

fn next_state(state: u64, token: u32) -> u64 {
    mix(state, u64::from(token))
}

fn entry(token: u32, at: usize) -> u64 {
    mix(u64::from(token) + 1, at as u64)
}

fn logits(behind: Digest) -> Vec<f32> {
    let digest = mix(behind.entries, behind.state);
    (0..VOCABULARY as u64)
        .map(|token| {
            let value = (mix(digest, token) % 1000) as f32 / 200.0;
            if token == u64::from(POISON) {
                -9.0
            } else {
                value
            }
        })
        .collect()
}

struct Toy {
    page_tokens: usize,
    /// For each token what stands for its keys and values, and those of the head.
    pages: Vec<Vec<[u64; 2]>>,
    states: Vec<u64>,
    /// Tokens that wait beside each state.
    held: Vec<Vec<u32>>,
}

impl Toy {
    fn entry_at(&mut self, pages: &[PageId], at: usize) -> &mut [u64; 2] {
        let page = pages[at / self.page_tokens];
        &mut self.pages[page.0 as usize][at % self.page_tokens]
    }

    /// The digest of what stands for the tokens before `end`.
    fn entries(&mut self, pages: &[PageId], end: usize) -> u64 {
        (0..end).fold(EMPTY, |digest, at| mix(digest, self.entry_at(pages, at)[0]))
    }

    /// The head has been fed everything in its window, up to where drafts may begin.
    fn check_window(&mut self, batch: &Batch, span: &Span) {
        for at in 0..span.past.saturating_sub(HELD_ROWS + 1) {
            let behind = self.entry_at(&span.pages, at + 1)[0];
            let read = self.entry_at(&span.pages, at)[1];
            let position = batch.positions[span.rows.start];
            assert_eq!(read, behind, "{at} of {} before {position:?}", span.past);
        }
    }

    fn settled(&self, state: StateId) -> u64 {
        let slot = state.0 as usize;
        assert!(self.held[slot].is_empty(), "only settled states are copied");
        self.states[slot]
    }

    /// Applies the first held rows and forgets the others.
    fn apply(&mut self, slot: usize, rows: usize) {
        let held = std::mem::take(&mut self.held[slot]);
        for &token in &held[..rows] {
            self.states[slot] = next_state(self.states[slot], token);
        }
    }
}

/// A state as a row of 16 bits each, which f32 holds exactly.
fn to_row(state: u64) -> Vec<f32> {
    (0..4)
        .map(|part| (state >> (16 * part) & 0xFFFF) as f32)
        .collect()
}

fn from_row(row: &[f32]) -> u64 {
    row.iter().rev().fold(0, |x, &part| x << 16 | part as u64)
}

impl Runner for Toy {
    fn forward(&mut self, batch: &Batch, wanted: Wanted<'_>) -> Result<Outputs, OpError> {
        if batch.tokens.contains(&POISON) {
            // Half of the work is done already.
            for span in &batch.spans {
                self.states[span.state.0 as usize] = 3;
            }
            return Err(OpError::Device {
                device: "toy",
                message: "poison".to_owned(),
            });
        }
        let (mut all_logits, mut all_hidden) = (Vec::new(), Vec::new());
        for span in &batch.spans {
            let slot = span.state.0 as usize;
            self.apply(slot, span.replay);
            let mut state = self.states[slot];
            for row in span.rows.clone() {
                let token = batch.tokens[row];
                let at = span.past + row - span.rows.start;
                assert_eq!(batch.positions[row], [at as u32; 3]);
                self.entry_at(&span.pages, at)[0] = entry(token, at);
                state = next_state(state, token);
                let entries = self.entries(&span.pages, at + 1);
                let behind = Digest { state, entries };
                if wanted.logits.contains(&row) {
                    all_logits.extend(logits(behind));
                }
                if wanted.hidden.contains(&row) {
                    all_hidden.extend(behind.to_row());
                }
            }
            if span.hold {
                self.held[slot] = batch.tokens[span.rows.clone()].to_vec();
            } else {
                self.states[slot] = state;
            }
        }
        Ok(Outputs {
            hidden: Tensor::from_vec(wanted.hidden.len(), HIDDEN, all_hidden),
            ..of_logits(wanted, all_logits)
        })
    }

    fn can_draft(&self) -> bool {
        true
    }

    fn frequent_tokens(&self) -> Option<usize> {
        None
    }

    /// Knows what the toy would answer, and says something else now and then. It is offended by
    /// hidden rows that are not those of the tokens before, and by a window that it has not read.
    fn draft(
        &mut self,
        batch: &Batch,
        hidden: Tensor,
        wanted: Wanted<'_>,
        _: DraftVocabulary,
    ) -> Result<Outputs, OpError> {
        let (mut all_logits, mut all_hidden) = (Vec::new(), Vec::new());
        let mut row = 0;
        for span in &batch.spans {
            self.check_window(batch, span);
            let mut expected = None;
            for at in span.past..span.past + span.rows.len() {
                let before = Digest::from_row(hidden.row(row));
                assert!(expected.is_none_or(|behind| behind == before), "in order");
                let position = batch.positions[row][0] as usize;
                let behind = before.next(batch.tokens[row], position + 1);
                expected = Some(behind);
                // The head keeps what stands for the token behind.
                self.entry_at(&span.pages, at)[1] = entry(batch.tokens[row], position + 1);
                if wanted.logits.contains(&row) {
                    let mut row = logits(behind);
                    if behind.state.is_multiple_of(3) {
                        row[..POISON as usize].reverse();
                    }
                    all_logits.extend(row);
                }
                if wanted.hidden.contains(&row) {
                    all_hidden.extend(behind.to_row());
                }
                row += 1;
            }
        }
        Ok(Outputs {
            hidden: Tensor::from_vec(wanted.hidden.len(), HIDDEN, all_hidden),
            ..of_logits(wanted, all_logits)
        })
    }

    fn settle(&mut self, state: StateId, rows: usize) -> Result<(), OpError> {
        self.apply(state.0 as usize, rows);
        Ok(())
    }

    fn clear_state(&mut self, state: StateId) -> Result<(), OpError> {
        self.states[state.0 as usize] = EMPTY;
        self.held[state.0 as usize].clear();
        Ok(())
    }

    fn copy_state(&mut self, from: StateId, to: StateId) -> Result<(), OpError> {
        self.states[to.0 as usize] = self.settled(from);
        self.held[to.0 as usize].clear();
        Ok(())
    }

    fn copy_page(&mut self, from: PageId, to: PageId) -> Result<(), OpError> {
        self.pages[to.0 as usize] = self.pages[from.0 as usize].clone();
        Ok(())
    }

    fn read_page(&self, page: PageId) -> Result<Vec<u8>, OpError> {
        let page = &self.pages[page.0 as usize];
        let entries = page.iter().flatten();
        Ok(entries.flat_map(|entry| entry.to_le_bytes()).collect())
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), OpError> {
        let entry = |bytes: &[u8]| bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b));
        let pairs = bytes
            .chunks(16)
            .map(|pair| [entry(&pair[..8]), entry(&pair[8..])]);
        self.pages[page.0 as usize] = pairs.collect();
        Ok(())
    }

    fn snapshot(&self, state: StateId) -> Result<StateSnapshot, OpError> {
        Ok(StateSnapshot {
            values: to_row(self.settled(state)).into(),
        })
    }

    fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError> {
        self.states[state.0 as usize] = from_row(&snapshot.values);
        self.held[state.0 as usize].clear();
        Ok(())
    }
}

/// The logits that were wanted, or the most likely of each row where they are enough.
fn of_logits(wanted: Wanted<'_>, logits: Vec<f32>) -> Outputs {
    let logits = Tensor::from_vec(wanted.logits.len(), VOCABULARY, logits);
    let none = || Tensor::zeros(0, VOCABULARY);
    let likely = wanted.likely.map(|wanted| wanted.of_rows(&logits));
    Outputs {
        logits: if likely.is_some() { none() } else { logits },
        likely,
        hidden: none(),
    }
}
