//! Finds the fastest placement that fits.

use model::LayerKind;

use super::anatomy::{Anatomy, Block, Group, Piece};
use super::budget::{Budget, budgets};
use super::error::PlanError;
use super::factors::{GPU_CONTEXT_BYTES, GPU_POOL_BYTES};
use super::machine::{Host, Machine};
use super::placement::{Device, LayerPlace, Placement};
use super::speed::{decode, streams_from};
use super::wish::Wish;
use crate::settings::KvTypes;

/// The depth at which placements are compared: a conversation of some turns.
const COMPARED_AT: usize = 4096;

/// How much longer a token may take where a second layer's experts have room to come over the link while the
/// first one's are computed with.
const MOST_FOR_A_ROOM: f64 = 1.05;

/// A placement, and what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is where.
    pub placement: Placement,
    /// What that takes of each GPU in use and of RAM, which comes last. None is over-committed.
    pub budgets: Vec<Budget>,
}

/// The fastest placement that fits.
///
/// With GPUs, layers are taken from the model's beginning: the experts of the first ones go to RAM, then
/// whole layers do, until the rest fits. What is left over of each GPU keeps copies of experts whose place
/// is RAM. The embedding, of which a token reads one row, is in RAM unless everything fits.
///
/// Two layers' experts have room to come over the link at a time, unless decoding pays too much for that; none
/// have where the CPU is faster for any step, unless that is wished.
///
/// # Errors
/// If no placement fits, or keys and values cannot be stored as wished.
pub fn plan(anatomy: &Anatomy, machine: &Machine, wish: &Wish) -> Result<Plan, PlanError> {
    let with_rooms = |stream_rooms: usize| -> Result<(Plan, f64), PlanError> {
        let wish = Wish {
            stream_rooms,
            ..wish.clone()
        };
        let plan = plan_with_rooms(anatomy, machine, &wish)?;
        let depth = COMPARED_AT.min(wish.context);
        let seconds = decode(anatomy, machine, &wish, &plan.placement, 1, depth).seconds;
        Ok((plan, seconds))
    };
    let (mut found, seconds) = with_rooms(wish.stream_rooms)?;
    if wish.stream_rooms > 1 && found.placement.stream_rooms > 1 {
        let (fewer, less) = with_rooms(1)?;
        if seconds > MOST_FOR_A_ROOM * less {
            found = fewer;
        }
    }
    if found.placement.stream_rooms > 0
        && wish.stream_if_faster
        && streams_from(anatomy, machine, wish, &found.placement).is_none()
    {
        found = with_rooms(0)?.0;
    }
    Ok(found)
}

fn plan_with_rooms(anatomy: &Anatomy, machine: &Machine, wish: &Wish) -> Result<Plan, PlanError> {
    let depth = COMPARED_AT.min(wish.context);
    let seconds = |plan: &Plan| decode(anatomy, machine, wish, &plan.placement, 1, depth).seconds;
    let mut best: Option<(f64, Plan)> = None;
    let mut consider = |plan: Plan| {
        let seconds = seconds(&plan);
        if best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, plan));
        }
    };
    if !machine.gpus.is_empty() {
        can_be_on_gpu(wish)?;
        for whole in 0..=anatomy.config.layers.len() {
            if let Some(plan) = with_layers_in_ram(anatomy, machine, wish, whole)? {
                consider(plan);
            }
        }
    }
    let on_cpu = plan_on_cpu(anatomy, &machine.host, wish);
    if let Ok(plan) = &on_cpu {
        consider(plan.clone());
    }
    match best {
        Some((_, plan)) => Ok(plan),
        None => on_cpu,
    }
}

/// GPU kernels read keys and values of one type.
fn can_be_on_gpu(wish: &Wish) -> Result<(), PlanError> {
    let KvTypes { key, value } = wish.kv;
    if key == value {
        return Ok(());
    }
    Err(PlanError::Types(format!(
        "keys as {key} and values as {value} cannot be kept on a GPU; give -ctk and -ctv the same type"
    )))
}

/// What a placement takes, if that fits.
///
/// # Errors
/// As [`plan`].
pub fn check(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: Placement,
) -> Result<Plan, PlanError> {
    if placement.layers_on_gpus() > 0 || matches!(placement.mtp, Device::Gpu(_)) {
        can_be_on_gpu(wish)?;
    }
    let budgets = budgets(anatomy, machine, wish, &placement)?;
    match budgets.iter().find(|budget| !budget.fits()) {
        None => Ok(Plan { placement, budgets }),
        Some(budget) => Err(PlanError::DoesNotFit {
            budget: Box::new(*budget),
        }),
    }
}

