//! Products with weight matrices.

use std::borrow::Cow;

use tensor::reference::{check_shape, shape_error};
use tensor::{OpError, Tensor};

use crate::activations::{Quantised, quantise_row};
use crate::cpu::Cpu;
use crate::matrix::{Destination, Inputs, Matrix};
use crate::parts::Parts;

/// Weights per task: enough to outweigh the claim, few enough to balance the cores.
const MIN_TASK_BYTES: usize = 16 << 10;
const MAX_TASK_BYTES: usize = 128 << 10;
/// Rows of a task are a multiple of this, so that only a matrix's last tile is partial.
const ROWS_MULTIPLE: usize = 16;

/// `[x W0^T, x W1^T, ...]` in one parallel region.
pub(super) fn linear<const N: usize>(
    cpu: &Cpu,
    x: &Tensor,
    weights: [&Matrix; N],
) -> Result<[Tensor; N], OpError> {
    for weight in weights {
        check_input("linear", x, weight)?;
    }
    let mut outputs = weights.map(|weight| Tensor::unspecified(x.rows(), weight.rows()));
    if x.rows() == 0 {
        return Ok(outputs);
    }
    let inputs = inputs(cpu, x, &weights);
    let rows: Vec<u32> = all_rows(x);

    // Task numbers run over the stripes of the first weight, then those of the second, ...
    let stripes = weights.map(|weight| stripe_rows(cpu, weight));
    let mut first_task = [0; N];
    let mut tasks = 0;
    for i in 0..N {
        first_task[i] = tasks;
        tasks += weights[i].rows().div_ceil(stripes[i]);
    }
    let parts = outputs
        .each_mut()
        .map(|output| Parts::new(output.data_mut()));
    cpu.pool.run(tasks, |task| {
        let i = (0..N)
            .rfind(|&i| first_task[i] <= task)
            .expect("the first weight's first task is task 0");
        let (weight, start) = (weights[i], (task - first_task[i]) * stripes[i]);
        let end = weight.rows().min(start + stripes[i]);
        // SAFETY: each task has rows of its own, that is columns of the output, which has a row
        // per input.
        unsafe {
            let to = Destination {
                first: parts[i].at(start),
                stride: weight.rows(),
            };
            weight.dots(cpu.dispatch, &inputs, &rows, start..end, to);
        }
    });
    Ok(outputs)
}

/// The numbers of all rows of `x`.
pub(super) fn all_rows(x: &Tensor) -> Vec<u32> {
    (0..x.rows() as u32).collect()
}

/// An error unless `weight` can multiply `x`.
pub(super) fn check_input(op: &'static str, x: &Tensor, weight: &Matrix) -> Result<(), OpError> {
    if u32::try_from(x.rows()).is_err() {
        return shape_error(op, "fewer rows", x.rows().to_string());
    }
    if x.cols() == weight.cols() {
        return Ok(());
    }
    let what = format!("an input for {}", weight.stored().name);
    check_shape(op, &what, x, x.rows(), weight.cols())
}

/// `x` in the forms that the weights want.
pub(super) fn inputs<'a>(cpu: &Cpu, x: &'a Tensor, weights: &[&Matrix]) -> Inputs<'a> {
    let wanted = weights.iter().any(|weight| weight.wants_quantised());
    Inputs {
        exact: x,
        quantised: wanted.then(|| {
            let mut quantised = Quantised::unspecified(x.rows(), x.cols());
            let (groups, per_row) = quantised.groups_mut();
            cpu.for_rows(groups, per_row, 2 * x.cols(), |row, groups| {
                quantise_row(cpu.dispatch, x.row(row), groups);
            });
            Cow::Owned(quantised)
        }),
    }
}

/// How many rows of a weight make a task.
fn stripe_rows(cpu: &Cpu, weight: &Matrix) -> usize {
    let row_bytes = weight.stored().row_bytes().max(1);
    let fair = row_bytes * weight.rows() / (8 * cpu.threads());
    let rows = fair.clamp(MIN_TASK_BYTES, MAX_TASK_BYTES) / row_bytes;
    rows.next_multiple_of(ROWS_MULTIPLE).max(ROWS_MULTIPLE)
}
