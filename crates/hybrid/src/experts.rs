//! Layers whose routed experts are on the host, beside an accelerator that has the rest.

use std::sync::Arc;

use tensor::{Accelerator, Host, HostRouting, OpError, StoredExperts, Tensor};

use crate::activations::Activations;
use crate::expert_cache::{ExpertCache, Split, lock};
use crate::hybrid::Hybrid;
use crate::ops::Moe;
use crate::weights::{HostExperts, mlp, moe};

/// What is left to the host: activations, and which of its experts are chosen.
type Left<'x> = (&'x Tensor, HostRouting);

impl<A: Accelerator, H: Host> Hybrid<A, H> {
    pub(crate) fn experts_for_host(
        &self,
        stored: StoredExperts,
    ) -> Result<HostExperts<A, H>, OpError> {
        let experts = self.host.load_experts(stored.clone())?;
        let stored = Arc::new(stored);
        let cache = match self.copies_to {
            Some((number, share)) => {
                let slots = (share.clamp(0.0, 1.0) * stored.experts.len() as f64) as usize;
                let accelerator = self.accelerator(number)?;
                let cache = (slots > 0).then(|| ExpertCache::new(accelerator, &stored, slots));
                cache.transpose()?
            }
            None => None,
        };
        Ok(HostExperts {
            experts,
            layer: lock(&self.shared.streamed).push(&stored),
            stored,
            cache: cache.map(Arc::new),
        })
    }

    /// Many rows: all of the layer's experts are copied to the accelerator, and the next layer's while it
    /// computes.
    pub(crate) fn experts_streamed(
        &self,
        x: &Activations<A>,
        (number, routing): (usize, &A::Routing),
        experts: &HostExperts<A, H>,
        weights: &Moe<'_, A, H>,
    ) -> Result<Activations<A>, OpError> {
        let accelerator = self.accelerator(number)?;
        let (has_two, sum) = {
            let mut rooms = lock(self.of(&self.shared.rooms, number)?);
            let room = rooms.with(accelerator, experts.layer, &experts.stored)?;
            let weights = moe(weights, room, |matrix| matrix.here(number))?;
            let sum = accelerator.experts_in_room(self.here(number, x)?, routing, weights)?;
            (rooms.has_two(), self.on_accelerator(number, sum))
        };
        let next = {
            let mut streamed = lock(&self.shared.streamed);
            streamed.used_on(experts.layer, number);
            streamed.after(experts.layer)
        };
        if let Some((layer, on, stored)) = next
            && (has_two || on != number)
        {
            let mut rooms = lock(self.of(&self.shared.rooms, on)?);
            rooms.with(self.accelerator(on)?, layer, &stored)?;
        }
        Ok(sum)
    }

    /// Few rows: both sides compute at the same time, the accelerator with those experts of which it has
    /// copies.
    pub(crate) fn experts_on_both(
        &self,
        x: &Activations<A>,
        (number, routing): (usize, &A::Routing),
        experts: &HostExperts<A, H>,
        weights: &Moe<'_, A, H>,
    ) -> Result<Activations<A>, OpError> {
        let (here, left) = match &experts.cache {
            None => {
                // What the host waits for is asked for before the accelerator gets more to do.
                let inputs = self.there(x)?;
                let chosen = self.accelerator(number)?.download_routing(routing)?;
                (
                    self.shared_expert(x, number, weights)?,
                    Some((inputs, chosen)),
                )
            }
            Some(cache) => {
                self.experts_of_copies(x, (number, routing), (experts.layer, cache), weights)?
            }
        };
        let routed = match left {
            None => None,
            Some((inputs, chosen)) => {
                let routing = self.host.take_routing(chosen)?;
                let experts = &experts.experts;
                Some(self.host.routed_experts(inputs, &routing, experts)?)
            }
        };
        self.sum_of_both(number, here, routed)
    }

    /// The accelerator's half where it has copies: what it was asked for, and what is left to the host.
    fn experts_of_copies<'x>(
        &self,
        x: &'x Activations<A>,
        (number, routing): (usize, &A::Routing),
        (layer, cache): (usize, &Arc<ExpertCache<A>>),
        weights: &Moe<'_, A, H>,
    ) -> Result<(Option<A::Tensor>, Option<Left<'x>>), OpError> {
        let accelerator = self.accelerator(number)?;
        let mut copies = lock(self.of(&self.shared.copies, number)?);
        // The accelerator is busy with what comes before this layer's experts.
        copies.begin(accelerator)?;
        let mut state = cache.open(accelerator)?;
        let chosen = accelerator.download_routing(routing)?;
        let split = Split::new(&state, chosen);
        let inputs = match split.is_all_there() {
            true => None,
            false => Some(self.there(x)?),
        };
        let here = if split.hits > 0 {
            let weights = moe(weights, &state.slots, |matrix| matrix.here(number))?;
            let x = self.here(number, x)?;
            Some(accelerator.experts_in_slots(x, routing, &weights)?)
        } else {
            self.shared_expert(x, number, weights)?
        };
        let uses = &self.shared.uses;
        cache.decide(&mut state, &split, layer, &mut copies, uses);
        Ok((here, inputs.map(|inputs| (inputs, split.misses))))
    }

    fn shared_expert(
        &self,
        x: &Activations<A>,
        number: usize,
        weights: &Moe<'_, A, H>,
    ) -> Result<Option<A::Tensor>, OpError> {
        let Some((shared, gate)) = weights.shared else {
            return Ok(None);
        };
        let shared = mlp(shared, |matrix| matrix.here(number))?;
        let shared = (shared, gate.here(number)?);
        let accelerator = self.accelerator(number)?;
        let sum = accelerator.shared_expert(self.here(number, x)?, shared)?;
        Ok(Some(sum))
    }

    /// What the accelerator computed and what the host did; there is one of them.
    fn sum_of_both(
        &self,
        number: usize,
        here: Option<A::Tensor>,
        there: Option<Tensor>,
    ) -> Result<Activations<A>, OpError> {
        match (here, there) {
            (Some(mut sum), Some(routed)) => {
                let routed = self.up(number, routed)?;
                self.accelerator(number)?.add(&mut sum, &routed)?;
                Ok(self.on_accelerator(number, sum))
            }
            (Some(sum), None) => Ok(self.on_accelerator(number, sum)),
            (None, Some(routed)) => Ok(self.on_host(routed)),
            (None, None) => Err(OpError::Memory("experts that nobody computed".into())),
        }
    }
}