/// The same with room for layers' experts that come over the link, of as many as wished or of one, if that is
/// ever faster or wished in any case, and with copies of experts in what is left.
///
/// # Errors
/// As [`plan`].
pub fn check_with_copies(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: Placement,
) -> Result<Plan, PlanError> {
    let placement = |stream_rooms| Placement {
        stream_rooms,
        ..placement.clone()
    };
    let with_rooms = |stream_rooms| {
        let mut placement = check(anatomy, machine, wish, placement(stream_rooms))?.placement;
        keep_copies(anatomy, machine, wish, &mut placement)?;
        check(anatomy, machine, wish, placement)
    };
    if wish.stream_rooms == 0 || placement(0).layers_with_experts_in_ram() == 0 {
        return with_rooms(0);
    }
    let mut found = with_rooms(wish.stream_rooms);
    if found.is_err() && wish.stream_rooms > 1 {
        found = with_rooms(1);
    }
    let without = placement(1);
    let best = found.as_ref().map_or(&without, |plan| &plan.placement);
    if wish.stream_if_faster && streams_from(anatomy, machine, wish, best).is_none() {
        return with_rooms(0);
    }
    found
}

/// Everything in RAM, if that fits.
///
/// # Errors
/// As [`plan`].
pub fn plan_on_cpu(anatomy: &Anatomy, host: &Host, wish: &Wish) -> Result<Plan, PlanError> {
    let machine = Machine {
        gpus: Vec::new(),
        host: host.clone(),
    };
    check(
        anatomy,
        &machine,
        wish,
        Placement::on_cpu(anatomy, wish.vision),
    )
}

/// The first `whole` layers in RAM, and as few experts more as fit.
fn with_layers_in_ram(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    whole: usize,
) -> Result<Option<Plan>, PlanError> {
    let layers = anatomy.config.layers.len();
    let has_experts = anatomy.experts(Block::Layer(0)).is_some();
    let most = if has_experts { layers } else { whole };
    // Experts that come over the link need room, of which those that are there need none.
    let mut found = placed(anatomy, machine, wish, whole, whole)?;
    if found.is_none() {
        // Beyond one, more in RAM never take more of a GPU: the first number that fits is found by halving.
        let (mut low, mut high) = (whole + 1, most + 1);
        while low < high {
            let middle = low.midpoint(high);
            match placed(anatomy, machine, wish, whole, middle)? {
                Some(placement) => {
                    found = Some(placement);
                    high = middle;
                }
                None => low = middle + 1,
            }
        }
    }
    let Some(mut placement) = found else {
        return Ok(None);
    };
    use_what_is_left(anatomy, machine, wish, &mut placement)?;
    let budgets = budgets(anatomy, machine, wish, &placement)?;
    let fits = budgets.iter().all(Budget::fits);
    Ok(fits.then_some(Plan { placement, budgets }))
}

/// The layers from `whole` on over the GPUs, the fastest first, with their experts from layer `experts` on;
/// `None` if they do not fit.
fn placed(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    whole: usize,
    experts: usize,
) -> Result<Option<Placement>, PlanError> {
    let mut rooms = Rooms::new(anatomy, machine, wish);
    let mut placement = Placement::on_cpu(anatomy, wish.vision);
    if experts > whole {
        placement.stream_rooms = wish.stream_rooms;
    }
    let cache = anatomy.cache_bytes(wish)?;
    let states = anatomy.states_bytes(wish);
    if wish.vision {
        let bytes = anatomy.sum_in_vram(|group| group.block == Block::Vision);
        let Some(device) = rooms.take(bytes) else {
            return Ok(None);
        };
        placement.vision = device;
    }
    for (layer, kind) in anatomy.config.layers.iter().enumerate().skip(whole) {
        let block = Block::Layer(layer);
        let common = anatomy.common(block).map(Group::bytes_in_vram);
        let common = common.fold(0, u64::saturating_add);
        let memory = match kind {
            LayerKind::Attention => cache,
            LayerKind::Delta => states,
        };
        let has_experts = layer >= experts;
        let all = anatomy.bytes_in_vram(block, Piece::Experts);
        let (bytes, streamed) = match has_experts {
            true => (all, 0),
            false => (0, all.saturating_mul(placement.stream_rooms as u64)),
        };
        let bytes = common.saturating_add(memory).saturating_add(bytes);
        let Some(rest) = rooms.take_beside(bytes, streamed) else {
            return Ok(None);
        };
        placement.layers[layer] = LayerPlace {
            rest,
            experts: if has_experts { rest } else { Device::Ram },
            cached: 0.0,
        };
    }
    let norm = anatomy.bytes_in_vram(Block::Model, Piece::Norm);
    let head = anatomy.head().bytes_in_vram() + norm;
    let mtp = anatomy.sum_in_vram(|group| group.block == Block::Mtp);
    let mtp = mtp.saturating_add(anatomy.drafts_head_in_vram());
    let (mtp_cache, mtp_weights) = match anatomy.config.mtp_layers {
        0 => (0, 0),
        _ if wish.mtp => (cache, mtp),
        _ => (cache, 0),
    };
    let Some(device) = rooms.take(head.saturating_add(mtp_cache).saturating_add(mtp_weights))
    else {
        return Ok(None);
    };
    placement.head = device;
    placement.mtp = if wish.mtp { device } else { Device::Nowhere };
    placement.unused = Device::Nowhere;
    if anatomy.is_tied() {
        placement.embedding = device;
    }
    Ok(Some(placement))
}

