//! Routing, experts and the dense MLP.
//!
//! Both kinds of MLP run in two parallel regions: one computes `silu(gate x) * (up x)` in stripes
//! of its width, the next one the down projection in stripes of its outputs. Rows that share an
//! expert are computed together, but every row's outputs are summed in the order of its own
//! routing, the shared expert last.

use std::ops::Range;

use tensor::reference::shape_error;
use tensor::{MlpWeights, MoeWeights, OpError, StoredExperts, Tensor};

use super::linear::{all_rows, check_input, inputs, linear};
use crate::cpu::Cpu;
use crate::matrix::{Destination, Inputs, Matrix};
use crate::parts::Parts;
use crate::scratch::with_scratch;
use crate::simd::{Kernel, Simd, sigmoid, silu};

/// Inner values per task of the first region, and outputs per task of the second.
const STRIPE: usize = 32;

/// All experts of a layer, of the same sizes.
#[derive(Debug, Clone)]
pub struct Experts {
    experts: Vec<MlpWeights<Matrix>>,
}

/// The experts each row uses, most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// `[rows, per_row]` of (expert, weight).
    choices: Vec<(u32, f32)>,
    per_row: usize,
}

impl Experts {
    pub(super) fn new(cpu: &Cpu, stored: StoredExperts) -> Result<Self, OpError> {
        let load = |stored| Matrix::new(stored, cpu.activations);
        let experts: Vec<MlpWeights<Matrix>> = stored
            .experts
            .into_iter()
            .map(|expert| MlpWeights {
                gate: load(expert.gate),
                up: load(expert.up),
                down: load(expert.down),
            })
            .collect();
        for expert in &experts {
            check_mlp("experts", expert)?;
            let sizes = |mlp: &MlpWeights<Matrix>| (mlp.gate.rows(), mlp.gate.cols());
            if sizes(expert) != sizes(&experts[0]) {
                let expected = format!("experts of {:?}", sizes(&experts[0]));
                return shape_error("experts", expected, format!("{:?}", sizes(expert)));
            }
        }
        Ok(Self { experts })
    }
}

#[cfg(test)]
impl Experts {
    pub(crate) fn first_for_tests(&self) -> &MlpWeights<Matrix> {
        &self.experts[0]
    }
}

impl Routing {
    /// One row's experts with their weights, most likely first.
    pub fn row(&self, row: usize) -> &[(u32, f32)] {
        &self.choices[row * self.per_row..][..self.per_row]
    }
}

fn check_mlp(op: &'static str, weights: &MlpWeights<Matrix>) -> Result<(), OpError> {
    let MlpWeights { gate, up, down } = weights;
    let (width, hidden) = (gate.rows(), gate.cols());
    if (up.rows(), up.cols(), down.rows(), down.cols()) == (width, hidden, hidden, width) {
        return Ok(());
    }
    let shape = |m: &Matrix| format!("[{}, {}]", m.rows(), m.cols());
    shape_error(
        op,
        format!("up of [{width}, {hidden}] and down of [{hidden}, {width}]"),
        format!("{} and {}", shape(up), shape(down)),
    )
}

pub(super) fn route(
    cpu: &Cpu,
    x: &Tensor,
    weights: &MoeWeights<Matrix, Experts>,
) -> Result<Routing, OpError> {
    let [logits] = linear(cpu, x, [&weights.router])?;
    if weights.router.rows() != weights.experts.experts.len() {
        let expected = format!("{} rows in the router", weights.experts.experts.len());
        return shape_error("route", expected, weights.router.rows().to_string());
    }
    let per_row = weights.top_k.min(logits.cols());
    let mut choices = vec![(0, 0.0); x.rows() * per_row];
    if per_row > 0 {
        // An exponential of the standard library costs as much as some sixteen vector operations.
        let cost = 16 * logits.cols();
        cpu.for_rows(&mut choices, per_row, cost, |row, choices| {
            choose(logits.row(row), weights.renormalise, choices);
        });
    }
    Ok(Routing { choices, per_row })
}

/// Fills `choices` with the most likely experts and their weights, ties going to the lower index.
fn choose(logits: &[f32], renormalise: bool, choices: &mut [(u32, f32)]) {
    with_scratch(logits.len(), |exponentials| {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (exponential, logit) in exponentials.iter_mut().zip(logits) {
            *exponential = (logit - largest).exp();
        }
        let mut found = 0;
        for (expert, value) in exponentials.iter().enumerate() {
            // Insert behind all that are not smaller; what falls off the end was too small.
            let place = choices[..found].partition_point(|(_, v)| v.total_cmp(value).is_ge());
            if place < choices.len() {
                found = (found + 1).min(choices.len());
                choices.copy_within(place..found - 1, place + 1);
                choices[place] = (expert as u32, *value);
            }
        }
        let sum: f32 = if renormalise {
            choices.iter().map(|(_, value)| value).sum()
        } else {
            exponentials.iter().sum()
        };
        for (_, value) in choices {
            *value /= sum;
        }
    });
}

