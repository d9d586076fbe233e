//! The op contract.

use tensor::{
    Accelerator, AttentionShape, Batch, DeltaShape, Host, Likely, MemoryLayout, MlpWeights,
    MoeWeights, MostLikely, OpError, Ops, PageId, Rotary, StateId, StateSnapshot, StoredExperts,
    StoredMatrix, Tensor,
};

use crate::activations::Activations;
use crate::hybrid::{Hybrid, Place};
use crate::memory::{Memory, local};
use crate::weights::{Experts, Matrix, Routing, Vector, apart, mlp, moe};

pub(crate) type Moe<'a, A, H> = MoeWeights<&'a Matrix<A, H>, &'a Experts<A, H>>;

impl<A: Accelerator, H: Host> Ops for Hybrid<A, H> {
    type Tensor = Activations<A>;
    type Matrix = Matrix<A, H>;
    type Vector = Vector<A, H>;
    type Experts = Experts<A, H>;
    type Routing = Routing<A, H>;
    type Memory = Memory<A, H>;

    fn load_matrix(&self, stored: StoredMatrix) -> Result<Matrix<A, H>, OpError> {
        Ok(match self.loads_to {
            Place::Accelerator(number) => {
                Matrix::Accelerator(number, self.accelerator(number)?.load_matrix(stored)?)
            }
            Place::Host => Matrix::Host(self.host.load_matrix(stored)?),
        })
    }

    fn load_vector(&self, values: Vec<f32>) -> Result<Vector<A, H>, OpError> {
        let accelerators = self.accelerators().iter();
        let accelerators = accelerators.map(|accelerator| accelerator.load_vector(values.clone()));
        Ok(Vector {
            accelerators: accelerators.collect::<Result<_, _>>()?,
            host: self.host.load_vector(values)?,
        })
    }

    fn load_experts(&self, stored: StoredExperts) -> Result<Experts<A, H>, OpError> {
        Ok(match self.loads_to {
            Place::Accelerator(number) => {
                Experts::Accelerator(number, self.accelerator(number)?.load_experts(stored)?)
            }
            Place::Host => Experts::Host(self.experts_for_host(stored)?),
        })
    }

    fn embed(&self, table: &Matrix<A, H>, tokens: &[u32]) -> Result<Activations<A>, OpError> {
        Ok(match table {
            Matrix::Accelerator(number, table) => {
                let rows = self.accelerator(*number)?.embed(table, tokens)?;
                self.on_accelerator(*number, rows)
            }
            Matrix::Host(table) => self.on_host(self.host.embed(table, tokens)?),
        })
    }

    fn add_norm(
        &self,
        x: &mut Activations<A>,
        addend: Option<&Activations<A>>,
        weight: &Vector<A, H>,
        eps: f32,
    ) -> Result<Activations<A>, OpError> {
        // Layers follow each other on the accelerators: the stream goes on where the last one was.
        let number = match (addend.map(Activations::place), x.place()) {
            (Some(Place::Accelerator(number)), _) => number,
            (_, Place::Accelerator(number)) => number,
            (_, Place::Host) => 0,
        };
        let addend = addend.map(|addend| self.here(number, addend)).transpose()?;
        let x = self.to_change(number, x)?;
        let accelerator = self.accelerator(number)?;
        let normed = accelerator.add_norm(x, addend, weight.here(number)?, eps)?;
        Ok(self.on_accelerator(number, normed))
    }

