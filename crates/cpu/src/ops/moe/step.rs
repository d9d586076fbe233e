//! Several MLPs with rows of their own, computed together.
//!
//! A group's rows are cut into units, and a unit's work into tasks: stripes of its inner values
//! `silu(gate x) * (up x)`, then stripes of its outputs. Whoever completes the inner values of a
//! unit rounds them for the down projection. The tasks of all units make one parallel region:
//! tasks are claimed in the order of their numbers, and a unit's outputs come after the next units'
//! inner values, so that what a task needs is done or nearly done when it begins.
//!
//! With many rows the outputs of all choices would fill the memory's lanes instead of a cache, so
//! then they are computed and summed some columns at a time, in a region each.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tensor::{MlpWeights, Tensor};

use super::Routing;
use super::plan::Plan;
use crate::activations::{Quantised, quantise_row};
use crate::cpu::Cpu;
use crate::matrix::{Destination, Inputs, Matrix};
use crate::parts::Parts;
use crate::pool::MOST_AT_ONCE;
use crate::scratch::with_scratch;
use crate::simd::{Kernel, Simd, sigmoid, silu};

/// Inner values per task, for each of which two rows of weights are read: as the outputs, some
/// tens of KiB of weights, of which the first are not fetched ahead.
const INNER_STRIPE: usize = 64;
/// Outputs per task.
const OUTPUT_STRIPE: usize = 256;
/// Up to this many rows one region does it all.
const FEW_ROWS: usize = 16;
/// The most rows of a unit where several groups share the threads: enough that unpacking weights
/// costs little beside using them, few enough that the largest group is no bottleneck.
const UNIT_ROWS: usize = 128;
/// Values of the outputs of all choices at a time: what fits the last cache beside weights.
const OUTPUTS_AT_ONCE: usize = if cfg!(test) { 2 << 10 } else { 2 << 20 };

/// An MLP and the rows that go through it.
pub(super) struct Group<'a> {
    pub(super) weights: MlpWeights<&'a Matrix>,
    /// Rows of the input.
    pub(super) rows: &'a [u32],
    /// The slot of the first row's outputs; those of the others follow.
    pub(super) first_slot: usize,
    /// For the shared expert: `[1, hidden]`, the gate that gives its weight for each row. Its rows
    /// are all rows, in their order.
    pub(super) shared_gate: Option<&'a Matrix>,
}

/// All MLPs of one call.
pub(super) struct MlpStep<'a> {
    cpu: &'a Cpu,
    input: &'a Inputs<'a>,
    groups: Vec<Group<'a>>,
    /// `0..` as many as the largest group has rows: the rows of a unit's inner values.
    numbers: Vec<u32>,
    slots: usize,
    hidden: usize,
}

/// Some rows of a group.
struct Unit<'a> {
    group: &'a Group<'a>,
    /// Among the group's rows.
    rows: Range<usize>,
    /// Where its inner values `[rows, width]` begin among those of all units.
    first_inner: usize,
    /// Stripes of inner values that are not done.
    left: AtomicUsize,
    inner: OnceLock<Inner>,
}

/// What the down projection reads.
struct Inner {
    /// `[rows, width]`, or no rows if only rounded values are wanted.
    exact: Tensor,
    quantised: Option<Quantised>,
}

/// A piece of a unit's work that one thread does.
#[derive(Debug, Clone, Copy)]
struct Task {
    unit: u32,
    stripe: Stripe,
}

#[derive(Debug, Clone, Copy)]
enum Stripe {
    /// Of inner values.
    Inner(u32),
    /// Of outputs.
    Outputs(u32),
}

/// Buffers that the tasks share.
struct Buffers<'a> {
    /// Inner values of all units.
    inner: Parts<'a, f32>,
    /// `[rows]`: the shared expert's weights.
    shared_weights: Parts<'a, f32>,
    /// `[slots, columns]`: the outputs of all choices.
    outputs: Parts<'a, f32>,
    /// The columns of the outputs that are computed at a time.
    columns: Range<usize>,
    /// A task panicked, and its thread leaves others undone; do not wait for them.
    failed: &'a AtomicBool,
}