pub(super) fn mlp(cpu: &Cpu, x: &Tensor, weights: &MlpWeights<Matrix>) -> Result<Tensor, OpError> {
    check_mlp("mlp", weights)?;
    check_input("mlp", x, &weights.gate)?;
    let rows = all_rows(x);
    let mut inner = Tensor::zeros(x.rows(), weights.gate.rows());
    let input = inputs(cpu, x, &[&weights.gate, &weights.up]);
    let group = Group {
        weights,
        rows: &rows,
        slots: 0..x.rows(),
    };
    let width = inner.cols();
    let parts = Parts::new(inner.data_mut());
    if !rows.is_empty() {
        cpu.pool.run(width.div_ceil(STRIPE), |stripe| {
            // SAFETY: each task has columns of its own.
            unsafe { group.gate_and_up(cpu, &input, stripe_range(stripe, width), &parts) };
        });
    }
    let [out] = linear(cpu, &inner, [&weights.down])?;
    Ok(out)
}

fn stripe_range(stripe: usize, len: usize) -> Range<usize> {
    stripe * STRIPE..len.min((stripe + 1) * STRIPE)
}

/// An MLP and the rows that go through it.
struct Group<'a> {
    weights: &'a MlpWeights<Matrix>,
    /// Rows of the input.
    rows: &'a [u32],
    /// Their rows of the inner values.
    slots: Range<usize>,
}

impl Group<'_> {
    /// Computes the columns `columns` of `silu(gate x) * (up x)` for the group's rows, into their
    /// rows of `inner` (`[slots, width]`).
    ///
    /// # Safety
    /// Nobody else may use these places meanwhile.
    unsafe fn gate_and_up(
        &self,
        cpu: &Cpu,
        input: &Inputs<'_>,
        columns: Range<usize>,
        inner: &Parts<'_, f32>,
    ) {
        let MlpWeights { gate, up, .. } = self.weights;
        let (count, width, stride) = (self.rows.len(), gate.rows(), columns.len());
        with_scratch(2 * count * stride, |scratch| {
            let (gates, ups) = scratch.split_at_mut(count * stride);
            for (matrix, out) in [(gate, &mut *gates), (up, &mut *ups)] {
                let to = Destination {
                    first: out.as_mut_ptr(),
                    stride,
                };
                // SAFETY: the buffer has a place for each row and column.
                unsafe { matrix.dots(cpu.dispatch, input, self.rows, columns.clone(), to) };
            }
            for (index, slot) in self.slots.clone().enumerate() {
                let start = slot * width;
                // SAFETY: as the caller promises.
                let out = unsafe { inner.part(start + columns.start..start + columns.end) };
                cpu.dispatch.run(SiluTimes {
                    gate: &gates[index * stride..][..stride],
                    up: &ups[index * stride..][..stride],
                    out,
                });
            }
        });
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

/// The rows of each expert, and where each choice of each row is among them.
struct Plan {
    /// Rows of the input, grouped by expert.
    rows: Vec<u32>,
    /// Where each used expert's rows are in `rows`: its number and its slots.
    slots_of_expert: Vec<(usize, Range<usize>)>,
    /// `[rows, per_row]`: the slot that computes a choice.
    slot_of: Vec<u32>,
}

impl Plan {
    fn new(routing: &Routing, experts: usize) -> Self {
        let mut next = vec![0; experts + 1];
        for &(expert, _) in &routing.choices {
            next[expert as usize + 1] += 1;
        }
        for expert in 0..experts {
            next[expert + 1] += next[expert];
        }
        let slots_of_expert = next
            .windows(2)
            .enumerate()
            .filter(|(_, bounds)| bounds[0] < bounds[1])
            .map(|(expert, bounds)| (expert, bounds[0]..bounds[1]))
            .collect();
        let mut rows = vec![0; routing.choices.len()];
        let mut slot_of = vec![0; routing.choices.len()];
        for (choice, &(expert, _)) in routing.choices.iter().enumerate() {
            let slot = &mut next[expert as usize];
            rows[*slot] = (choice / routing.per_row) as u32;
            slot_of[choice] = *slot as u32;
            *slot += 1;
        }
        Self {
            rows,
            slots_of_expert,
            slot_of,
        }
    }

    /// The used experts with their rows.
    fn groups<'a>(&'a self, experts: &'a [MlpWeights<Matrix>]) -> Vec<Group<'a>> {
        let group = |(expert, slots): &(usize, Range<usize>)| Group {
            weights: &experts[*expert],
            rows: &self.rows[slots.clone()],
            slots: slots.clone(),
        };
        self.slots_of_expert.iter().map(group).collect()
    }

    /// A row's choices in their order, each with the slot that computes it.
    fn slots<'a>(
        &'a self,
        row: usize,
        routing: &'a Routing,
    ) -> impl Iterator<Item = (usize, &'a (u32, f32))> {
        let slots = &self.slot_of[row * routing.per_row..][..routing.per_row];
        slots
            .iter()
            .map(|slot| *slot as usize)
            .zip(routing.row(row))
    }
}

