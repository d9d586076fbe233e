//! Gated attention over pages, as section 5 writes it.

use super::{check_batch, check_shape, dot, rms_norm, shape_error, sigmoid};
use crate::batch::Batch;
use crate::memory::HostMemory;
use crate::ops::{AttentionShape, OpError, Rotary};
use crate::quant;
use crate::tensor::Tensor;

/// Turns the pairs (j, j + R/2) of a head's first R values.
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for j in 0..half {
        let (a, b) = (head[j], head[j + half]);
        head[j] = a * cos[j] - b * sin[j];
        head[j + half] = b * cos[j] + a * sin[j];
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one fused operation of the contract"
)]
pub(super) fn inputs(
    memory: &mut HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &AttentionShape,
    rotary: &Rotary,
    (query_norm, key_norm, eps): (&Vec<f32>, &Vec<f32>, f32),
    query_gate: &Tensor,
    mut key: Tensor,
    value: &Tensor,
) -> Result<(Tensor, Tensor), OpError> {
    const OP: &str = "attention_inputs";
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
    } = *shape;
    check_batch(batch, memory.layout())?;
    check_shape(
        OP,
        "queries and gates",
        query_gate,
        batch.rows(),
        heads * 2 * head_dim,
    )?;
    check_shape(OP, "keys", &key, batch.rows(), kv_heads * head_dim)?;
    check_shape(OP, "values", value, batch.rows(), kv_heads * head_dim)?;
    let half = rotary.frequencies.len();
    if 2 * half > head_dim || query_norm.len() != head_dim || key_norm.len() != head_dim {
        return shape_error(
            OP,
            format!("norms and rotation of {head_dim}"),
            "other sizes",
        );
    }

    let mut query = Tensor::zeros(batch.rows(), heads * head_dim);
    let mut gate = Tensor::zeros(batch.rows(), heads * head_dim);
    let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
    for span in &batch.spans {
        for (index, row) in span.rows.clone().enumerate() {
            rotary.angles(batch.positions[row], &mut cos, &mut sin);
            for head in 0..heads {
                let both = &query_gate.row(row)[head * 2 * head_dim..][..2 * head_dim];
                let query_head = &mut query.row_mut(row)[head * head_dim..][..head_dim];
                query_head.copy_from_slice(&both[..head_dim]);
                rms_norm(query_head, query_norm, eps);
                rotate(query_head, &cos, &sin);
                gate.row_mut(row)[head * head_dim..][..head_dim].copy_from_slice(&both[head_dim..]);
            }
            for head in 0..kv_heads {
                let key_head = &mut key.row_mut(row)[head * head_dim..][..head_dim];
                rms_norm(key_head, key_norm, eps);
                rotate(key_head, &cos, &sin);
                let value_head = &value.row(row)[head * head_dim..][..head_dim];
                let at = span.past + index;
                memory.write_key_value(layer, span, at, head, key_head, value_head)?;
            }
        }
    }
    Ok((query, gate))
}

pub(super) fn attend(
    memory: &HostMemory,
    layer: usize,
    batch: &Batch,
    shape: &AttentionShape,
    query: &Tensor,
    gate: &Tensor,
) -> Result<Tensor, OpError> {
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
    } = *shape;
    check_batch(batch, memory.layout())?;
    check_shape(
        "attention",
        "queries",
        query,
        batch.rows(),
        heads * head_dim,
    )?;
    check_shape("attention", "gates", gate, batch.rows(), heads * head_dim)?;
    let layout = memory.layout();
    let (key_bytes, value_bytes) = layout.row_bytes()?;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let decode = |dtype, bytes: &[u8], out: &mut [f32]| {
        quant::decode(dtype, bytes, out).map_err(|e| OpError::Memory(e.to_string()))
    };

    let mut out = Tensor::zeros(batch.rows(), heads * head_dim);
    let mut decoded = vec![0.0; head_dim];
    for span in &batch.spans {
        for (index, row) in span.rows.clone().enumerate() {
            let visible = span.past + index + 1;
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let query_head = &query.row(row)[head * head_dim..][..head_dim];

                let mut scores = Vec::with_capacity(visible);
                for at in 0..visible {
                    let page = span.pages[at / layout.page_tokens];
                    let keys = memory.page_keys(layer, page, kv_head);
                    let bytes = &keys[at % layout.page_tokens * key_bytes..][..key_bytes];
                    decode(layout.key_type, bytes, &mut decoded)?;
                    scores.push(dot(query_head, &decoded) * scale);
                }
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores
                    .iter_mut()
                    .for_each(|score| *score = (*score - largest).exp());
                let sum: f32 = scores.iter().sum();

                let mixed = &mut out.row_mut(row)[head * head_dim..][..head_dim];
                for (at, score) in scores.iter().enumerate() {
                    let page = span.pages[at / layout.page_tokens];
                    let values = memory.page_values(layer, page, kv_head);
                    let bytes = &values[at % layout.page_tokens * value_bytes..][..value_bytes];
                    decode(layout.value_type, bytes, &mut decoded)?;
                    for (mixed, value) in mixed.iter_mut().zip(&decoded) {
                        *mixed += score / sum * value;
                    }
                }
                let gates = &gate.row(row)[head * head_dim..][..head_dim];
                for (mixed, gate) in mixed.iter_mut().zip(gates) {
                    *mixed *= sigmoid(*gate);
                }
            }
        }
    }
    Ok(out)
}