impl<'a> MlpStep<'a> {
    pub(super) fn new(cpu: &'a Cpu, input: &'a Inputs<'a>, groups: Vec<Group<'a>>) -> Self {
        let most = groups.iter().map(|group| group.rows.len()).max();
        Self {
            cpu,
            input,
            numbers: (0..most.unwrap_or(0) as u32).collect(),
            slots: groups.iter().map(|group| group.rows.len()).sum(),
            hidden: input.exact.cols(),
            groups,
        }
    }

    /// Computes the outputs of all slots into `out`: `[slots, hidden]`. Meant for a single group,
    /// whose weights are read once for all its rows.
    pub(super) fn run_into(&self, out: &mut [f32]) {
        let units = self.units(usize::MAX);
        let stripes = 0..self.hidden.div_ceil(OUTPUT_STRIPE);
        self.with_buffers(out, |buffers| {
            let tasks = self.tasks(&units, stripes);
            self.cpu.pool.run(tasks.len(), |index| {
                self.run_task(&units, tasks[index], &buffers);
            });
        });
    }

    /// Computes each row's weighted sum of its choices' outputs, the shared expert's last.
    pub(super) fn run_and_sum(&self, plan: &Plan, routing: &Routing, out: &mut Tensor) {
        let units = self.units(UNIT_ROWS);
        if out.rows() <= FEW_ROWS {
            self.sum_few(&units, plan, routing, out);
        } else {
            self.sum_many(&units, plan, routing, out);
        }
    }

