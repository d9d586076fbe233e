//! The op contract.

use tensor::{
    Accelerator, AttentionShape, Batch, DeltaShape, Host, MemoryLayout, MlpWeights, MoeWeights,
    OpError, Ops, PageId, Rotary, StateId, StateSnapshot, StoredExperts, StoredMatrix, Tensor,
};

use crate::activations::Activations;
use crate::hybrid::{Hybrid, Place};
use crate::memory::{Local, Memory, local, some};
use crate::weights::{Experts, Matrix, Routing, Vector, apart, mlp, moe};

type Moe<'a, A, H> = MoeWeights<&'a Matrix<A, H>, &'a Experts<A, H>>;

impl<A: Accelerator, H: Host> Ops for Hybrid<A, H> {
    type Tensor = Activations<A>;
    type Matrix = Matrix<A, H>;
    type Vector = Vector<A, H>;
    type Experts = Experts<A, H>;
    type Routing = Routing<A, H>;
    type Memory = Memory<A, H>;

    fn load_matrix(&self, stored: StoredMatrix) -> Result<Matrix<A, H>, OpError> {
        Ok(match self.loads_to {
            Place::Accelerator => Matrix::Accelerator(self.accelerator.load_matrix(stored)?),
            Place::Host => Matrix::Host(self.host.load_matrix(stored)?),
        })
    }

    fn load_vector(&self, values: Vec<f32>) -> Result<Vector<A, H>, OpError> {
        Ok(Vector {
            accelerator: self.accelerator.load_vector(values.clone())?,
            host: self.host.load_vector(values)?,
        })
    }

    fn load_experts(&self, stored: StoredExperts) -> Result<Experts<A, H>, OpError> {
        Ok(match self.loads_to {
            Place::Accelerator => Experts::Accelerator(self.accelerator.load_experts(stored)?),
            Place::Host => Experts::Host {
                experts: self.host.load_experts(stored.clone())?,
                stored,
            },
        })
    }

    fn embed(&self, table: &Matrix<A, H>, tokens: &[u32]) -> Result<Activations<A>, OpError> {
        Ok(match table {
            Matrix::Accelerator(table) => {
                Activations::on_accelerator(self.accelerator.embed(table, tokens)?)
            }
            Matrix::Host(table) => Activations::on_host(self.host.embed(table, tokens)?),
        })
    }

    fn add_norm(
        &self,
        x: &mut Activations<A>,
        addend: Option<&Activations<A>>,
        weight: &Vector<A, H>,
        eps: f32,
    ) -> Result<Activations<A>, OpError> {
        let addend = addend.map(|addend| self.here(addend)).transpose()?;
        let x = self.to_change(x)?;
        let normed = self
            .accelerator
            .add_norm(x, addend, &weight.accelerator, eps)?;
        Ok(Activations::on_accelerator(normed))
    }

    fn linear<const N: usize>(
        &self,
        x: &Activations<A>,
        weights: [&Matrix<A, H>; N],
    ) -> Result<[Activations<A>; N], OpError> {
        // Those of a layer are in one place, and share their input.
        if weights
            .iter()
            .all(|weight| weight.place() == Place::Accelerator)
        {
            let weights = each(weights, Matrix::here)?;
            let outputs = self.accelerator.linear(self.here(x)?, weights)?;
            return Ok(outputs.map(Activations::on_accelerator));
        }
        if weights.iter().all(|weight| weight.place() == Place::Host) {
            let outputs = self
                .host
                .linear(self.there(x)?, each(weights, Matrix::there)?)?;
            return Ok(outputs.map(Activations::on_host));
        }
        each(weights, |weight| {
            let [output] = self.linear(x, [weight])?;
            Ok(output)
        })
    }

    fn select_rows(&self, x: &Activations<A>, rows: &[usize]) -> Result<Activations<A>, OpError> {
        Ok(match x.place() {
            Place::Accelerator => {
                Activations::on_accelerator(self.accelerator.select_rows(self.here(x)?, rows)?)
            }
            Place::Host => Activations::on_host(self.host.select_rows(self.there(x)?, rows)?),
        })
    }