    fn linear<const N: usize>(
        &self,
        x: &Activations<A>,
        weights: [&Matrix<A, H>; N],
    ) -> Result<[Activations<A>; N], OpError> {
        // Those of a layer are in one place, and share their input.
        let place = weights.first().map_or(Place::Host, |weight| weight.place());
        if weights.iter().any(|weight| weight.place() != place) {
            return each(weights, |weight| {
                let [output] = self.linear(x, [weight])?;
                Ok(output)
            });
        }
        Ok(match place {
            Place::Accelerator(number) => {
                let weights = each(weights, |weight| weight.here(number))?;
                let accelerator = self.accelerator(number)?;
                let outputs = accelerator.linear(self.here(number, x)?, weights)?;
                outputs.map(|output| self.on_accelerator(number, output))
            }
            Place::Host => {
                let weights = each(weights, Matrix::there)?;
                let outputs = self.host.linear(self.there(x)?, weights)?;
                outputs.map(|output| self.on_host(output))
            }
        })
    }

    fn select_rows(&self, x: &Activations<A>, rows: &[usize]) -> Result<Activations<A>, OpError> {
        Ok(match x.place() {
            Place::Accelerator(number) => {
                let x = self.here(number, x)?;
                let chosen = self.accelerator(number)?.select_rows(x, rows)?;
                self.on_accelerator(number, chosen)
            }
            Place::Host => self.on_host(self.host.select_rows(self.there(x)?, rows)?),
        })
    }

