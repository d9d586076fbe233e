//! The op contract, one file per family of operations.

mod attention;
mod best;
mod delta;
mod expert_slots;
mod expert_tiles;
mod experts;
mod linear;
mod rows;

pub use expert_slots::{Room, Slots};
pub use experts::Routing;

use tensor::reference::shape_error;
use tensor::{
    Accelerator, AttentionShape, Batch, DeltaShape, HostRouting, Likely, MemoryLayout, MlpWeights,
    MoeWeights, MostLikely, OpError, Ops, PageId, Rotary, StateId, StateSnapshot, StoredExperts,
    StoredMatrix, Tensor,
};

use crate::gpu::Gpu;
use crate::matrix::{Experts, Matrix, Vector};
use crate::memory::PagesAndStates;
use crate::tensor_on_device::Activations;

/// Checks that `x` has these rows and columns.
fn check_tensor(
    op: &'static str,
    what: &str,
    x: &Activations,
    rows: usize,
    cols: usize,
) -> Result<(), OpError> {
    if (x.rows, x.cols) == (rows, cols) {
        return Ok(());
    }
    let found = format!("[{}, {}]", x.rows, x.cols);
    shape_error(op, format!("{what} of [{rows}, {cols}]"), found)
}

impl Ops for Gpu {
    type Tensor = Activations;
    type Matrix = Matrix;
    type Vector = Vector;
    type Experts = Experts;
    type Routing = Routing;
    type Memory = PagesAndStates;

    fn load_matrix(&self, stored: StoredMatrix) -> Result<Matrix, OpError> {
        self.matrix(&stored)
    }

    fn load_vector(&self, values: Vec<f32>) -> Result<Vector, OpError> {
        self.vector(&values)
    }

    fn load_experts(&self, stored: StoredExperts) -> Result<Experts, OpError> {
        self.layer_experts(&stored)
    }

    fn embed(&self, table: &Matrix, tokens: &[u32]) -> Result<Activations, OpError> {
        self.look_up(table, tokens)
    }

    fn add_norm(
        &self,
        x: &mut Activations,
        addend: Option<&Activations>,
        weight: &Vector,
        eps: f32,
    ) -> Result<Activations, OpError> {
        self.add_and_norm(x, addend, weight, eps)
    }

    fn linear<const N: usize>(
        &self,
        x: &Activations,
        weights: [&Matrix; N],
    ) -> Result<[Activations; N], OpError> {
        let outputs = self.products(x, &weights)?;
        let Ok(outputs) = outputs.try_into() else {
            return shape_error("linear", "an output per weight", "another number");
        };
        Ok(outputs)
    }

    fn select_rows(&self, x: &Activations, rows: &[usize]) -> Result<Activations, OpError> {
        self.select(x, rows)
    }

    fn concat(&self, left: &Activations, right: &Activations) -> Result<Activations, OpError> {
        self.join(left, right)
    }

    fn attention_inputs(
        &self,
        memory: &mut PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        rotary: &Rotary,
        norms: (&Vector, &Vector, f32),
        query_gate: Activations,
        key: Activations,
        value: Activations,
    ) -> Result<(Activations, Activations), OpError> {
        let inputs = attention::Inputs {
            query_gate: &query_gate,
            key: &key,
            value: &value,
        };
        self.prepare_attention(memory, layer, batch, shape, rotary, norms, &inputs)
    }

    fn attention(
        &self,
        memory: &PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        query: Activations,
        gate: Activations,
    ) -> Result<Activations, OpError> {
        self.attend(memory, layer, batch, shape, &query, &gate)
    }

    fn causal_conv(
        &self,
        memory: &mut PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Vector,
        input: Activations,
    ) -> Result<Activations, OpError> {
        self.convolve(memory, layer, batch, shape, weight, &input)
    }

    fn delta_rule(
        &self,
        memory: &mut PagesAndStates,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        qkv: Activations,
        a: &Activations,
        b: &Activations,
        decay: &Vector,
        dt_bias: &Vector,
    ) -> Result<Activations, OpError> {
        let inputs = delta::DeltaInputs {
            qkv: &qkv,
            a,
            b,
            decay,
            dt_bias,
        };
        self.run_delta_rule(memory, layer, batch, shape, &inputs)
    }

    fn gated_norm(
        &self,
        x: Activations,
        gate: &Activations,
        weight: &Vector,
        eps: f32,
    ) -> Result<Activations, OpError> {
        self.norm_and_gate(&x, gate, weight, eps)
    }