    fn concat(
        &self,
        left: &Activations<A>,
        right: &Activations<A>,
    ) -> Result<Activations<A>, OpError> {
        let joined = self
            .accelerator
            .concat(self.here(left)?, self.here(right)?)?;
        Ok(Activations::on_accelerator(joined))
    }

    fn attention_inputs(
        &self,
        memory: &mut Memory<A, H>,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        rotary: &Rotary,
        norms: (&Vector<A, H>, &Vector<A, H>, f32),
        query_gate: Activations<A>,
        key: Activations<A>,
        value: Activations<A>,
    ) -> Result<(Activations<A>, Activations<A>), OpError> {
        let (query_norm, key_norm, eps) = norms;
        match local(&self.places.attention, layer)? {
            Local::Accelerator(layer) => {
                let (query, gate) = self.accelerator.attention_inputs(
                    some(memory.accelerator.as_mut())?,
                    layer,
                    batch,
                    shape,
                    rotary,
                    (&query_norm.accelerator, &key_norm.accelerator, eps),
                    self.taken_here(query_gate)?,
                    self.taken_here(key)?,
                    self.taken_here(value)?,
                )?;
                Ok((
                    Activations::on_accelerator(query),
                    Activations::on_accelerator(gate),
                ))
            }
            Local::Host(layer) => {
                let (query, gate) = self.host.attention_inputs(
                    some(memory.host.as_mut())?,
                    layer,
                    batch,
                    shape,
                    rotary,
                    (&query_norm.host, &key_norm.host, eps),
                    self.taken_there(query_gate)?,
                    self.taken_there(key)?,
                    self.taken_there(value)?,
                )?;
                Ok((Activations::on_host(query), Activations::on_host(gate)))
            }
        }
    }

    fn attention(
        &self,
        memory: &Memory<A, H>,
        layer: usize,
        batch: &Batch,
        shape: &AttentionShape,
        query: Activations<A>,
        gate: Activations<A>,
    ) -> Result<Activations<A>, OpError> {
        match local(&self.places.attention, layer)? {
            Local::Accelerator(layer) => {
                let memory = some(memory.accelerator.as_ref())?;
                let (query, gate) = (self.taken_here(query)?, self.taken_here(gate)?);
                self.accelerator
                    .attention(memory, layer, batch, shape, query, gate)
                    .map(Activations::on_accelerator)
            }
            Local::Host(layer) => {
                let memory = some(memory.host.as_ref())?;
                let (query, gate) = (self.taken_there(query)?, self.taken_there(gate)?);
                self.host
                    .attention(memory, layer, batch, shape, query, gate)
                    .map(Activations::on_host)
            }
        }
    }

    fn causal_conv(
        &self,
        memory: &mut Memory<A, H>,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        weight: &Vector<A, H>,
        input: Activations<A>,
    ) -> Result<Activations<A>, OpError> {
        match local(&self.places.delta, layer)? {
            Local::Accelerator(layer) => {
                let memory = some(memory.accelerator.as_mut())?;
                let (weight, input) = (&weight.accelerator, self.taken_here(input)?);
                self.accelerator
                    .causal_conv(memory, layer, batch, shape, weight, input)
                    .map(Activations::on_accelerator)
            }
            Local::Host(layer) => {
                let memory = some(memory.host.as_mut())?;
                let (weight, input) = (&weight.host, self.taken_there(input)?);
                self.host
                    .causal_conv(memory, layer, batch, shape, weight, input)
                    .map(Activations::on_host)
            }
        }
    }

