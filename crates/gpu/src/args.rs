//! What kernels take: the structs of `kernels/*.cu`, field by field.
//!
//! Their sizes are compared with the kernels' own when a kernel is first used.

use crate::driver::Address;

/// What a kernel takes, or a part of it.
pub(crate) trait KernelArgs {
    /// Its size in the device's form, which is C's.
    const BYTES: usize;

    /// Writes it, field by field, to as many zeroed bytes: what is between fields stays zero, so that
    /// arguments can be compared.
    fn write(&self, to: &mut [u8]);
}

macro_rules! numbers {
    ($($type:ty)*) => {
        $(
            impl KernelArgs for $type {
                const BYTES: usize = size_of::<$type>();

                #[inline(always)]
                fn write(&self, to: &mut [u8]) {
                    to[..Self::BYTES].copy_from_slice(&self.to_ne_bytes());
                }
            }
        )*
    };
}

numbers! { u64 i32 f32 }

impl<T: KernelArgs, const N: usize> KernelArgs for [T; N] {
    const BYTES: usize = size_of::<[T; N]>();

    #[inline(always)]
    fn write(&self, to: &mut [u8]) {
        for (item, to) in self.iter().zip(to.chunks_exact_mut(T::BYTES)) {
            item.write(to);
        }
    }
}

/// Gives the structs their form in memory.
macro_rules! args {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[repr(C)]
            #[derive(Debug, Clone, Copy, Default)]
            pub(crate) struct $name { $(pub(crate) $field: $type,)* }

            impl KernelArgs for $name {
                const BYTES: usize = size_of::<$name>();

                #[inline(always)]
                fn write(&self, to: &mut [u8]) {
                    let to = &mut to[..Self::BYTES];
                    $(self.$field.write(&mut to[std::mem::offset_of!($name, $field)..]);)*
                }
            }
        )*
    };
}

args! {
    Matrix { codes: Address, high: u64, scales: u64, blocks: u64, rows: i32, cols: i32, format: i32, row_bytes: i32 }
    Inputs { values: Address, codes: Address, scales: Address, cols: u64 }
    LinearPart { weight: Matrix, out: Address }
    Linear { inputs: Inputs, rows: i32, parts: i32, part: [LinearPart; 4], first_block: [i32; 5] }
    AddNorm {
        x: Address, addend: Address, weight: Address, out: Address, codes: Address, scales: Address,
        cols: i32, eps: f32,
    }
    GatedNorm {
        x: Address, gate: Address, weight: Address, out: Address, codes: Address, scales: Address,
        heads: i32, dim: i32, eps: f32,
    }
    Quantise { x: Address, codes: Address, scales: Address, groups: i32 }
    Embed { table: Matrix, tokens: Address, out: Address }
    SelectRows { x: Address, rows: Address, out: Address, cols: i32 }
    Concat { left: Address, right: Address, out: Address, left_cols: i32, right_cols: i32 }
    Add { x: Address, addend: Address, cols: i32 }
    Best {
        logits: Address, largest: Address, out: Address, cols: i32, limit: i32, group: i32, groups: i32,
        count: i32, room: i32,
    }
    Repack { blocks: Address, to: Matrix, first_row: i32, rows: i32 }
    Span { first_row: i32, rows: i32, past: i32, first_page: i32, state: u64, replay: i32, hold: i32 }
    Cache {
        keys: Address, values: Address, page_stride: u64, key_stride: i32, value_stride: i32,
        key_type: i32, value_type: i32, page_tokens: i32, kv_heads: i32, head_dim: i32,
    }
    AttentionInputs {
        spans: Address, row_spans: Address, pages: Address, positions: Address,
        query_gate: Address, key: Address, value: Address, query_norm: Address, key_norm: Address,
        frequencies: Address, axes: Address, query: Address, gate: Address,
        cache: Cache, heads: i32, half: i32, rotary_scale: f32, eps: f32,
    }
    Attention {
        spans: Address, row_spans: Address, pages: Address, query: Address, gate: Address, out: Address,
        codes: Address, scales: Address, partials: Address, splits: i32, cache: Cache, heads: i32,
        score_scale: f32,
    }
    Conv {
        spans: Address, input: Address, weight: Address, out: Address, states: Address, state_stride: u64,
        held: Address, held_stride: u64, channels: i32, taps: i32, updates: i32,
    }
    Delta {
        spans: Address, qkv: Address, a: Address, b: Address, decay: Address, dt_bias: Address, out: Address,
        states: Address, state_stride: u64, held: Address, held_stride: u64, held_rows: i32,
        key_heads: i32, value_heads: i32, key_dim: i32, value_dim: i32, is_tiled: i32, query_scale: f32,
    }
    Choose {
        logits: Address, shared_logits: Address, chosen: Address, weights: Address,
        tokens: i32, experts: i32, top_k: i32, slots: i32, renormalise: i32,
    }
    SortPairs {
        chosen: Address, order: Address, tiles: Address, pairs: i32, experts: i32,
        routed_by_dots: i32, shared_by_dots: i32, first_tile: [i32; 5],
    }
    ExpertMatrix { routed: Matrix, shared: Matrix }
    Experts {
        inputs: Inputs, inner: Inputs, chosen: Address, weights: Address, slot_of: Address, order: Address,
        tiles: Address,
        gate: ExpertMatrix, up: ExpertMatrix, down: ExpertMatrix, stride: u64, outs: Address, out: Address,
        experts: i32, slots: i32, tokens: i32, hidden: i32, rounds: i32,
    }
}