pub(super) fn experts(
    cpu: &Cpu,
    x: &Tensor,
    routing: &Routing,
    weights: &MoeWeights<Matrix, Experts>,
) -> Result<Tensor, OpError> {
    check_experts(x, routing, weights)?;
    let mut out = Tensor::zeros(x.rows(), x.cols());
    if x.rows() == 0 {
        return Ok(out);
    }
    let plan = Plan::new(routing, weights.experts.experts.len());
    let rows = all_rows(x);
    let step = Step {
        cpu,
        routing,
        plan: &plan,
        rows: &rows,
        routed: plan.groups(&weights.experts.experts),
        shared: weights.shared.as_ref().map(|(shared, gate)| {
            let group = Group {
                weights: shared,
                rows: &rows,
                slots: 0..x.rows(),
            };
            (group, gate)
        }),
    };
    let inner = step.inner_values(x);
    step.weighted_sums(&inner, &mut out);
    Ok(out)
}

fn check_experts(
    x: &Tensor,
    routing: &Routing,
    weights: &MoeWeights<Matrix, Experts>,
) -> Result<(), OpError> {
    const OP: &str = "experts";
    let experts = &weights.experts.experts;
    let expected = x.rows() * routing.per_row;
    if routing.choices.len() != expected {
        let found = routing.choices.len().to_string();
        return shape_error(OP, format!("{expected} choices"), found);
    }
    let beyond = |choice: &&(u32, f32)| choice.0 as usize >= experts.len();
    if let Some((expert, _)) = routing.choices.iter().find(beyond) {
        let expected = format!("an expert below {}", experts.len());
        return shape_error(OP, expected, expert.to_string());
    }
    if let Some(expert) = experts.first() {
        check_input(OP, x, &expert.gate)?;
    }
    if let Some((shared, gate)) = &weights.shared {
        check_mlp(OP, shared)?;
        check_input(OP, x, &shared.gate)?;
        check_input(OP, x, gate)?;
        if gate.rows() != 1 {
            let found = gate.rows().to_string();
            return shape_error(OP, "one row in the shared expert's gate", found);
        }
    }
    Ok(())
}

/// One call of [`experts`].
struct Step<'a> {
    cpu: &'a Cpu,
    routing: &'a Routing,
    plan: &'a Plan,
    /// All rows.
    rows: &'a [u32],
    /// The used experts; their slots are those of the plan.
    routed: Vec<Group<'a>>,
    /// The shared expert, whose slots are the rows, and its gate.
    shared: Option<(Group<'a>, &'a Matrix)>,
}

/// What the first region computes.
struct InnerValues {
    /// `[slots, width]`
    routed: Tensor,
    /// `[rows, width of the shared expert]`
    shared: Tensor,
    /// `[rows]`: the shared expert's weights.
    shared_weights: Vec<f32>,
}