    fn delta_rule(
        &self,
        memory: &mut Memory<A, H>,
        layer: usize,
        batch: &Batch,
        shape: &DeltaShape,
        qkv: Activations<A>,
        a: &Activations<A>,
        b: &Activations<A>,
        decay: &Vector<A, H>,
        dt_bias: &Vector<A, H>,
    ) -> Result<Activations<A>, OpError> {
        match local(&self.places.delta, layer)? {
            Local::Accelerator(layer) => {
                let memory = some(memory.accelerator.as_mut())?;
                let (decay, dt_bias) = (&decay.accelerator, &dt_bias.accelerator);
                let (qkv, a, b) = (self.taken_here(qkv)?, self.here(a)?, self.here(b)?);
                self.accelerator
                    .delta_rule(memory, layer, batch, shape, qkv, a, b, decay, dt_bias)
                    .map(Activations::on_accelerator)
            }
            Local::Host(layer) => {
                let memory = some(memory.host.as_mut())?;
                let (decay, dt_bias) = (&decay.host, &dt_bias.host);
                let (qkv, a, b) = (self.taken_there(qkv)?, self.there(a)?, self.there(b)?);
                self.host
                    .delta_rule(memory, layer, batch, shape, qkv, a, b, decay, dt_bias)
                    .map(Activations::on_host)
            }
        }
    }

    fn gated_norm(
        &self,
        x: Activations<A>,
        gate: &Activations<A>,
        weight: &Vector<A, H>,
        eps: f32,
    ) -> Result<Activations<A>, OpError> {
        Ok(match x.place() {
            Place::Accelerator => {
                let (x, gate) = (self.taken_here(x)?, self.here(gate)?);
                let normed = self
                    .accelerator
                    .gated_norm(x, gate, &weight.accelerator, eps)?;
                Activations::on_accelerator(normed)
            }
            Place::Host => {
                let (x, gate) = (self.taken_there(x)?, self.there(gate)?);
                Activations::on_host(self.host.gated_norm(x, gate, &weight.host, eps)?)
            }
        })
    }

    fn route<E>(
        &self,
        x: &Activations<A>,
        weights: &MoeWeights<&Matrix<A, H>, E>,
    ) -> Result<Routing<A, H>, OpError> {
        Ok(match weights.router {
            Matrix::Accelerator(_) => {
                let weights = moe(weights, (), Matrix::here)?;
                Routing::Accelerator(self.accelerator.route(self.here(x)?, &weights)?)
            }
            Matrix::Host(_) => {
                let weights = moe(weights, (), Matrix::there)?;
                Routing::Host(self.host.route(self.there(x)?, &weights)?)
            }
        })
    }

    fn experts(
        &self,
        x: &Activations<A>,
        routing: &Routing<A, H>,
        weights: &Moe<'_, A, H>,
    ) -> Result<Activations<A>, OpError> {
        match (routing, weights.experts) {
            (Routing::Accelerator(routing), Experts::Accelerator(experts)) => {
                let weights = moe(weights, experts, Matrix::here)?;
                let sum = self.accelerator.experts(self.here(x)?, routing, &weights)?;
                Ok(Activations::on_accelerator(sum))
            }
            (Routing::Host(routing), Experts::Host { experts, .. }) => {
                let weights = moe(weights, experts, Matrix::there)?;
                let sum = self.host.experts(self.there(x)?, routing, &weights)?;
                Ok(Activations::on_host(sum))
            }
            (Routing::Accelerator(routing), Experts::Host { stored, .. })
                if self.rows(x) >= self.stream_from =>
            {
                let experts = self.accelerator.load_experts(stored.clone())?;
                let weights = moe(weights, &experts, Matrix::here)?;
                let sum = self.accelerator.experts(self.here(x)?, routing, &weights)?;
                Ok(Activations::on_accelerator(sum))
            }
            (Routing::Accelerator(routing), Experts::Host { experts, .. }) => {
                self.experts_on_both(x, routing, experts, weights)
            }
            (Routing::Host(_), Experts::Accelerator(_)) => apart("the host", "the accelerator"),
        }
    }

    fn mlp(
        &self,
        x: &Activations<A>,
        weights: MlpWeights<&Matrix<A, H>>,
    ) -> Result<Activations<A>, OpError> {
        Ok(match weights.gate {
            Matrix::Accelerator(_) => {
                let weights = mlp(weights, Matrix::here)?;
                Activations::on_accelerator(self.accelerator.mlp(self.here(x)?, weights)?)
            }
            Matrix::Host(_) => {
                let weights = mlp(weights, Matrix::there)?;
                Activations::on_host(self.host.mlp(self.there(x)?, weights)?)
            }
        })
    }

