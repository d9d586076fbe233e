//! Routing, experts and the dense MLP, as section 7 writes them.

use super::{HostRouting, check_shape, matmul, shape_error, sigmoid, silu};
use crate::matrix::StoredMatrix;
use crate::ops::{MlpWeights, OpError, StoredExperts};
use crate::tensor::Tensor;

/// The `top_k` most likely experts of one row with their weights, most likely first; ties go to
/// the lower index.
pub fn choose(logits: &[f32], top_k: usize, renormalise: bool) -> Vec<(usize, f32)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| exponentials[b].total_cmp(&exponentials[a]));
    order.truncate(top_k);
    let sum: f32 = if renormalise {
        order.iter().map(|&expert| exponentials[expert]).sum()
    } else {
        exponentials.iter().sum()
    };
    order
        .into_iter()
        .map(|expert| (expert, exponentials[expert] / sum))
        .collect()
}

pub(super) fn mlp(x: &Tensor, weights: MlpWeights<&StoredMatrix>) -> Result<Tensor, OpError> {
    let mut inner = matmul(x, weights.gate)?;
    let up = matmul(x, weights.up)?;
    check_shape("mlp", "an up projection", &up, inner.rows(), inner.cols())?;
    for (gate, up) in inner.data_mut().iter_mut().zip(up.data()) {
        *gate = silu(*gate) * up;
    }
    matmul(&inner, weights.down)
}

/// The shared expert's part.
pub(super) fn shared_expert(
    x: &Tensor,
    (shared, gate): (MlpWeights<&StoredMatrix>, &StoredMatrix),
) -> Result<Tensor, OpError> {
    let mut out = mlp(x, shared)?;
    let gates = matmul(x, gate)?;
    for row in 0..out.rows() {
        let weight = sigmoid(gates.row(row)[0]);
        out.row_mut(row)
            .iter_mut()
            .for_each(|value| *value *= weight);
    }
    Ok(out)
}

pub(super) fn experts(
    x: &Tensor,
    routing: &HostRouting,
    experts: &StoredExperts,
    shared: Option<(MlpWeights<&StoredMatrix>, &StoredMatrix)>,
) -> Result<Tensor, OpError> {
    if routing.choices.len() != x.rows() {
        return shape_error(
            "experts",
            format!("{} routed rows", x.rows()),
            routing.choices.len().to_string(),
        );
    }
    let mut out = Tensor::zeros(x.rows(), x.cols());
    let accumulate = |out: &mut [f32], weight: f32, values: &[f32]| {
        out.iter_mut()
            .zip(values)
            .for_each(|(out, value)| *out += weight * value);
    };
    for (row, choices) in routing.choices.iter().enumerate() {
        let input = Tensor::from_vec(1, x.cols(), x.row(row).to_vec());
        for &(expert, weight) in choices {
            let output = mlp(&input, experts.experts[expert].as_ref())?;
            accumulate(out.row_mut(row), weight, output.row(0));
        }
        if let Some((shared, gate)) = shared {
            let output = mlp(&input, shared)?;
            let weight = sigmoid(matmul(&input, gate)?.row(0)[0]);
            accumulate(out.row_mut(row), weight, output.row(0));
        }
    }
    Ok(out)
}