    /// One region: whoever completes the outputs of some columns sums them.
    fn sum_few(&self, units: &[Unit<'_>], plan: &Plan, routing: &Routing, out: &mut Tensor) {
        let (hidden, rows) = (self.hidden, out.rows());
        let stripes = hidden.div_ceil(OUTPUT_STRIPE);
        let left: Vec<AtomicUsize> = (0..stripes)
            .map(|_| AtomicUsize::new(units.len()))
            .collect();
        let tasks = self.tasks(units, 0..stripes);
        let sums = Parts::new(out.data_mut());
        with_scratch(self.slots * hidden, |outputs| {
            self.with_buffers(outputs, |buffers| {
                self.cpu.pool.run(tasks.len(), |index| {
                    self.run_task(units, tasks[index], &buffers);
                    let Stripe::Outputs(stripe) = tasks[index].stripe else {
                        return;
                    };
                    // Acquires what the others of this stripe have written.
                    if left[stripe as usize].fetch_sub(1, Ordering::AcqRel) > 1 {
                        return;
                    }
                    let columns = range_of(stripe as usize, OUTPUT_STRIPE, hidden);
                    for row in 0..rows {
                        let start = row * hidden;
                        // SAFETY: only this task sums these columns, and all tasks that write
                        // outputs in them are done.
                        unsafe {
                            let sum = sums.part(start + columns.start..start + columns.end);
                            self.sum(plan, routing, row, columns.clone(), &buffers, sum);
                        }
                    }
                });
            });
        });
    }

    /// A region for the inner values, then two for each block of columns.
    fn sum_many(&self, units: &[Unit<'_>], plan: &Plan, routing: &Routing, out: &mut Tensor) {
        let (cpu, hidden) = (self.cpu, self.hidden);
        let block = (OUTPUTS_AT_ONCE / self.slots).next_multiple_of(OUTPUT_STRIPE);
        with_scratch(self.slots * block.min(hidden), |outputs| {
            self.with_buffers(outputs, |mut buffers| {
                for start in (0..hidden).step_by(block) {
                    let columns = start..hidden.min(start + block);
                    let stripes = start / OUTPUT_STRIPE..columns.end.div_ceil(OUTPUT_STRIPE);
                    let tasks = match start {
                        0 => self.tasks(units, stripes),
                        _ => self.output_tasks(units, stripes),
                    };
                    buffers.columns = columns.clone();
                    cpu.pool.run(tasks.len(), |index| {
                        self.run_task(units, tasks[index], &buffers);
                    });
                    let cost = (plan.rows.len() / routing.rows() + 1) * columns.len();
                    cpu.for_rows(out.data_mut(), hidden, cost, |row, sum| {
                        // SAFETY: the region that writes outputs is over.
                        unsafe {
                            let sum = &mut sum[columns.clone()];
                            self.sum(plan, routing, row, columns.clone(), &buffers, sum);
                        }
                    });
                }
            });
        });
    }

    /// Cuts the groups into units of at most `rows` rows.
    fn units(&self, rows: usize) -> Vec<Unit<'_>> {
        let mut units = Vec::with_capacity(self.groups.len());
        let mut first_inner = 0;
        for group in &self.groups {
            let width = group.weights.gate.rows();
            let count = group.rows.len();
            for start in (0..count).step_by(rows) {
                let rows = start..count.min(start.saturating_add(rows));
                let len = rows.len();
                units.push(Unit {
                    group,
                    rows,
                    first_inner,
                    left: AtomicUsize::new(width.div_ceil(INNER_STRIPE)),
                    inner: OnceLock::new(),
                });
                first_inner += len * width;
            }
        }
        units
    }

    /// The tasks of all units, with these stripes of outputs.
    fn tasks(&self, units: &[Unit<'_>], outputs: Range<usize>) -> Vec<Task> {
        let inner_stripes = |unit: &Unit<'_>| unit.group.weights.gate.rows().div_ceil(INNER_STRIPE);
        let inner = units.iter().map(inner_stripes).sum::<usize>();
        let mut tasks = Vec::with_capacity(inner + units.len() * outputs.len());
        // A unit's outputs come after as many more tasks of inner values as all threads can have
        // claimed, or they would wait for what a thread has claimed and not begun.
        let distance = MOST_AT_ONCE * self.cpu.threads();
        let (mut waiting, mut ahead) = (0, 0);
        for (index, unit) in units.iter().enumerate() {
            let stripes = inner_stripes(unit);
            tasks.extend((0..stripes).map(|stripe| Task {
                unit: index as u32,
                stripe: Stripe::Inner(stripe as u32),
            }));
            ahead += stripes;
            while waiting < index && ahead >= distance + inner_stripes(&units[waiting]) {
                ahead -= inner_stripes(&units[waiting]);
                tasks.extend(output_tasks_of(waiting, outputs.clone()));
                waiting += 1;
            }
        }
        tasks
            .extend((waiting..units.len()).flat_map(|unit| output_tasks_of(unit, outputs.clone())));
        tasks
    }

    fn output_tasks(&self, units: &[Unit<'_>], outputs: Range<usize>) -> Vec<Task> {
        (0..units.len())
            .flat_map(|unit| output_tasks_of(unit, outputs.clone()))
            .collect()
    }

    /// Runs `body` with buffers whose outputs are `outputs`, all columns at a time.
    fn with_buffers(&self, outputs: &mut [f32], body: impl FnOnce(Buffers<'_>)) {
        let inner_len = |group: &Group<'_>| group.rows.len() * group.weights.gate.rows();
        let inner_len = self.groups.iter().map(inner_len).sum();
        let gated = self.groups.iter().find(|group| group.shared_gate.is_some());
        let mut shared_weights = vec![0.0; gated.map_or(0, |group| group.rows.len())];
        with_scratch(inner_len, |inner| {
            body(Buffers {
                inner: Parts::new(inner),
                shared_weights: Parts::new(&mut shared_weights),
                outputs: Parts::new(outputs),
                columns: 0..self.hidden,
                failed: &AtomicBool::new(false),
            });
        });
    }

    fn run_task(&self, units: &[Unit<'_>], task: Task, buffers: &Buffers<'_>) {
        let unit = &units[task.unit as usize];
        let failed = FailedUnlessForgotten(buffers.failed);
        match task.stripe {
            Stripe::Inner(stripe) => {
                let width = unit.group.weights.gate.rows();
                let columns = range_of(stripe as usize, INNER_STRIPE, width);
                if stripe == 0 {
                    self.shared_weights(unit, buffers);
                }
                self.inner_values(unit, columns, &buffers.inner);
                // Releases what this task wrote and acquires what the others did.
                if unit.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    // SAFETY: all tasks that write the unit's inner values are done.
                    let inner = unsafe { self.finish(unit, &buffers.inner) };
                    // Nobody else sets it.
                    let _ = unit.inner.set(inner);
                }
            }
            Stripe::Outputs(stripe) => {
                if let Some(inner) = unit.wait(buffers.failed) {
                    let columns = range_of(stripe as usize, OUTPUT_STRIPE, self.hidden);
                    self.outputs(unit, inner, columns, buffers);
                }
            }
        }
        std::mem::forget(failed);
    }

    /// Computes the columns `columns` of `silu(gate x) * (up x)` for a unit's rows.
    fn inner_values(&self, unit: &Unit<'_>, columns: Range<usize>, inner: &Parts<'_, f32>) {
        let MlpWeights { gate, up, .. } = unit.group.weights;
        let rows = &unit.group.rows[unit.rows.clone()];
        let (width, stride) = (gate.rows(), columns.len());
        with_scratch(2 * rows.len() * stride, |scratch| {
            let (gates, ups) = scratch.split_at_mut(rows.len() * stride);
            for (matrix, out) in [(gate, &mut *gates), (up, &mut *ups)] {
                let to = Destination {
                    first: out.as_mut_ptr(),
                    stride,
                };
                // SAFETY: the buffer has a place for each row and column.
                unsafe { matrix.dots(self.cpu.dispatch, self.input, rows, columns.clone(), to) };
            }
            for (index, (gate, up)) in gates.chunks(stride).zip(ups.chunks(stride)).enumerate() {
                let start = unit.first_inner + index * width;
                // SAFETY: each task has columns of its own in its unit's rows.
                let out = unsafe { inner.part(start + columns.start..start + columns.end) };
                self.cpu.dispatch.run(SiluTimes { gate, up, out });
            }
        });
    }

    /// The shared expert's weight for each row of a unit, if it is the shared expert's.
    fn shared_weights(&self, unit: &Unit<'_>, buffers: &Buffers<'_>) {
        let Some(gate) = unit.group.shared_gate else {
            return;
        };
        // SAFETY: one task for each unit does this, and the shared expert's rows are all rows.
        let weights = unsafe { buffers.shared_weights.part(unit.rows.clone()) };
        let to = Destination {
            first: weights.as_mut_ptr(),
            stride: 1,
        };
        let rows = &unit.group.rows[unit.rows.clone()];
        // SAFETY: there is a weight for each row.
        unsafe { gate.dots(self.cpu.dispatch, self.input, rows, 0..1, to) };
        for weight in weights {
            *weight = self.cpu.dispatch.run(SigmoidOf(*weight));
        }
    }

    /// Brings a unit's inner values to the form that its down projection reads.
    ///
    /// # Safety
    /// Nobody may write them any more.
    unsafe fn finish(&self, unit: &Unit<'_>, inner: &Parts<'_, f32>) -> Inner {
        let MlpWeights { gate, down, .. } = unit.group.weights;
        let (rows, width) = (unit.rows.len(), gate.rows());
        let range = unit.first_inner..unit.first_inner + rows * width;
        // SAFETY: as the caller promises; this is the last task to touch them.
        let values = unsafe { inner.part(range) };
        if !down.wants_quantised() {
            return Inner {
                exact: Tensor::from_vec(rows, width, values.to_vec()),
                quantised: None,
            };
        }
        let mut quantised = Quantised::unspecified(rows, width);
        let (groups, per_row) = quantised.groups_mut();
        for (values, groups) in values.chunks(width).zip(groups.chunks_mut(per_row)) {
            quantise_row(self.cpu.dispatch, values, groups);
        }
        Inner {
            exact: Tensor::zeros(0, width),
            quantised: Some(quantised),
        }
    }

    /// Computes some columns of the down projection for a unit's rows.
    fn outputs(
        &self,
        unit: &Unit<'_>,
        inner: &Inner,
        columns: Range<usize>,
        buffers: &Buffers<'_>,
    ) {
        let stride = buffers.columns.len();
        let slot = unit.group.first_slot + unit.rows.start;
        let to = Destination {
            first: buffers
                .outputs
                .at(slot * stride + columns.start - buffers.columns.start),
            stride,
        };
        let inputs = Inputs {
            exact: &inner.exact,
            quantised: inner.quantised.as_ref().map(Cow::Borrowed),
        };
        let rows = &self.numbers[..unit.rows.len()];
        let down = &unit.group.weights.down;
        // SAFETY: the buffer has a place for each slot and column, and each task has columns of
        // its own in its unit's slots.
        unsafe { down.dots(self.cpu.dispatch, &inputs, rows, columns, to) };
    }

    /// One row's weighted sum over some columns, into `sum`.
    ///
    /// # Safety
    /// The outputs of all choices must be written in these columns, and nobody else may use them.
    unsafe fn sum(
        &self,
        plan: &Plan,
        routing: &Routing,
        row: usize,
        columns: Range<usize>,
        buffers: &Buffers<'_>,
        sum: &mut [f32],
    ) {
        let stride = buffers.columns.len();
        let add = |slot: usize, weight: f32, sum: &mut [f32]| {
            let start = slot * stride + columns.start - buffers.columns.start;
            // SAFETY: as the caller promises.
            let values = unsafe { buffers.outputs.part(start..start + columns.len()) };
            self.cpu.dispatch.run(AddScaled {
                sum,
                weight,
                values,
            });
        };
        sum.fill(0.0);
        for (slot, (_, weight)) in plan.slots(routing, row).iter().zip(routing.row(row)) {
            add(*slot as usize, *weight, sum);
        }
        if let Some(shared) = self.groups.iter().find(|group| group.shared_gate.is_some()) {
            // SAFETY: the weights were written before the shared expert's outputs.
            let weight = unsafe { *buffers.shared_weights.at(row) };
            add(shared.first_slot + row, weight, sum);
        }
    }
}

/// The tasks of one unit's outputs.
fn output_tasks_of(unit: usize, stripes: Range<usize>) -> impl Iterator<Item = Task> {
    stripes.map(move |stripe| Task {
        unit: unit as u32,
        stripe: Stripe::Outputs(stripe as u32),
    })
}

fn range_of(stripe: usize, len: usize, end: usize) -> Range<usize> {
    stripe * len..end.min((stripe + 1) * len)
}

impl Unit<'_> {
    /// The inner values, once they are complete; `None` if they never will be.
    fn wait(&self, failed: &AtomicBool) -> Option<&Inner> {
        let mut spins = 0;
        loop {
            if let Some(inner) = self.inner.get() {
                return Some(inner);
            }
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            // The thread that computes them may have lost its core.
            if spins < 1000 {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// Tells those who wait when a task unwinds.
struct FailedUnlessForgotten<'a>(&'a AtomicBool);

impl Drop for FailedUnlessForgotten<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `out = silu(gate) * up`
struct SiluTimes<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SiluTimes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.out.len();
        assert!(len == self.gate.len() && len == self.up.len());
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in all three.
            unsafe {
                let gate = s.load_up_to(self.gate.as_ptr().add(at), len - at);
                let up = s.load_up_to(self.up.as_ptr().add(at), len - at);
                let y = s.mul(silu(s, gate), up);
                s.store_up_to(self.out.as_mut_ptr().add(at), y, len - at);
            }
        }
    }
}

/// `sum += weight * values`
struct AddScaled<'a> {
    sum: &'a mut [f32],
    weight: f32,
    values: &'a [f32],
}

impl Kernel for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.sum.len();
        assert!(len == self.values.len());
        let weight = s.splat(self.weight);
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in both.
            unsafe {
                let sum = s.load_up_to(self.sum.as_ptr().add(at), len - at);
                let values = s.load_up_to(self.values.as_ptr().add(at), len - at);
                let y = s.mul_add(weight, values, sum);
                s.store_up_to(self.sum.as_mut_ptr().add(at), y, len - at);
            }
        }
    }
}

/// `1 / (1 + e^-x)` of one value, as the vector kernels compute it.
struct SigmoidOf(f32);

impl Kernel for SigmoidOf {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut lanes = [0.0; crate::simd::MAX_LANES];
        // SAFETY: the array holds a vector of any instruction set.
        unsafe { s.store(lanes.as_mut_ptr(), sigmoid(s, s.splat(self.0))) };
        lanes[0]
    }
}