/// Gives what is left of each GPU to copies of experts, or to the embedding if all experts are there.
fn use_what_is_left(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &mut Placement,
) -> Result<(), PlanError> {
    keep_copies(anatomy, machine, wish, placement)?;
    let has_all = placement
        .layers
        .iter()
        .all(|place| place.experts != Device::Ram);
    let embedding = anatomy.bytes_in_vram(Block::Model, Piece::Embedding);
    for budget in budgets(anatomy, machine, wish, placement)? {
        let is_here = budget.device != Device::Ram && placement.head == budget.device;
        if has_all && is_here && budget.left() >= embedding {
            placement.embedding = budget.device;
        }
    }
    Ok(())
}

/// Gives what is left of each GPU to copies of experts that are in RAM, at most as much as is wished.
fn keep_copies(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &mut Placement,
) -> Result<(), PlanError> {
    for budget in budgets(anatomy, machine, wish, placement)? {
        if budget.device == Device::Ram {
            continue;
        }
        let left = budget.left().min(wish.expert_cache) as f64;
        let bytes =
            |layer: usize| anatomy.bytes_in_vram(Block::Layer(layer), Piece::Experts) as f64;
        let here: Vec<usize> = (0..placement.layers.len())
            .filter(|&layer| {
                let place = placement.layers[layer];
                place.rest == budget.device && place.experts == Device::Ram
            })
            .collect();
        let all: f64 = here.iter().map(|&layer| bytes(layer)).sum();
        for layer in here {
            let one = anatomy.experts(Block::Layer(layer));
            let share = (left / all).min(1.0);
            let has_one = one.is_some_and(|one| share * one.count >= 1.0);
            placement.layers[layer].cached = if has_one { share } else { 0.0 };
        }
    }
    Ok(())
}

/// What GPUs still have room for, one after the other.
struct Rooms {
    /// Index and bytes, the fastest first.
    rooms: Vec<(usize, u64)>,
    at: usize,
    /// Of the current one, taken for what comes over the link.
    streaming: u64,
}

impl Rooms {
    fn new(anatomy: &Anatomy, machine: &Machine, wish: &Wish) -> Self {
        let buffers = anatomy.buffer_bytes(wish) + GPU_POOL_BYTES;
        let taken = wish.vram_reserve + GPU_CONTEXT_BYTES + buffers;
        let mut order: Vec<usize> = (0..machine.gpus.len()).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (&machine.gpus[a], &machine.gpus[b]);
            b.bandwidth
                .total_cmp(&a.bandwidth)
                .then(b.free.cmp(&a.free))
        });
        let room = |index: usize| (index, machine.gpus[index].free.saturating_sub(taken));
        Self {
            rooms: order.into_iter().map(room).collect(),
            at: 0,
            streaming: 0,
        }
    }

    /// Takes so much of the first GPU from the current one on that has it.
    fn take(&mut self, bytes: u64) -> Option<Device> {
        self.take_beside(bytes, 0)
    }

    /// The same for a layer whose experts come over the link, to room of so many bytes that all such layers
    /// of a GPU share.
    fn take_beside(&mut self, bytes: u64, streaming: u64) -> Option<Device> {
        while let Some((index, room)) = self.rooms.get_mut(self.at) {
            let more = streaming.saturating_sub(self.streaming);
            if let Some(left) = room.checked_sub(bytes.saturating_add(more)) {
                *room = left;
                self.streaming += more;
                return Some(Device::Gpu(*index));
            }
            self.at += 1;
            self.streaming = 0;
        }
        None
    }
}