    fn route<E>(
        &self,
        x: &Activations,
        weights: &MoeWeights<&Matrix, E>,
    ) -> Result<Routing, OpError> {
        self.choose_experts(x, weights)
    }

    fn experts(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: &MoeWeights<&Matrix, &Experts>,
    ) -> Result<Activations, OpError> {
        self.run_experts(x, routing, weights)
    }

    fn mlp(&self, x: &Activations, weights: MlpWeights<&Matrix>) -> Result<Activations, OpError> {
        self.dense(x, weights)
    }

    fn read(&self, x: Activations) -> Result<Tensor, OpError> {
        self.to_host(&x)
    }

    fn most_likely(
        &self,
        logits: &Activations,
        wanted: MostLikely,
    ) -> Result<Option<Vec<Vec<Likely>>>, OpError> {
        self.best_of(logits, wanted)
    }

    fn upload(&self, rows: usize, cols: usize, values: Vec<f32>) -> Result<Activations, OpError> {
        self.take_from_host(rows, cols, &values)
    }

    fn rows(&self, x: &Activations) -> usize {
        x.rows
    }

    fn new_memory(&self, layout: &MemoryLayout) -> Result<PagesAndStates, OpError> {
        PagesAndStates::new(self, layout)
    }

    fn settle(
        &self,
        memory: &mut PagesAndStates,
        state: StateId,
        rows: usize,
    ) -> Result<(), OpError> {
        self.settle_state(memory, state, rows)
    }

    fn clear_state(&self, memory: &mut PagesAndStates, state: StateId) -> Result<(), OpError> {
        memory.clear_state(self, state)
    }

    fn copy_state(
        &self,
        memory: &mut PagesAndStates,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError> {
        memory.copy_state(self, from, to)
    }

    fn copy_page(
        &self,
        memory: &mut PagesAndStates,
        from: PageId,
        to: PageId,
    ) -> Result<(), OpError> {
        memory.copy_page(self, from, to)
    }

    fn read_page(&self, memory: &PagesAndStates, page: PageId) -> Result<Vec<u8>, OpError> {
        memory.read_page(self, page)
    }

    fn write_page(
        &self,
        memory: &mut PagesAndStates,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        memory.write_page(self, page, bytes)
    }

    fn snapshot(&self, memory: &PagesAndStates, state: StateId) -> Result<StateSnapshot, OpError> {
        memory.snapshot(self, state)
    }

    fn restore(
        &self,
        memory: &mut PagesAndStates,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        memory.restore(self, state, snapshot)
    }
}

impl Accelerator for Gpu {
    type Slots = Slots;
    type Room = Room;

    fn download(&self, x: &Activations) -> Result<Tensor, OpError> {
        self.to_host(x)
    }

    fn download_routing(&self, routing: &Routing) -> Result<HostRouting, OpError> {
        self.chosen_experts(routing)
    }

    fn shared_expert(
        &self,
        x: &Activations,
        shared: (MlpWeights<&Matrix>, &Matrix),
    ) -> Result<Activations, OpError> {
        self.run_shared_expert(x, shared)
    }

    fn add(&self, x: &mut Activations, addend: &Activations) -> Result<(), OpError> {
        self.add_in_place(x, addend)
    }

    fn expert_slots(&self, stored: &StoredExperts, slots: usize) -> Result<Slots, OpError> {
        self.slots(stored, slots)
    }

    fn bring_expert(
        &self,
        slots: &mut Slots,
        slot: usize,
        expert: &MlpWeights<StoredMatrix>,
    ) -> Result<(), OpError> {
        self.bring_to_slot(slots, slot, expert)
    }

    fn has_come(&self, slots: &mut Slots, slot: usize) -> Result<bool, OpError> {
        slots.has_come(slot)
    }

    fn set_slots(&self, slots: &mut Slots, slot_of: &[Option<usize>]) -> Result<(), OpError> {
        self.set_slots_of(slots, slot_of)
    }

    fn experts_in_slots(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: &MoeWeights<&Matrix, &Slots>,
    ) -> Result<Activations, OpError> {
        self.run_experts_in_slots(x, routing, weights)
    }

    fn room(&self) -> Room {
        Room::default()
    }

    fn fill_room(&self, room: &mut Room, stored: &StoredExperts) -> Result<(), OpError> {
        self.fill(room, stored)
    }

    fn experts_in_room(
        &self,
        x: &Activations,
        routing: &Routing,
        weights: MoeWeights<&Matrix, &mut Room>,
    ) -> Result<Activations, OpError> {
        self.run_experts_in_room(x, routing, weights)
    }
}