    fn read(&self, x: Activations<A>) -> Result<Tensor, OpError> {
        self.taken_there(x)
    }

    fn upload(
        &self,
        rows: usize,
        cols: usize,
        values: Vec<f32>,
    ) -> Result<Activations<A>, OpError> {
        self.host
            .upload(rows, cols, values)
            .map(Activations::on_host)
    }

    fn rows(&self, x: &Activations<A>) -> usize {
        x.rows(&self.accelerator)
    }

    fn new_memory(&self, layout: &MemoryLayout) -> Result<Memory<A, H>, OpError> {
        self.memory(layout)
    }

    fn settle(
        &self,
        memory: &mut Memory<A, H>,
        state: StateId,
        rows: usize,
    ) -> Result<(), OpError> {
        if let Some(memory) = &mut memory.accelerator {
            self.accelerator.settle(memory, state, rows)?;
        }
        match &mut memory.host {
            Some(memory) => self.host.settle(memory, state, rows),
            None => Ok(()),
        }
    }

    fn clear_state(&self, memory: &mut Memory<A, H>, state: StateId) -> Result<(), OpError> {
        if let Some(memory) = &mut memory.accelerator {
            self.accelerator.clear_state(memory, state)?;
        }
        match &mut memory.host {
            Some(memory) => self.host.clear_state(memory, state),
            None => Ok(()),
        }
    }

    fn copy_state(
        &self,
        memory: &mut Memory<A, H>,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError> {
        if let Some(memory) = &mut memory.accelerator {
            self.accelerator.copy_state(memory, from, to)?;
        }
        match &mut memory.host {
            Some(memory) => self.host.copy_state(memory, from, to),
            None => Ok(()),
        }
    }

    fn copy_page(
        &self,
        memory: &mut Memory<A, H>,
        from: PageId,
        to: PageId,
    ) -> Result<(), OpError> {
        if let Some(memory) = &mut memory.accelerator {
            self.accelerator.copy_page(memory, from, to)?;
        }
        match &mut memory.host {
            Some(memory) => self.host.copy_page(memory, from, to),
            None => Ok(()),
        }
    }

    fn read_page(&self, memory: &Memory<A, H>, page: PageId) -> Result<Vec<u8>, OpError> {
        self.read_both(memory, page)
    }

    fn write_page(
        &self,
        memory: &mut Memory<A, H>,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        self.write_both(memory, page, bytes)
    }

    fn snapshot(&self, memory: &Memory<A, H>, state: StateId) -> Result<StateSnapshot, OpError> {
        self.snapshot_both(memory, state)
    }

    fn restore(
        &self,
        memory: &mut Memory<A, H>,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        self.restore_both(memory, state, snapshot)
    }
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    /// A layer whose routed experts alone are on the host: both sides compute at the same time.
    fn experts_on_both(
        &self,
        x: &Activations<A>,
        routing: &A::Routing,
        experts: &H::Experts,
        weights: &Moe<'_, A, H>,
    ) -> Result<Activations<A>, OpError> {
        // What the host waits for is asked for before the accelerator gets more to do.
        let inputs = self.there(x)?;
        let chosen = self.accelerator.download_routing(routing)?;
        let shared = match weights.shared {
            Some((shared, gate)) => {
                let shared = (mlp(shared, Matrix::here)?, gate.here()?);
                Some(self.accelerator.shared_expert(self.here(x)?, shared)?)
            }
            None => None,
        };
        let routing = self.host.take_routing(chosen)?;
        let routed = self.host.routed_experts(inputs, &routing, experts)?;
        let Some(mut sum) = shared else {
            return Ok(Activations::on_host(routed));
        };
        self.accelerator.add(&mut sum, &self.up(routed)?)?;
        Ok(Activations::on_accelerator(sum))
    }
}

/// Each of an array in another form.
fn each<T: Copy, U, const N: usize>(
    all: [T; N],
    form: impl Fn(T) -> Result<U, OpError>,
) -> Result<[U; N], OpError> {
    let formed = all.into_iter().map(form).collect::<Result<Vec<U>, _>>()?;
    formed.try_into().or_else(|_| apart("one side", "another"))
}
