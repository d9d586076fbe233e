//! Routing and experts. What was chosen stays on the device.

use tensor::reference::shape_error;
use tensor::{HostRouting, MlpWeights, MoeWeights, OpError};

use super::expert_tiles::{Kernel, SIZES, Size, are_tiled, first_tiles, size_for};
use crate::args;
use crate::driver::Memory;
use crate::gpu::{GROUP, Gpu};
use crate::matrix::{Experts, Layout, Matrix};
use crate::pool::Buffer;
use crate::tensor_on_device::{Activations, Codes};

const EXPERT_THREADS: usize = 256;
/// Inner values of a block, and outputs of one.
const INNER_ROWS: usize = 32;
const DOWN_THREADS: usize = 128;
const DOWN_ROWS: usize = 16;
/// Up to so many tokens, each pair has blocks of its own.
const FEW_TOKENS: usize = 8;
const MOST_EXPERTS: usize = 1024;
/// Of a tile: expert, first pair, pairs.
const TILE_BYTES: usize = 3 * size_of::<u32>();
/// The most experts of a token: a warp keeps their weights.
const MOST_CHOSEN: usize = 32;

/// Which experts each row uses, with their weights, on the device.
pub struct Routing {
    rows: usize,
    choice: Choice,
    /// Of each row: chosen experts, and the shared one.
    slots: usize,
    chosen: Buffer,
    weights: Buffer,
}

/// How experts are chosen.
#[derive(Debug, Clone, Copy)]
struct Choice {
    /// Among so many.
    experts: usize,
    top_k: usize,
    renormalise: bool,
}

impl Gpu {
    pub(super) fn choose_experts<E>(
        &self,
        x: &Activations,
        weights: &MoeWeights<&Matrix, E>,
    ) -> Result<Routing, OpError> {
        let (experts, top_k) = (weights.router.rows(), weights.top_k);
        if experts > MOST_EXPERTS || !(1..=experts.min(MOST_CHOSEN)).contains(&top_k) {
            let expected = format!("up to {MOST_CHOSEN} of up to {MOST_EXPERTS} experts");
            return shape_error("route", expected, format!("{top_k} of {experts}"));
        }
        let gate = weights.shared.as_ref().map(|(_, gate)| *gate);
        let heads: Vec<&Matrix> = [Some(weights.router), gate].into_iter().flatten().collect();
        let logits = self.products(x, &heads)?;
        let choice = Choice {
            experts,
            top_k,
            renormalise: weights.renormalise,
        };
        self.choose(x.rows, choice, logits.first(), logits.get(1))
    }

    /// Chooses by the logits of experts, and of the shared one if there are any.
    fn choose(
        &self,
        rows: usize,
        choice: Choice,
        logits: Option<&Activations>,
        shared: Option<&Activations>,
    ) -> Result<Routing, OpError> {
        let slots = choice.top_k + usize::from(shared.is_some());
        let chosen = self.take(rows * slots * size_of::<u32>())?;
        let weights = self.take(rows * slots * size_of::<f32>())?;
        let args = args::Choose {
            logits: logits.map_or(0, |logits| logits.values.address()),
            shared_logits: shared.map_or(0, |logits| logits.values.address()),
            chosen: chosen.address(),
            weights: weights.address(),
            tokens: rows as i32,
            experts: choice.experts as i32,
            top_k: choice.top_k as i32,
            slots: slots as i32,
            renormalise: i32::from(choice.renormalise),
        };
        // SAFETY: there are logits for each row and expert, and room for each row's slots.
        unsafe { self.launch("choose", [rows.div_ceil(4), 1, 1], 128, &args)? };
        Ok(Routing {
            rows,
            choice,
            slots,
            chosen,
            weights,
        })
    }

    pub(super) fn chosen_experts(&self, routing: &Routing) -> Result<HostRouting, OpError> {
        let pairs = routing.rows * routing.slots;
        let (mut chosen, mut weights) = (vec![0u32; pairs], vec![0.0f32; pairs]);
        self.fetch(&routing.chosen, &mut chosen)?;
        self.fetch(&routing.weights, &mut weights)?;
        let chosen = chosen.into_iter().map(|expert| expert as usize);
        let pairs: Vec<(usize, f32)> = chosen.zip(weights).collect();
        let rows = pairs.chunks(routing.slots.max(1));
        Ok(HostRouting {
            choices: rows
                .map(|row| row[..routing.choice.top_k].to_vec())
                .collect(),
        })
    }