impl Step<'_> {
    /// `silu(gate x) * (up x)` of all experts for their rows, and the shared expert's weights.
    fn inner_values(&self, x: &Tensor) -> InnerValues {
        let mut used: Vec<&Matrix> = Vec::new();
        for group in self.routed.iter().chain(self.shared.iter().map(|s| &s.0)) {
            used.extend([&group.weights.gate, &group.weights.up]);
        }
        used.extend(self.shared.iter().map(|s| s.1));
        let input = inputs(self.cpu, x, &used);

        let width_of = |group: Option<&Group<'_>>| group.map_or(0, |g| g.weights.gate.rows());
        let width = width_of(self.routed.first());
        let shared_width = width_of(self.shared.as_ref().map(|s| &s.0));
        let mut values = InnerValues {
            routed: Tensor::zeros(self.plan.rows.len(), width),
            shared: Tensor::zeros(x.rows(), shared_width),
            shared_weights: vec![0.0; x.rows()],
        };
        let routed = Parts::new(values.routed.data_mut());
        let shared = Parts::new(values.shared.data_mut());
        let gates = Parts::new(&mut values.shared_weights);
        let (stripes, shared_stripes) = (width.div_ceil(STRIPE), shared_width.div_ceil(STRIPE));
        let routed_tasks = self.routed.len() * stripes;
        // The last task is the shared expert's gate.
        let tasks = routed_tasks + self.shared.as_ref().map_or(0, |_| shared_stripes + 1);
        self.cpu.pool.run(tasks, |task| {
            if task < routed_tasks {
                let (group, columns) = (task / stripes, stripe_range(task % stripes, width));
                // SAFETY: each task has columns of its own in its group's slots.
                unsafe { self.routed[group].gate_and_up(self.cpu, &input, columns, &routed) };
            } else if let Some((group, gate)) = &self.shared {
                let stripe = task - routed_tasks;
                if stripe < shared_stripes {
                    let columns = stripe_range(stripe, shared_width);
                    // SAFETY: likewise.
                    unsafe { group.gate_and_up(self.cpu, &input, columns, &shared) };
                } else {
                    // SAFETY: only this task uses the gates.
                    let gates = unsafe { gates.part(0..self.rows.len()) };
                    self.shared_weights(&input, gate, gates);
                }
            }
        });
        values
    }

    fn shared_weights(&self, input: &Inputs<'_>, gate: &Matrix, weights: &mut [f32]) {
        let to = Destination {
            first: weights.as_mut_ptr(),
            stride: 1,
        };
        // SAFETY: there is a weight for each row.
        unsafe { gate.dots(self.cpu.dispatch, input, self.rows, 0..1, to) };
        for weight in weights {
            *weight = self.cpu.dispatch.run(SigmoidOf(*weight));
        }
    }

    /// The down projections of all experts, and each row's weighted sum of them.
    fn weighted_sums(&self, inner: &InnerValues, out: &mut Tensor) {
        let (cpu, plan) = (self.cpu, self.plan);
        let downs: Vec<&Matrix> = self.routed.iter().map(|g| &g.weights.down).collect();
        let routed_inner = inputs(cpu, &inner.routed, &downs);
        let shared_down = self.shared.as_ref().map(|(group, _)| &group.weights.down);
        let shared_inner = inputs(cpu, &inner.shared, shared_down.as_slice());
        let slots: Vec<u32> = (0..plan.rows.len() as u32).collect();
        let hidden = out.cols();
        let sums = Parts::new(out.data_mut());
        cpu.pool.run(hidden.div_ceil(STRIPE), |stripe| {
            let columns = stripe_range(stripe, hidden);
            let stride = columns.len();
            with_scratch((slots.len() + self.rows.len()) * stride, |outputs| {
                let (outputs, shared_outputs) = outputs.split_at_mut(slots.len() * stride);
                for group in &self.routed {
                    let to = Destination {
                        first: outputs[group.slots.start * stride..].as_mut_ptr(),
                        stride,
                    };
                    let (down, slots) = (&group.weights.down, &slots[group.slots.clone()]);
                    // SAFETY: the buffer has a place for each slot and column.
                    unsafe { down.dots(cpu.dispatch, &routed_inner, slots, columns.clone(), to) };
                }
                if let Some(down) = shared_down {
                    let (rows, to) = (
                        self.rows,
                        Destination {
                            first: shared_outputs.as_mut_ptr(),
                            stride,
                        },
                    );
                    // SAFETY: likewise, for each row.
                    unsafe { down.dots(cpu.dispatch, &shared_inner, rows, columns.clone(), to) };
                }
                for row in 0..self.rows.len() {
                    let start = row * hidden;
                    // SAFETY: each task has columns of its own.
                    let sum = unsafe { sums.part(start + columns.start..start + columns.end) };
                    for (slot, (_, weight)) in plan.slots(row, self.routing) {
                        add_weighted(sum, *weight, &outputs[slot * stride..][..stride]);
                    }
                    if shared_down.is_some() {
                        let output = &shared_outputs[row * stride..][..stride];
                        add_weighted(sum, inner.shared_weights[row], output);
                    }
                }
            });
        });
    }
}

fn add_weighted(sum: &mut [f32], weight: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += weight * value;
    }
}
