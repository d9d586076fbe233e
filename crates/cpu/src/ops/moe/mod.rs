//! Routing, experts and the dense MLP.
//!
//! An MLP is `down(silu(gate x) * (up x))`. All MLPs of a call, the shared expert among them, are
//! computed in one parallel region ([`step`]): there is no point at which every thread waits for
//! the slowest. Rows that share an expert are computed together ([`plan`]), so that its weights
//! are read once, but every row's outputs are summed in the order of its own routing, the shared
//! expert last.

mod plan;
mod route;
mod step;

use std::ops::Range;

use tensor::reference::shape_error;
use tensor::{HostRouting, MlpWeights, OpError, StoredExperts, Tensor};

use super::linear::{all_rows, check_input, inputs};
use crate::cpu::Cpu;
use crate::matrix::Matrix;
use plan::Plan;
use step::{Group, MlpStep};

pub(super) use route::route;

/// All experts of a layer, of the same sizes.
#[derive(Debug, Clone)]
pub struct Experts {
    experts: Vec<MlpWeights<Matrix>>,
}

/// The experts each row uses, most likely first.
#[derive(Debug, Clone, PartialEq)]
pub struct Routing {
    /// (expert, weight), row after row.
    choices: Vec<(u32, f32)>,
    /// Where each row's choices begin, and where the last one's end.
    starts: Vec<u32>,
    /// Among how many experts they were chosen, if that was here.
    among: Option<usize>,
}

impl Experts {
    pub(super) fn new(cpu: &Cpu, stored: StoredExperts) -> Result<Self, OpError> {
        let load = |stored| Matrix::new(cpu, stored);
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
            check_mlp("experts", expert.as_ref())?;
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
    /// As many choices in each of `rows` rows.
    fn even(choices: Vec<(u32, f32)>, rows: usize, among: usize) -> Self {
        let per_row = choices.len().checked_div(rows).unwrap_or(0);
        Self {
            choices,
            starts: (0..=rows).map(|row| (row * per_row) as u32).collect(),
            among: Some(among),
        }
    }

    /// What another device chose, or of that what is left to this one.
    pub(super) fn new(chosen: HostRouting) -> Self {
        let mut starts = Vec::with_capacity(chosen.choices.len() + 1);
        let mut choices = Vec::new();
        starts.push(0);
        for row in chosen.choices {
            let row = row.into_iter();
            choices.extend(row.map(|(expert, weight)| (expert as u32, weight)));
            starts.push(choices.len() as u32);
        }
        Self {
            choices,
            starts,
            among: None,
        }
    }

    fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// One row's experts with their weights, most likely first.
    pub fn row(&self, row: usize) -> &[(u32, f32)] {
        &self.choices[self.range(row)]
    }

    /// Where a row's choices are.
    fn range(&self, row: usize) -> Range<usize> {
        self.starts[row] as usize..self.starts[row + 1] as usize
    }
}

fn check_mlp(op: &'static str, weights: MlpWeights<&Matrix>) -> Result<(), OpError> {
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

pub(super) fn mlp(cpu: &Cpu, x: &Tensor, weights: MlpWeights<&Matrix>) -> Result<Tensor, OpError> {
    check_mlp("mlp", weights)?;
    check_input("mlp", x, weights.gate)?;
    let mut out = Tensor::unspecified(x.rows(), x.cols());
    if x.rows() == 0 {
        return Ok(out);
    }
    let rows = all_rows(x);
    let group = Group {
        weights,
        rows: &rows,
        first_slot: 0,
        shared_gate: None,
    };
    let input = inputs(cpu, x, &[weights.gate, weights.up]);
    MlpStep::new(cpu, &input, vec![group]).run_into(out.data_mut());
    Ok(out)
}

pub(super) fn experts(
    cpu: &Cpu,
    x: &Tensor,
    routing: &Routing,
    experts: &Experts,
    shared: Option<(MlpWeights<&Matrix>, &Matrix)>,
) -> Result<Tensor, OpError> {
    check_experts(x, routing, experts, shared)?;
    let mut out = Tensor::unspecified(x.rows(), x.cols());
    if x.rows() == 0 {
        return Ok(out);
    }
    let experts = &experts.experts;
    let plan = Plan::new(routing, experts.len());
    let rows = all_rows(x);
    // The shared expert has the most rows: it comes first, and the smallest group last.
    let mut groups = Vec::with_capacity(plan.groups.len() + 1);
    groups.extend(shared.map(|(shared, gate)| Group {
        weights: shared,
        rows: &rows,
        first_slot: plan.rows.len(),
        shared_gate: Some(gate),
    }));
    groups.extend(plan.groups.iter().map(|(expert, slots)| Group {
        weights: experts[*expert].as_ref(),
        rows: &plan.rows[slots.clone()],
        first_slot: slots.start,
        shared_gate: None,
    }));
    if groups.is_empty() {
        return Ok(Tensor::zeros(x.rows(), x.cols()));
    }
    if cpu.reads_ahead {
        for MlpWeights { gate, up, down } in groups.iter().map(|group| group.weights) {
            for matrix in [gate, up, down] {
                matrix.stored().will_need();
            }
        }
    }
    let mut used: Vec<&Matrix> = Vec::with_capacity(2 * groups.len() + 1);
    for group in &groups {
        used.extend([group.weights.gate, group.weights.up]);
        used.extend(group.shared_gate);
    }
    let input = inputs(cpu, x, &used);
    MlpStep::new(cpu, &input, groups).run_and_sum(&plan, routing, &mut out);
    Ok(out)
}

fn check_experts(
    x: &Tensor,
    routing: &Routing,
    experts: &Experts,
    shared: Option<(MlpWeights<&Matrix>, &Matrix)>,
) -> Result<(), OpError> {
    const OP: &str = "experts";
    let experts = &experts.experts;
    if routing.rows() != x.rows() {
        let found = routing.rows().to_string();
        return shape_error(OP, format!("{} routed rows", x.rows()), found);
    }
    if let Some(among) = routing.among.filter(|&among| among != experts.len()) {
        let expected = format!("choices among {} experts", experts.len());
        return shape_error(OP, expected, among.to_string());
    }
    let beyond = |choice: &&(u32, f32)| choice.0 as usize >= experts.len();
    if let Some((expert, _)) = routing.choices.iter().find(beyond) {
        let expected = format!("an expert below {}", experts.len());
        return shape_error(OP, expected, expert.to_string());
    }
    if let Some(expert) = experts.first() {
        check_input(OP, x, &expert.gate)?;
    }
    if let Some((shared, gate)) = shared {
        check_mlp(OP, shared)?;
        check_input(OP, x, shared.gate)?;
        check_input(OP, x, gate)?;
        if gate.rows() != 1 {
            let found = gate.rows().to_string();
            return shape_error(OP, "one row in the shared expert's gate", found);
        }
    }
    Ok(())
}
