//! Routing and experts. What was chosen stays on the device.

use tensor::reference::shape_error;
use tensor::{MlpWeights, MoeWeights, OpError};

use crate::args;
use crate::gpu::{GROUP, Gpu};
use crate::matrix::{Experts, Matrix};
use crate::pool::Buffer;
use crate::tensor_on_device::{Activations, Codes};

const EXPERT_THREADS: usize = 256;
/// Inner values of a block, and outputs of one.
const INNER_ROWS: usize = 32;
const DOWN_THREADS: usize = 128;
const DOWN_ROWS: usize = 16;
/// Pairs of a block where there are many.
const TILE: usize = 8;
/// Up to so many tokens, each pair has blocks of its own.
const FEW_TOKENS: usize = 8;
const MOST_EXPERTS: usize = 1024;
/// The most experts of a token: a warp keeps their weights.
const MOST_CHOSEN: usize = 32;

/// Which experts each row uses, with their weights, on the device.
pub struct Routing {
    /// Rows, and slots of each: chosen experts, and the shared one.
    rows: usize,
    slots: usize,
    chosen: Buffer,
    weights: Buffer,
}

impl Gpu {
    pub(super) fn choose_experts(
        &self,
        x: &Activations,
        weights: &MoeWeights<Matrix, Experts>,
    ) -> Result<Routing, OpError> {
        let (experts, top_k) = (weights.router.rows(), weights.top_k);
        if experts > MOST_EXPERTS || !(1..=experts.min(MOST_CHOSEN)).contains(&top_k) {
            let expected = format!("up to {MOST_CHOSEN} of up to {MOST_EXPERTS} experts");
            return shape_error("route", expected, format!("{top_k} of {experts}"));
        }
        if experts != weights.experts.count {
            let expected = format!("a router for {} experts", weights.experts.count);
            return shape_error("route", expected, format!("{experts}"));
        }
        let gate = weights.shared.as_ref().map(|(_, gate)| gate);
        let heads: Vec<&Matrix> = [Some(&weights.router), gate]
            .into_iter()
            .flatten()
            .collect();
        let logits = self.products(x, &heads)?;
        let slots = top_k + usize::from(gate.is_some());
        let chosen = self.take(x.rows * slots * size_of::<u32>())?;
        let chosen_weights = self.take(x.rows * slots * size_of::<f32>())?;
        let args = args::Choose {
            logits: logits[0].values.address(),
            shared_logits: logits.get(1).map_or(0, |logits| logits.values.address()),
            chosen: chosen.address(),
            weights: chosen_weights.address(),
            tokens: x.rows as i32,
            experts: experts as i32,
            top_k: top_k as i32,
            slots: slots as i32,
            renormalise: i32::from(weights.renormalise),
        };
        // SAFETY: there are logits for each row and expert, and room for each row's slots.
        unsafe { self.launch("choose", [x.rows.div_ceil(4), 1, 1], 128, &args)? };
        Ok(Routing {
            rows: x.rows,
            slots,
            chosen,
            weights: chosen_weights,
        })
    }

    pub(super) fn run_experts(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: &MoeWeights<Matrix, Experts>,
    ) -> Result<Activations, OpError> {
        const OP: &str = "experts";
        let experts = &weights.experts;
        let shared = weights.shared.as_ref().map(|(mlp, _)| mlp);
        let slots = weights.top_k + usize::from(shared.is_some());
        if (routing.rows, routing.slots) != (x.rows, slots) {
            let found = format!("{} of {}", routing.rows, routing.slots);
            return shape_error(OP, format!("{} rows with {slots} experts", x.rows), found);
        }
        let hidden = experts.down.0.rows;
        let mut width = experts.gate.0.rows;
        check_mlp(
            OP,
            x.cols,
            [&experts.gate.0, &experts.up.0, &experts.down.0],
        )?;
        if let Some(shared) = shared {
            check_mlp(OP, x.cols, layouts(shared))?;
            if shared.down.rows() != hidden {
                let expected = format!("a shared expert with outputs of {hidden}");
                return shape_error(OP, expected, format!("{}", shared.down.rows()));
            }
            width = width.max(shared.gate.rows());
        }
        let routed =
            |(layout, offset): (crate::matrix::Layout, usize)| layout.args(&experts.memory, offset);
        let matrix = |routed: args::Matrix, shared: Option<&Matrix>| args::ExpertMatrix {
            routed,
            shared: shared.map_or_else(args::Matrix::default, Matrix::args),
        };
        let needs_codes = experts.gate.0.is_quantised()
            || experts.up.0.is_quantised()
            || shared
                .is_some_and(|mlp| mlp.gate.layout.is_quantised() || mlp.up.layout.is_quantised());
        let rounds = experts.down.0.is_quantised()
            || shared.is_some_and(|mlp| mlp.down.layout.is_quantised());

        let mut made = None;
        let inputs = self.inputs(x, needs_codes, &mut made)?;
        let pairs = x.rows * slots;
        let inner = self.inner(pairs, width.next_multiple_of(GROUP), rounds)?;
        let out = self.tensor(x.rows, hidden)?;
        let mut args = args::Experts {
            inputs,
            inner: inner.args(),
            chosen: routing.chosen.address(),
            weights: routing.weights.address(),
            gate: matrix(routed(experts.gate), shared.map(|mlp| &mlp.gate)),
            up: matrix(routed(experts.up), shared.map(|mlp| &mlp.up)),
            down: matrix(routed(experts.down), shared.map(|mlp| &mlp.down)),
            stride: experts.bytes as u64,
            out: out.values.address(),
            experts: experts.count as i32,
            slots: slots as i32,
            tokens: x.rows as i32,
            hidden: hidden as i32,
            rounds: i32::from(rounds),
            ..args::Experts::default()
        };
        let inner_blocks = width.div_ceil(INNER_ROWS);
        let down_blocks = hidden.div_ceil(DOWN_ROWS);
        if x.rows <= FEW_TOKENS {
            // SAFETY: shapes were checked, there is room for every pair, and the device chose experts that
            // there are.
            unsafe {
                self.launch("gate_up_1", [inner_blocks, pairs, 1], EXPERT_THREADS, &args)?;
                self.launch(
                    "down_and_sum",
                    [down_blocks, x.rows, 1],
                    DOWN_THREADS,
                    &args,
                )?;
            }
            return Ok(out);
        }
        let most_tiles = pairs.min(pairs / TILE + experts.count + 1);
        let order = self.take(pairs * size_of::<u32>())?;
        let tiles = self.take(most_tiles * 3 * size_of::<u32>())?;
        let outs = self.tensor(pairs, hidden)?;
        let sort = args::SortPairs {
            chosen: args.chosen,
            order: order.address(),
            tiles: tiles.address(),
            pairs: pairs as i32,
            experts: experts.count as i32,
            most_tiles: most_tiles as i32,
        };
        args.order = order.address();
        args.tiles = tiles.address();
        args.outs = outs.values.address();
        let sums = [hidden.div_ceil(EXPERT_THREADS), x.rows, 1];
        // SAFETY: as above; and there are at most so many tiles.
        unsafe {
            self.launch("sort_pairs", [1, 1, 1], EXPERT_THREADS, &sort)?;
            self.launch(
                "gate_up_8",
                [inner_blocks, most_tiles, 1],
                EXPERT_THREADS,
                &args,
            )?;
            self.launch("down", [down_blocks, most_tiles, 1], DOWN_THREADS, &args)?;
            self.launch("sum_slots", sums, EXPERT_THREADS, &args)?;
        }
        Ok(out)
    }

