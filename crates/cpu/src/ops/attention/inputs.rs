//! Norms and rotation of queries and keys, and writing keys and values to their pages.

use std::sync::OnceLock;

use tensor::reference::{check_shape, rotate, shape_error};
use tensor::{AttentionShape, Batch, HostMemory, OpError, PageId, Rotary, Tensor, quant};

use super::Place;
use crate::cpu::Cpu;
use crate::ops::norm::Norm;
use crate::parts::Parts;
use crate::scratch::with_scratch;

#[expect(
    clippy::too_many_arguments,
    reason = "one fused operation of the contract"
)]
pub(in crate::ops) fn inputs(
    cpu: &Cpu,
    memory: &mut HostMemory,
    place: Place<'_>,
    rotary: &Rotary,
    (query_norm, key_norm, eps): (&[f32], &[f32], f32),
    query_gate: &Tensor,
    mut key: Tensor,
    value: &Tensor,
) -> Result<(Tensor, Tensor), OpError> {
    const OP: &str = "attention_inputs";
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
    } = *place.shape;
    let (batch, rows) = (place.batch, place.batch.rows());
    place.check(OP, memory)?;
    let both = heads * 2 * head_dim;
    check_shape(OP, "queries and gates", query_gate, rows, both)?;
    check_shape(OP, "keys", &key, rows, kv_heads * head_dim)?;
    check_shape(OP, "values", value, rows, kv_heads * head_dim)?;
    let half = rotary.frequencies.len();
    if 2 * half > head_dim || query_norm.len() != head_dim || key_norm.len() != head_dim {
        let expected = format!("norms and rotation of {head_dim}");
        return shape_error(OP, expected, "other sizes");
    }
    if rotary.axes.len() != half || rotary.axes.iter().any(|axis| *axis > 2) {
        return shape_error(OP, format!("{half} axes of three"), "other axes");
    }

    let slots = slots_of_rows(batch, memory.layout().page_tokens)?;
    let (key_bytes, value_bytes) = memory.layout().row_bytes()?;
    let (key_type, value_type) = (memory.layout().key_type, memory.layout().value_type);
    let page_tokens = memory.layout().page_tokens;
    let (page_keys, page_values) = memory.layer_pages(place.layer);
    let (page_keys, page_values) = (Parts::new(page_keys), Parts::new(page_values));
    let (query_cols, key_cols) = (heads * head_dim, kv_heads * head_dim);
    let mut query = Tensor::unspecified(rows, query_cols);
    let mut gate = Tensor::unspecified(rows, query_cols);
    let gates = Parts::new(gate.data_mut());
    let keys = Parts::new(key.data_mut());
    let failure = OnceLock::new();
    cpu.for_rows(query.data_mut(), query_cols, 4 * both, |row, query| {
        // SAFETY: rows do not overlap, and each is worked on once.
        let (gate, key) = unsafe {
            (
                gates.part(row * query_cols..(row + 1) * query_cols),
                keys.part(row * key_cols..(row + 1) * key_cols),
            )
        };
        with_scratch(2 * half, |angles| {
            let (cos, sin) = angles.split_at_mut(half);
            rotary.angles(batch.positions[row], cos, sin);
            let turn = |x: &mut [f32], weight| {
                cpu.dispatch.run(Norm { x, weight, eps });
                rotate(x, cos, sin);
            };
            for (head, both) in query_gate.row(row).chunks_exact(2 * head_dim).enumerate() {
                let columns = head * head_dim..(head + 1) * head_dim;
                gate[columns.clone()].copy_from_slice(&both[head_dim..]);
                query[columns.clone()].copy_from_slice(&both[..head_dim]);
                turn(&mut query[columns], query_norm);
            }
            let values = value.row(row).chunks_exact(head_dim);
            for (head, (key, value)) in key.chunks_exact_mut(head_dim).zip(values).enumerate() {
                turn(key, key_norm);
                let (page, slot) = slots[row];
                let at = (page.0 as usize * kv_heads + head) * page_tokens + slot;
                // SAFETY: no two rows have the same slot.
                let (page_key, page_value) = unsafe {
                    (
                        page_keys.part(at * key_bytes..(at + 1) * key_bytes),
                        page_values.part(at * value_bytes..(at + 1) * value_bytes),
                    )
                };
                let written = quant::encode(key_type, key, page_key)
                    .and_then(|()| quant::encode(value_type, value, page_value));
                if let Err(error) = written {
                    failure.get_or_init(|| error);
                }
            }
        });
    });
    match failure.into_inner() {
        Some(error) => Err(OpError::Memory(format!("key/value cache: {error}"))),
        None => Ok((query, gate)),
    }
}

/// The page and the slot in it that each row's key and value go to.
///
/// # Errors
/// If two rows have the same: they are written at the same time.
fn slots_of_rows(batch: &Batch, page_tokens: usize) -> Result<Vec<(PageId, usize)>, OpError> {
    let mut slots = Vec::with_capacity(batch.rows());
    for span in &batch.spans {
        let positions = span.past..span.past + span.rows.len();
        slots.extend(positions.map(|at| (span.pages[at / page_tokens], at % page_tokens)));
    }
    let mut sorted = slots.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(OpError::Memory(format!(
            "page {} is written twice in a batch",
            pair[0].0.0
        ))),
        None => Ok(slots),
    }
}