    pub(super) fn run_experts(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: &MoeWeights<&Matrix, &Experts>,
    ) -> Result<Activations, OpError> {
        let experts = weights.experts;
        let shared = weights.shared.as_ref().map(|(mlp, _)| *mlp);
        self.run_routed(x, routing, (experts, experts.count, None), shared)
    }

    /// Experts of a layer that has `among` of them: all of these, or those that a table gives a slot.
    pub(super) fn run_routed(
        &self,
        x: &Activations,
        routing: &Routing,
        (experts, among, slot_of): (&Experts, usize, Option<&Memory>),
        shared: Option<MlpWeights<&Matrix>>,
    ) -> Result<Activations, OpError> {
        let chosen = routing.choice.experts;
        if chosen != among {
            let expected = format!("choices among {among} experts");
            return shape_error("experts", expected, format!("{chosen}"));
        }
        let slots = routing.choice.top_k + usize::from(shared.is_some());
        self.weighted_sum(x, routing, slots, Some((experts, slot_of)), shared)
    }

    pub(super) fn run_shared_expert(
        &self,
        x: &Activations,
        (mlp, gate): (MlpWeights<&Matrix>, &Matrix),
    ) -> Result<Activations, OpError> {
        let logits = self.products(x, &[gate])?;
        let none = Choice {
            experts: 0,
            top_k: 0,
            renormalise: false,
        };
        let routing = self.choose(x.rows, none, None, logits.first())?;
        self.weighted_sum(x, &routing, 1, None, Some(mlp))
    }