    /// `silu(gate x) * (up x)` of one MLP.
    pub(super) fn shared_inner(
        &self,
        x: &Activations,
        weights: &MlpWeights<Matrix>,
    ) -> Result<Activations, OpError> {
        check_mlp("mlp", x.cols, layouts(weights))?;
        let needs_codes = weights.gate.layout.is_quantised() || weights.up.layout.is_quantised();
        let rounds = weights.down.layout.is_quantised();
        let mut made = None;
        let inputs = self.inputs(x, needs_codes, &mut made)?;
        let width = weights.gate.rows();
        let inner = self.inner(x.rows, width, rounds)?;
        let matrix = |shared: &Matrix| args::ExpertMatrix {
            shared: shared.args(),
            ..args::ExpertMatrix::default()
        };
        let args = args::Experts {
            inputs,
            inner: inner.args(),
            gate: matrix(&weights.gate),
            up: matrix(&weights.up),
            slots: 1,
            tokens: x.rows as i32,
            rounds: i32::from(rounds),
            ..args::Experts::default()
        };
        let (kernel, at_once) = if x.rows == 1 {
            ("gate_up_1", 1)
        } else {
            ("gate_up_8", TILE)
        };
        let grid = [width.div_ceil(INNER_ROWS), x.rows.div_ceil(at_once), 1];
        // SAFETY: shapes were checked, and there is room for every row.
        unsafe { self.launch(kernel, grid, EXPERT_THREADS, &args)? };
        Ok(inner.0)
    }

    fn inner(&self, pairs: usize, width: usize, rounds: bool) -> Result<Inner, OpError> {
        let mut inner = self.tensor(pairs, width)?;
        if rounds {
            inner.codes = self.codes(pairs, width)?;
        }
        Ok(Inner(inner))
    }
}

/// Inner values, written by one kernel and read by the next.
struct Inner(Activations);

impl Inner {
    fn args(&self) -> args::Inputs {
        let codes = self.0.codes.as_ref();
        args::Inputs {
            values: self.0.values.address(),
            codes: codes.map_or(0, |Codes { codes, .. }| codes.address()),
            scales: codes.map_or(0, |Codes { scales, .. }| scales.address()),
            cols: self.0.cols as u64,
        }
    }
}

fn layouts(mlp: &MlpWeights<Matrix>) -> [&crate::matrix::Layout; 3] {
    [&mlp.gate.layout, &mlp.up.layout, &mlp.down.layout]
}

/// Checks that gate, up and down fit each other and inputs of `cols`.
fn check_mlp(
    op: &'static str,
    cols: usize,
    [gate, up, down]: [&crate::matrix::Layout; 3],
) -> Result<(), OpError> {
    let fits = gate.cols == cols
        && (up.rows, up.cols) == (gate.rows, cols)
        && down.cols == gate.rows
        && (!down.is_quantised() || gate.rows.is_multiple_of(GROUP));
    if fits {
        return Ok(());
    }
    let sizes = [gate, up, down].map(|layout| format!("[{}, {}]", layout.rows, layout.cols));
    shape_error(
        op,
        format!("gate, up and down for {cols} inputs"),
        sizes.join(", "),
    )
}