    fn concat(
        &self,
        left: &Activations<A>,
        right: &Activations<A>,
    ) -> Result<Activations<A>, OpError> {
        let number = match (left.place(), right.place()) {
            (Place::Accelerator(number), _) | (_, Place::Accelerator(number)) => number,
            (Place::Host, Place::Host) => 0,
        };
        let (left, right) = (self.here(number, left)?, self.here(number, right)?);
        let joined = self.accelerator(number)?.concat(left, right)?;
        Ok(self.on_accelerator(number, joined))
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
        match local(&self.places().attention, layer)? {
            (Place::Accelerator(number), layer) => {
                let norms = (query_norm.here(number)?, key_norm.here(number)?, eps);
                let (query, gate) = self.accelerator(number)?.attention_inputs(
                    memory.here_mut(number)?,
                    layer,
                    batch,
                    shape,
                    rotary,
                    norms,
                    self.taken_here(number, query_gate)?,
                    self.taken_here(number, key)?,
                    self.taken_here(number, value)?,
                )?;
                Ok((
                    self.on_accelerator(number, query),
                    self.on_accelerator(number, gate),
                ))
            }
            (Place::Host, layer) => {
                let (query, gate) = self.host.attention_inputs(
                    memory.there_mut()?,
                    layer,
                    batch,
                    shape,
                    rotary,
                    (&query_norm.host, &key_norm.host, eps),
                    self.taken_there(query_gate)?,
                    self.taken_there(key)?,
                    self.taken_there(value)?,
                )?;
                Ok((self.on_host(query), self.on_host(gate)))
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
        match local(&self.places().attention, layer)? {
            (Place::Accelerator(number), layer) => {
                let memory = memory.here(number)?;
                let query = self.taken_here(number, query)?;
                let gate = self.taken_here(number, gate)?;
                let accelerator = self.accelerator(number)?;
                let mixed = accelerator.attention(memory, layer, batch, shape, query, gate)?;
                Ok(self.on_accelerator(number, mixed))
            }
            (Place::Host, layer) => {
                let memory = memory.there()?;
                let (query, gate) = (self.taken_there(query)?, self.taken_there(gate)?);
                let mixed = self
                    .host
                    .attention(memory, layer, batch, shape, query, gate)?;
                Ok(self.on_host(mixed))
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
        match local(&self.places().delta, layer)? {
            (Place::Accelerator(number), layer) => {
                let memory = memory.here_mut(number)?;
                let (weight, input) = (weight.here(number)?, self.taken_here(number, input)?);
                let accelerator = self.accelerator(number)?;
                let mixed = accelerator.causal_conv(memory, layer, batch, shape, weight, input)?;
                Ok(self.on_accelerator(number, mixed))
            }
            (Place::Host, layer) => {
                let memory = memory.there_mut()?;
                let (weight, input) = (&weight.host, self.taken_there(input)?);
                let mixed = self
                    .host
                    .causal_conv(memory, layer, batch, shape, weight, input)?;
                Ok(self.on_host(mixed))
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
        match local(&self.places().delta, layer)? {
            (Place::Accelerator(number), layer) => {
                let memory = memory.here_mut(number)?;
                let (decay, dt_bias) = (decay.here(number)?, dt_bias.here(number)?);
                let qkv = self.taken_here(number, qkv)?;
                let (a, b) = (self.here(number, a)?, self.here(number, b)?);
                let mixed = self
                    .accelerator(number)?
                    .delta_rule(memory, layer, batch, shape, qkv, a, b, decay, dt_bias)?;
                Ok(self.on_accelerator(number, mixed))
            }
            (Place::Host, layer) => {
                let memory = memory.there_mut()?;
                let (decay, dt_bias) = (&decay.host, &dt_bias.host);
                let (qkv, a, b) = (self.taken_there(qkv)?, self.there(a)?, self.there(b)?);
                let mixed = self
                    .host
                    .delta_rule(memory, layer, batch, shape, qkv, a, b, decay, dt_bias)?;
                Ok(self.on_host(mixed))
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
            Place::Accelerator(number) => {
                let (x, gate) = (self.taken_here(number, x)?, self.here(number, gate)?);
                let accelerator = self.accelerator(number)?;
                let normed = accelerator.gated_norm(x, gate, weight.here(number)?, eps)?;
                self.on_accelerator(number, normed)
            }
            Place::Host => {
                let (x, gate) = (self.taken_there(x)?, self.there(gate)?);
                self.on_host(self.host.gated_norm(x, gate, &weight.host, eps)?)
            }
        })
    }

    fn route<E>(
        &self,
        x: &Activations<A>,
        weights: &MoeWeights<&Matrix<A, H>, E>,
    ) -> Result<Routing<A, H>, OpError> {
        Ok(match weights.router {
            Matrix::Accelerator(number, _) => {
                let number = *number;
                let weights = moe(weights, (), |matrix| matrix.here(number))?;
                let accelerator = self.accelerator(number)?;
                let routing = accelerator.route(self.here(number, x)?, &weights)?;
                Routing::Accelerator(number, routing)
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
            (Routing::Accelerator(number, routing), Experts::Accelerator(there, experts)) => {
                if number != there {
                    return apart(Place::Accelerator(*number), Place::Accelerator(*there));
                }
                self.experts_here(x, (*number, routing), experts, weights)
            }
            (Routing::Host(routing), Experts::Host(experts)) => {
                let weights = moe(weights, &experts.experts, Matrix::there)?;
                let sum = self.host.experts(self.there(x)?, routing, &weights)?;
                Ok(self.on_host(sum))
            }
            (Routing::Accelerator(number, routing), Experts::Host(experts))
                if self.rows(x) >= self.shared.stream_from =>
            {
                self.experts_streamed(x, (*number, routing), experts, weights)
            }
            (Routing::Accelerator(number, routing), Experts::Host(experts)) => {
                self.experts_on_both(x, (*number, routing), experts, weights)
            }
            (Routing::Host(_), Experts::Accelerator(number, _)) => {
                apart(Place::Host, Place::Accelerator(*number))
            }
        }
    }

    fn mlp(
        &self,
        x: &Activations<A>,
        weights: MlpWeights<&Matrix<A, H>>,
    ) -> Result<Activations<A>, OpError> {
        Ok(match weights.gate {
            Matrix::Accelerator(number, _) => {
                let number = *number;
                let weights = mlp(weights, |matrix| matrix.here(number))?;
                let output = self
                    .accelerator(number)?
                    .mlp(self.here(number, x)?, weights)?;
                self.on_accelerator(number, output)
            }
            Matrix::Host(_) => {
                let weights = mlp(weights, Matrix::there)?;
                self.on_host(self.host.mlp(self.there(x)?, weights)?)
            }
        })
    }

    fn read(&self, x: Activations<A>) -> Result<Tensor, OpError> {
        self.taken_there(x)
    }

    fn most_likely(
        &self,
        logits: &Activations<A>,
        wanted: MostLikely,
    ) -> Result<Option<Vec<Vec<Likely>>>, OpError> {
        match logits.place() {
            Place::Accelerator(number) => {
                let accelerator = self.accelerator(number)?;
                accelerator.most_likely(self.here(number, logits)?, wanted)
            }
            Place::Host => self.host.most_likely(self.there(logits)?, wanted),
        }
    }

    fn upload(
        &self,
        rows: usize,
        cols: usize,
        values: Vec<f32>,
    ) -> Result<Activations<A>, OpError> {
        Ok(self.on_host(self.host.upload(rows, cols, values)?))
    }

    fn rows(&self, x: &Activations<A>) -> usize {
        self.rows_of(x)
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
        self.on_each(
            memory,
            |_, accelerator, memory| accelerator.settle(memory, state, rows),
            |host, memory| host.settle(memory, state, rows),
        )
    }

    fn clear_state(&self, memory: &mut Memory<A, H>, state: StateId) -> Result<(), OpError> {
        self.on_each(
            memory,
            |_, accelerator, memory| accelerator.clear_state(memory, state),
            |host, memory| host.clear_state(memory, state),
        )
    }

    fn copy_state(
        &self,
        memory: &mut Memory<A, H>,
        from: StateId,
        to: StateId,
    ) -> Result<(), OpError> {
        self.on_each(
            memory,
            |_, accelerator, memory| accelerator.copy_state(memory, from, to),
            |host, memory| host.copy_state(memory, from, to),
        )
    }

    fn copy_page(
        &self,
        memory: &mut Memory<A, H>,
        from: PageId,
        to: PageId,
    ) -> Result<(), OpError> {
        self.on_each(
            memory,
            |_, accelerator, memory| accelerator.copy_page(memory, from, to),
            |host, memory| host.copy_page(memory, from, to),
        )
    }

    fn read_page(&self, memory: &Memory<A, H>, page: PageId) -> Result<Vec<u8>, OpError> {
        self.read_all(memory, page)
    }

    fn write_page(
        &self,
        memory: &mut Memory<A, H>,
        page: PageId,
        bytes: &[u8],
    ) -> Result<(), OpError> {
        self.write_all(memory, page, bytes)
    }

    fn snapshot(&self, memory: &Memory<A, H>, state: StateId) -> Result<StateSnapshot, OpError> {
        self.snapshot_all(memory, state)
    }

    fn restore(
        &self,
        memory: &mut Memory<A, H>,
        state: StateId,
        snapshot: &StateSnapshot,
    ) -> Result<(), OpError> {
        self.restore_all(memory, state, snapshot)
    }
}

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    /// A layer that has all of its experts on its accelerator.
    fn experts_here(
        &self,
        x: &Activations<A>,
        (number, routing): (usize, &A::Routing),
        experts: &A::Experts,
        weights: &Moe<'_, A, H>,
    ) -> Result<Activations<A>, OpError> {
        let weights = moe(weights, experts, |matrix| matrix.here(number))?;
        let accelerator = self.accelerator(number)?;
        let sum = accelerator.experts(self.here(number, x)?, routing, &weights)?;
        Ok(self.on_accelerator(number, sum))
    }
}

/// Each of an array in another form.
fn each<T: Copy, U, const N: usize>(
    all: [T; N],
    form: impl Fn(T) -> Result<U, OpError>,
) -> Result<[U; N], OpError> {
    let formed = all.into_iter().map(form).collect::<Result<Vec<U>, _>>()?;
    // As many as there were.
    formed
        .try_into()
        .or_else(|_| apart(Place::Host, Place::Host))
}
