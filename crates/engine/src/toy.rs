//! A model for tests of everything above models: tiny, exact, and offended by any mix-up.
//!
//! Its logits depend on every token that is in a sequence's pages, at its place, and on its state.
//! So a wrong page, a stale state or a token too many changes what it answers, and [`answer`] says
//! without any memory what that should be. Thousands of answers take a second.

use formats::DType;
use tensor::{
    AttentionShape, Batch, DeltaShape, HeadOrder, MemoryLayout, OpError, PageId, StateId,
    StateSnapshot, Tensor,
};

use crate::engine::Engine;
use crate::runner::{Outputs, Runner, Wanted};

/// Tokens are below this.
pub(crate) const VOCABULARY: usize = 24;
/// A token on which the device fails.
pub(crate) const POISON: u32 = 23;

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
        attention_layers: 1,
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
        held_rows: 0,
    };
    let toy = Toy {
        page_tokens: size.page_tokens,
        pages: vec![vec![u64::MAX; size.page_tokens]; size.pages],
        states: vec![u64::MAX; size.states],
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
    logits(state, entries)
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

fn logits(state: u64, entries: impl Iterator<Item = u64>) -> Vec<f32> {
    let digest = entries.fold(state, mix);
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
    pages: Vec<Vec<u64>>,
    states: Vec<u64>,
}

impl Runner for Toy {
    fn forward(&mut self, batch: &Batch, wanted: Wanted<'_>) -> Result<Outputs, OpError> {
        let rows = wanted.logits;
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
        let mut all = vec![Vec::new(); batch.rows()];
        for span in &batch.spans {
            for row in span.rows.clone() {
                let token = batch.tokens[row];
                let at = span.past + row - span.rows.start;
                assert_eq!(batch.positions[row], [at as u32; 3]);
                let page = span.pages[at / self.page_tokens];
                self.pages[page.0 as usize][at % self.page_tokens] = entry(token, at);
                let state = &mut self.states[span.state.0 as usize];
                *state = next_state(*state, token);
                if rows.contains(&row) {
                    let entry = |at: usize| {
                        self.pages[span.pages[at / self.page_tokens].0 as usize]
                            [at % self.page_tokens]
                    };
                    all[row] = logits(*state, (0..=at).map(entry));
                }
            }
        }
        let data = rows.iter().flat_map(|&row| all[row].clone()).collect();
        Ok(Outputs {
            logits: Tensor::from_vec(rows.len(), VOCABULARY, data),
            hidden: Tensor::zeros(0, 1),
        })
    }

    fn can_draft(&self) -> bool {
        false
    }

    fn draft(&mut self, _: &Batch, _: Tensor, _: Wanted<'_>) -> Result<Outputs, OpError> {
        Err(OpError::Device {
            device: "toy",
            message: "no drafts".to_owned(),
        })
    }

    fn settle(&mut self, _: StateId, _: usize) -> Result<(), OpError> {
        Ok(())
    }

    fn clear_state(&mut self, state: StateId) -> Result<(), OpError> {
        self.states[state.0 as usize] = EMPTY;
        Ok(())
    }

    fn copy_state(&mut self, from: StateId, to: StateId) -> Result<(), OpError> {
        self.states[to.0 as usize] = self.states[from.0 as usize];
        Ok(())
    }

    fn copy_page(&mut self, from: PageId, to: PageId) -> Result<(), OpError> {
        self.pages[to.0 as usize] = self.pages[from.0 as usize].clone();
        Ok(())
    }

    fn read_page(&self, page: PageId) -> Result<Vec<u8>, OpError> {
        let page = &self.pages[page.0 as usize];
        Ok(page.iter().flat_map(|entry| entry.to_le_bytes()).collect())
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), OpError> {
        let entry = |bytes: &[u8]| bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b));
        self.pages[page.0 as usize] = bytes.chunks(8).map(entry).collect();
        Ok(())
    }

    fn snapshot(&self, state: StateId) -> Result<StateSnapshot, OpError> {
        let state = self.states[state.0 as usize];
        // 16 bits fit an f32 exactly.
        let part = |index: u32| (state >> (16 * index) & 0xFFFF) as f32;
        Ok(StateSnapshot {
            values: (0..4).map(part).collect(),
        })
    }

    fn restore(&mut self, state: StateId, snapshot: &StateSnapshot) -> Result<(), OpError> {
        let values = snapshot.values.iter().rev();
        self.states[state.0 as usize] = values.fold(0, |x, &part| x << 16 | part as u64);
        Ok(())
    }
}
