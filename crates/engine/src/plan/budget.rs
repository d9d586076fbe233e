//! What a placement takes of each device.

use super::anatomy::{Anatomy, Block, Piece};
use super::error::PlanError;
use super::factors::{GPU_CONTEXT_BYTES, GPU_POOL_BYTES};
use super::machine::Machine;
use super::placement::{Device, Placement};
use super::wish::Wish;
use model::LayerKind;

/// A device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Which.
    pub device: Device,
    /// What can be had.
    pub free: u64,
    /// What is left to others.
    pub reserve: u64,
    /// What the driver takes.
    pub driver: u64,
    /// Weights whose place this is.
    pub weights: u64,
    /// Copies of experts whose place is RAM.
    pub expert_cache: u64,
    /// Room for layers' experts that come over the link with a step of many tokens.
    pub streaming: u64,
    /// Pages of keys and values.
    pub keys_values: u64,
    /// Recurrent states.
    pub states: u64,
    /// Activations and logits, on GPUs with what their pool may hold beside them; on the GPU that drafts, also its copy of what they read of the head.
    pub buffers: u64,
    /// States of prompts that were read; what is left for them.
    pub prompt_cache: u64,
}

impl Budget {
    fn empty(device: Device, free: u64) -> Self {
        Self {
            device,
            free,
            reserve: 0,
            driver: 0,
            weights: 0,
            expert_cache: 0,
            streaming: 0,
            keys_values: 0,
            states: 0,
            buffers: 0,
            prompt_cache: 0,
        }
    }

    /// All of it, with what is left to others.
    pub fn needed(&self) -> u64 {
        let parts = [
            self.reserve,
            self.driver,
            self.weights,
            self.expert_cache,
            self.streaming,
            self.keys_values,
            self.states,
            self.buffers,
            self.prompt_cache,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// What nobody needs.
    pub fn left(&self) -> u64 {
        self.free.saturating_sub(self.needed())
    }

    /// Whether there is enough.
    pub fn fits(&self) -> bool {
        self.needed() <= self.free
    }
}

/// Sizes that are asked for may be any.
fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

/// What a placement takes of each GPU that it uses, and of RAM, last.
pub(super) fn budgets(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &Placement,
) -> Result<Vec<Budget>, PlanError> {
    let mut gpus: Vec<Budget> = machine
        .gpus
        .iter()
        .enumerate()
        .map(|(index, gpu)| Budget {
            reserve: wish.vram_reserve,
            driver: GPU_CONTEXT_BYTES,
            ..Budget::empty(Device::Gpu(index), gpu.free)
        })
        .collect();
    let mut ram = Budget {
        reserve: wish.ram_reserve,
        ..Budget::empty(Device::Ram, machine.host.free)
    };
    let mut of = |device: Device, change: &mut dyn FnMut(&mut Budget)| match device {
        Device::Gpu(index) => change(&mut gpus[index]),
        Device::Ram => change(&mut ram),
        Device::Nowhere => {}
    };
    for group in &anatomy.groups {
        let device = placement.of(group);
        let bytes = match device {
            Device::Gpu(_) => group.bytes_in_vram(),
            Device::Ram | Device::Nowhere => group.bytes,
        };
        of(device, &mut |budget| {
            budget.weights = budget.weights.saturating_add(bytes)
        });
    }
    let cache = anatomy.cache_bytes(wish)?;
    let states = anatomy.states_bytes(wish);
    for (place, kind) in placement.layers.iter().zip(&anatomy.config.layers) {
        of(place.rest, &mut |budget| match kind {
            LayerKind::Attention => add(&mut budget.keys_values, cache),
            LayerKind::Delta => add(&mut budget.states, states),
        });
    }
    if anatomy.config.mtp_layers > 0 {
        // The engine makes pages for it whether it is used or not.
        let device = match placement.mtp {
            Device::Nowhere => placement.head,
            device => device,
        };
        of(device, &mut |budget| add(&mut budget.keys_values, cache));
    }
    for (layer, place) in placement.layers.iter().enumerate() {
        let all = anatomy.bytes_in_vram(Block::Layer(layer), Piece::Experts);
        let copies = (place.cached * all as f64) as u64;
        let is_streamed = place.experts == Device::Ram;
        let rooms = all.saturating_mul(placement.stream_rooms as u64);
        of(place.rest, &mut |budget| {
            add(&mut budget.expert_cache, copies);
            if is_streamed && budget.device != Device::Ram {
                budget.streaming = budget.streaming.max(rooms);
            }
        });
    }
    let buffers = anatomy.buffer_bytes(wish);
    let used = placement.devices();
    gpus.retain(|budget| used.contains(&budget.device));
    for budget in &mut gpus {
        budget.buffers = buffers.saturating_add(GPU_POOL_BYTES);
        if anatomy.config.mtp_layers > 0 && budget.device == placement.mtp {
            add(&mut budget.buffers, anatomy.drafts_head_in_vram());
        }
    }
    // The host makes rows ready and takes logits in any case.
    ram.buffers = buffers;
    let room = ram.free.saturating_sub(ram.needed());
    ram.prompt_cache = wish.prompt_cache.min(room);
    gpus.push(ram);
    Ok(gpus)
}