    /// What the experts of each row's slots say, times their weights.
    fn weighted_sum(
        &self,
        x: &Activations,
        routing: &Routing,
        slots: usize,
        routed: Option<(&Experts, Option<&Memory>)>,
        shared: Option<MlpWeights<&Matrix>>,
    ) -> Result<Activations, OpError> {
        let (experts, slot_of) = (
            routed.map(|routed| routed.0),
            routed.and_then(|routed| routed.1),
        );
        const OP: &str = "experts";
        if (routing.rows, routing.slots) != (x.rows, slots) {
            let found = format!("{} of {}", routing.rows, routing.slots);
            return shape_error(OP, format!("{} rows with {slots} experts", x.rows), found);
        }
        let routed_layouts =
            experts.map(|experts| [&experts.gate.0, &experts.up.0, &experts.down.0]);
        let shared_layouts = shared.map(layouts);
        let mut width = 0;
        let mut hidden = None;
        for mlp in [routed_layouts, shared_layouts].into_iter().flatten() {
            check_mlp(OP, x.cols, mlp)?;
            let [gate, _, down] = mlp;
            width = width.max(gate.rows);
            let hidden = *hidden.get_or_insert(down.rows);
            if down.rows != hidden {
                let expected = format!("a shared expert with outputs of {hidden}");
                return shape_error(OP, expected, format!("{}", down.rows));
            }
        }
        let hidden = hidden.unwrap_or(0);
        let all = || [routed_layouts, shared_layouts].into_iter().flatten();
        let needs_codes = all().any(|[gate, up, _]| gate.is_quantised() || up.is_quantised());
        let rounds = all().any(|[_, _, down]| down.is_quantised());
        let matrix = |part: fn(&Experts) -> (Layout, usize), shared: Option<&Matrix>| {
            let routed = |experts: &Experts| {
                let (layout, offset) = part(experts);
                layout.args(&experts.memory, offset)
            };
            args::ExpertMatrix {
                routed: experts.map_or_else(args::Matrix::default, routed),
                shared: shared.map_or_else(args::Matrix::default, Matrix::args),
            }
        };

        let count = routing.choice.experts;
        let mut made = None;
        let inputs = self.inputs(x, needs_codes, &mut made)?;
        let pairs = x.rows * slots;
        let inner = self.inner(pairs, width.next_multiple_of(GROUP), rounds)?;
        let out = self.tensor(x.rows, hidden)?;
        let args = args::Experts {
            inputs,
            inner: inner.args(),
            chosen: routing.chosen.address(),
            weights: routing.weights.address(),
            slot_of: slot_of.map_or(0, Memory::address),
            gate: matrix(|experts| experts.gate, shared.map(|mlp| mlp.gate)),
            up: matrix(|experts| experts.up, shared.map(|mlp| mlp.up)),
            down: matrix(|experts| experts.down, shared.map(|mlp| mlp.down)),
            stride: experts.map_or(0, |experts| experts.bytes) as u64,
            out: out.values.address(),
            experts: count as i32,
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
        let kinds = [(count, routed_layouts), (1, shared_layouts)];
        self.sum_sorted(args, width, kinds)?;
        Ok(out)
    }

    /// The same for many tokens: their pairs are sorted by expert. `kinds` are routed experts and the shared
    /// one: how many there are, and their matrices.
    fn sum_sorted(
        &self,
        mut args: args::Experts,
        width: usize,
        kinds: [(usize, Option<[&Layout; 3]>); 2],
    ) -> Result<(), OpError> {
        let (rows, hidden) = (args.tokens as usize, args.hidden as usize);
        let pairs = rows * args.slots as usize;
        let tiled = kinds.map(|(_, layouts)| layouts.is_some_and(are_tiled));
        let count = |wanted: bool| {
            let all = kinds.iter().zip(tiled);
            let of_it = all.filter(|((_, layouts), tiled)| layouts.is_some() && *tiled == wanted);
            of_it.map(|((count, _), _)| count).sum()
        };
        let first = first_tiles(rows, pairs, count(false), count(true));
        let order = self.take(pairs * size_of::<u32>())?;
        let tiles = self.take(first[SIZES.len()] * TILE_BYTES)?;
        let outs = self.tensor(pairs, hidden)?;
        let sort = args::SortPairs {
            chosen: args.chosen,
            order: order.address(),
            tiles: tiles.address(),
            pairs: pairs as i32,
            experts: args.experts,
            routed_by_dots: i32::from(!tiled[0]),
            shared_by_dots: i32::from(!tiled[1]),
            first_tile: first.map(|tile| tile as i32),
        };
        // SAFETY: the device chose experts that there are, and there is room for all pairs and tiles.
        unsafe { self.launch("sort_pairs", [1, 1, 1], EXPERT_THREADS, &sort)? };
        args.order = order.address();
        args.outs = outs.values.address();
        let mut launch_all = |kernel: fn(&Size) -> Kernel, outputs: usize| {
            for (size, list) in SIZES.iter().zip(first.windows(2)) {
                let (kernel, tiles_of_it) = (kernel(size), list[1] - list[0]);
                let grid = [outputs.div_ceil(kernel.rows), tiles_of_it, 1];
                args.tiles = tiles.address() + (list[0] * TILE_BYTES) as u64;
                if tiles_of_it > 0 {
                    // SAFETY: shapes were checked, there is room for every pair, and there are so many
                    // tiles in the list.
                    unsafe { self.launch(kernel.name, grid, kernel.threads, &args)? };
                }
            }
            Ok::<_, OpError>(())
        };
        launch_all(|size| size.gate_up, width)?;
        launch_all(|size| size.down, hidden)?;
        let grid = [hidden.div_ceil(EXPERT_THREADS), rows, 1];
        // SAFETY: as above.
        unsafe { self.launch("sum_slots", grid, EXPERT_THREADS, &args) }
    }

    /// `silu(gate x) * (up x)` of one MLP.
    pub(super) fn shared_inner(
        &self,
        x: &Activations,
        weights: MlpWeights<&Matrix>,
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
            gate: matrix(weights.gate),
            up: matrix(weights.up),
            slots: 1,
            tokens: x.rows as i32,
            rounds: i32::from(rounds),
            ..args::Experts::default()
        };
        let size = size_for(x.rows, are_tiled(layouts(weights)));
        let (kernel, threads, at_once) = match x.rows {
            1 => ("gate_up_1", EXPERT_THREADS, 1),
            _ => (size.gate_up.name, size.gate_up.threads, size.pairs),
        };
        let grid = [width.div_ceil(INNER_ROWS), x.rows.div_ceil(at_once), 1];
        // SAFETY: shapes were checked, and there is room for every row.
        unsafe { self.launch(kernel, grid, threads, &args)? };
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

fn layouts(mlp: MlpWeights<&Matrix>) -> [&Layout; 3] {
    [&mlp.gate.layout, &mlp.up.layout, &mlp.down.layout]
}

/// Checks that gate, up and down fit each other and inputs of `cols`.
fn check_mlp(op: &'static str, cols: usize, [gate, up, down]: [&Layout; 3]) -> Result<(), OpError> {
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
