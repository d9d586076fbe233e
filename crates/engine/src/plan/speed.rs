//! How long a step takes: for each part the slower of reading and multiplying, one part after the other.

use std::collections::BTreeMap;

use formats::DType;
use model::LayerKind;

use super::anatomy::{Anatomy, Block, ExpertsAnatomy, Piece};
use super::factors::{
    CPU_ATTENTION, CPU_ATTENTION_OF_FEW, CPU_DELTA, CPU_READS, CPU_READS_AS_STORED,
    CROSSING_SECONDS, EXPERT_COPIES_SECONDS, F32_OF_INT8, GPU_ATTENTION, GPU_DELTA,
    GPU_EXPERT_ROWS, GPU_F16_OF_INT8, GPU_F32_OF_INT8, GPU_HALF_PRODUCTS, GPU_HALF_USED_BY_FEW,
    GPU_MATRIX_ATTENTION, GPU_MATRIX_MULTIPLIES, GPU_MATRIX_UNITS_FROM, GPU_MULTIPLIES, GPU_READS,
    LAUNCH_SECONDS, LAUNCHES_AROUND, LAUNCHES_OF_SORTED, LAUNCHES_PER_LAYER, PCIE_CARRIES,
    cpu_multiplies, expert_hits,
};
use super::machine::Machine;
use super::placement::{Device, Placement};
use super::wish::Wish;

/// What time goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Reading GPUs' memory.
    VramBytes,
    /// Reading RAM.
    RamBytes,
    /// Carrying weights or activations between CPU and GPUs, and waiting for them.
    Pcie,
    /// Multiplying on GPUs.
    GpuOperations,
    /// Multiplying on the CPU.
    CpuOperations,
    /// Starting kernels.
    Launches,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::VramBytes => "VRAM bytes",
            Self::RamBytes => "RAM bytes",
            Self::Pcie => "PCIe",
            Self::GpuOperations => "GPU operations",
            Self::CpuOperations => "CPU operations",
            Self::Launches => "launches",
        })
    }
}

/// Seconds that a step spends on one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// On what.
    pub limit: Limit,
    /// How long.
    pub seconds: f64,
}

/// How fast steps are.
#[derive(Debug, Clone, PartialEq)]
pub struct Speed {
    /// Tokens of a step, of all sequences.
    pub tokens: usize,
    /// Of a step.
    pub seconds: f64,
    /// What the time goes to, the most first.
    pub terms: Vec<Term>,
}

impl Speed {
    /// Tokens of all sequences per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds
    }

    /// What takes most of the time.
    pub fn limit(&self) -> Limit {
        self.terms
            .first()
            .map_or(Limit::RamBytes, |term| term.limit)
    }
}

/// One token of each of `sequences`, which have `depth` tokens each. Routing is taken to be uniform.
pub fn decode(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &Placement,
    sequences: usize,
    depth: usize,
) -> Speed {
    let step = Step {
        rows: sequences as f64,
        sequences: sequences as f64,
        seen: (depth + 1) as f64,
        is_prompt: false,
    };
    Clock::new(anatomy, machine, wish, placement, step).run(sequences)
}

/// A prompt of `tokens` tokens behind `depth` others, with the logits of the last one, in steps of
/// [`Wish::chunk_tokens`].
pub fn prefill(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &Placement,
    tokens: usize,
    depth: usize,
) -> Speed {
    let chunk = wish.chunk_tokens.min(wish.step_tokens).max(1);
    let mut speed: Option<Speed> = None;
    let mut done = 0;
    while done < tokens {
        let rows = chunk.min(tokens - done);
        let step = Step {
            rows: rows as f64,
            sequences: 1.0,
            seen: (depth + done) as f64 + (rows + 1) as f64 / 2.0,
            is_prompt: true,
        };
        let next = Clock::new(anatomy, machine, wish, placement, step).run(rows);
        speed = Some(match speed {
            None => next,
            Some(before) => before.and(&next),
        });
        done += rows;
    }
    speed.unwrap_or(Speed {
        tokens: 0,
        seconds: 0.0,
        terms: Vec::new(),
    })
}

/// From how many rows of a step on the experts that lie in RAM are better copied to the GPU than computed by
/// the CPU; `None` if that is never so in steps of what is wished, or there are none.
pub fn streams_from(
    anatomy: &Anatomy,
    machine: &Machine,
    wish: &Wish,
    placement: &Placement,
) -> Option<usize> {
    let mut layers = placement.layers.iter().enumerate();
    let (gpu, place, experts) =
        layers.find_map(|(layer, place)| match (place.rest, place.experts) {
            // Where all of them have copies, none has to come.
            (Device::Gpu(gpu), Device::Ram) if place.cached < 1.0 => {
                Some((gpu, place, anatomy.experts(Block::Layer(layer))?))
            }
            _ => None,
        })?;
    if placement.stream_rooms == 0 {
        return None;
    }
    let is_better = |&rows: &usize| {
        let step = Step {
            rows: rows as f64,
            sequences: 1.0,
            seen: 1.0,
            is_prompt: true,
        };
        let clock = Clock::new(anatomy, machine, wish, placement, step);
        let ways = clock.ways(gpu, place.cached, experts);
        ways.streamed() < ways.on_both()
    };
    let doubled = |rows: &usize| Some(2 * rows).filter(|&rows| rows <= wish.step_tokens);
    std::iter::successors(Some(8), doubled).find(is_better)
}

/// Bytes of single experts that are copied to a GPU in a step at most, where the placement keeps copies: what
/// the slowest link carries in [`EXPERT_COPIES_SECONDS`].
pub fn copied_per_step(machine: &Machine, placement: &Placement) -> usize {
    let links = placement
        .layers
        .iter()
        .filter_map(|place| match place.rest {
            Device::Gpu(gpu) if place.cached > 0.0 => machine.gpus.get(gpu).map(|gpu| gpu.pcie),
            _ => None,
        });
    let slowest = links.min_by(f64::total_cmp).unwrap_or(0.0);
    (slowest * PCIE_CARRIES * EXPERT_COPIES_SECONDS) as usize
}

/// What experts in RAM beside a layer on a GPU take.
struct Ways {
    /// All of them over the link, and computed with on the GPU.
    carried: (Limit, f64),
    computed: (Limit, f64),
    /// Whether both happen at once.
    at_once: bool,
    /// Each side computing its own: the slower one.
    apart: (Limit, f64),
    /// What activations take over the link then.
    crossing: f64,
}

impl Ways {
    fn streamed(&self) -> f64 {
        match self.at_once {
            true => self.carried.1.max(self.computed.1),
            false => self.carried.1 + self.computed.1,
        }
    }

    fn on_both(&self) -> f64 {
        self.apart.1 + self.crossing
    }
}

impl Speed {
    fn of(tokens: usize, times: BTreeMap<Limit, f64>) -> Self {
        let mut terms: Vec<Term> = times
            .into_iter()
            .map(|(limit, seconds)| Term { limit, seconds })
            .collect();
        terms.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Self {
            tokens,
            seconds: terms.iter().map(|term| term.seconds).sum(),
            terms,
        }
    }

    /// One after the other.
    fn and(&self, next: &Self) -> Self {
        let mut times = BTreeMap::new();
        for term in self.terms.iter().chain(&next.terms) {
            *times.entry(term.limit).or_insert(0.0) += term.seconds;
        }
        Self::of(self.tokens + next.tokens, times)
    }
}

/// What goes through the model at once.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Tokens of all sequences.
    rows: f64,
    sequences: f64,
    /// Tokens that a row attends to, on average.
    seen: f64,
    is_prompt: bool,
}

/// Bytes to read and multiplications to make with them.
#[derive(Debug, Clone, Copy)]
struct Work {
    bytes: f64,
    macs: f64,
    /// Of these, those with weights of 16 bits.
    half_macs: f64,
    /// Rows that share a matrix.
    sharing: f64,
    /// Whether it is experts', of which each row uses others.
    is_chosen: bool,
}

impl Work {
    fn part(self, share: f64) -> Self {
        Self {
            bytes: self.bytes * share,
            macs: self.macs * share,
            half_macs: self.half_macs * share,
            ..self
        }
    }
}

/// Adds up a step's times.
struct Clock<'a> {
    anatomy: &'a Anatomy,
    machine: &'a Machine,
    placement: &'a Placement,
    step: Step,
    /// Bytes of keys and values of a token in a layer.
    token_bytes: f64,
    /// Share of the read bandwidth that the CPU reaches.
    cpu_reads: f64,
    /// Whether keys and values are of a type and size that GPUs' matrix units take (`docs/gpu.md`).
    attends_on_matrix_units: bool,
    times: BTreeMap<Limit, f64>,
}

impl<'a> Clock<'a> {
    fn new(
        anatomy: &'a Anatomy,
        machine: &'a Machine,
        wish: &Wish,
        placement: &'a Placement,
        step: Step,
    ) -> Self {
        let in_ram = anatomy.bytes_in_ram(placement);
        let has_copies = in_ram + in_ram / 4 <= machine.host.free;
        Self {
            anatomy,
            machine,
            placement,
            step,
            // Types that do not fit are refused when memory is counted.
            token_bytes: anatomy.token_bytes(wish).map_or(0.0, |bytes| bytes as f64),
            cpu_reads: if has_copies {
                CPU_READS
            } else {
                CPU_READS_AS_STORED
            },
            attends_on_matrix_units: wish.kv.key != DType::F32
                && anatomy.config.attention.head_dim.is_multiple_of(16),
            times: BTreeMap::new(),
        }
    }

    fn run(mut self, tokens: usize) -> Speed {
        let mut here = self.placement.embedding;
        for (layer, &kind) in self.anatomy.config.layers.iter().enumerate() {
            let there = self.placement.layers[layer].rest;
            self.cross(here, there);
            here = there;
            self.layer(layer, kind);
        }
        self.cross(here, self.placement.head);
        let (anatomy, rows) = (self.anatomy, self.step.sequences);
        let norm = anatomy.bytes(Block::Model, Piece::Norm);
        let head = anatomy.head();
        let work = Work {
            bytes: (head.bytes + norm) as f64,
            macs: rows * head.macs,
            half_macs: rows * head.half_macs,
            sharing: rows,
            is_chosen: false,
        };
        self.spend(self.placement.head, work);
        if let Device::Gpu(_) = self.placement.head {
            self.add(Limit::Launches, LAUNCHES_AROUND * LAUNCH_SECONDS);
        }
        Speed::of(tokens, self.times)
    }

    fn layer(&mut self, layer: usize, kind: LayerKind) {
        let (block, place) = (Block::Layer(layer), self.placement.layers[layer]);
        let rows = self.step.rows;
        let mut work = Work {
            bytes: 0.0,
            macs: 0.0,
            half_macs: 0.0,
            sharing: rows,
            is_chosen: false,
        };
        for group in self.anatomy.common(block) {
            work.bytes += group.bytes as f64;
            work.macs += rows * group.macs;
            work.half_macs += rows * group.half_macs;
        }
        self.spend(place.rest, work);
        match kind {
            LayerKind::Attention => self.attention(place.rest),
            LayerKind::Delta => self.delta(place.rest),
        }
        if let Device::Gpu(_) = place.rest {
            self.add(Limit::Launches, LAUNCHES_PER_LAYER * LAUNCH_SECONDS);
        }
        if let Some(experts) = self.anatomy.experts(block) {
            let work = self.chosen(experts);
            match (place.rest, place.experts) {
                (Device::Gpu(gpu), Device::Ram) => self.split(gpu, place.cached, experts),
                (_, device) => {
                    self.spend(device, work);
                    if matches!(device, Device::Gpu(_)) && self.step.rows >= GPU_MATRIX_UNITS_FROM {
                        self.add(Limit::Launches, LAUNCHES_OF_SORTED * LAUNCH_SECONDS);
                    }
                }
            }
        }
    }

    /// The experts that at least one row chose.
    fn chosen(&self, experts: ExpertsAnatomy) -> Work {
        let missed = (1.0 - experts.top_k / experts.count).powf(self.step.rows);
        let chosen = experts.count * (1.0 - missed);
        let uses = self.step.rows * experts.top_k;
        Work {
            bytes: chosen * experts.bytes,
            macs: uses * experts.macs,
            half_macs: uses * experts.half_macs,
            sharing: uses / chosen.max(1.0),
            is_chosen: true,
        }
    }

    /// Experts in RAM beside a layer on a GPU: copies there while the CPU computes the others, or, for many
    /// rows, all of them there as they come over the link.
    fn split(&mut self, gpu: usize, cached: f64, experts: ExpertsAnatomy) {
        let ways = self.ways(gpu, cached, experts);
        let is_streamed = self.step.is_prompt && self.placement.stream_rooms > 0;
        if is_streamed && ways.streamed() < ways.on_both() {
            if !ways.at_once {
                self.add(ways.carried.0, ways.carried.1);
                self.add(ways.computed.0, ways.computed.1);
            } else if ways.carried.1 > ways.computed.1 {
                self.add(ways.carried.0, ways.carried.1);
            } else {
                self.add(ways.computed.0, ways.computed.1);
            }
        } else {
            self.add(ways.apart.0, ways.apart.1);
            self.add(Limit::Pcie, ways.crossing);
        }
    }

    fn ways(&self, gpu: usize, cached: f64, experts: ExpertsAnatomy) -> Ways {
        let work = self.chosen(experts);
        let device = Device::Gpu(gpu);
        let link = self.machine.gpus[gpu].pcie * PCIE_CARRIES;
        let hit = expert_hits(cached);
        let hits = self.time(device, work.part(hit));
        let misses = self.time(Device::Ram, work.part(1.0 - hit));
        let hidden = self.anatomy.config.hidden_size as f64 * size_of::<f32>() as f64;
        Ways {
            // All of a layer's are copied, since it is the GPU that knows which were chosen.
            carried: (Limit::Pcie, experts.count * experts.bytes / link),
            computed: self.time(device, work),
            at_once: self.placement.stream_rooms > 1,
            apart: if hits.1 > misses.1 { hits } else { misses },
            crossing: 2.0 * (CROSSING_SECONDS + self.step.rows * hidden / link),
        }
    }

    fn attention(&mut self, device: Device) {
        let pairs = self.step.rows * self.step.seen;
        let macs = pairs * self.anatomy.attention_macs();
        let bytes = self.step.sequences * self.step.seen * self.token_bytes;
        let rate = match device {
            Device::Gpu(gpu) if self.attends_on_matrix_units => {
                let peak = self.machine.gpus[gpu].matrix_macs;
                peak * GPU_F16_OF_INT8 * GPU_MATRIX_ATTENTION
            }
            Device::Gpu(gpu) => self.machine.gpus[gpu].macs * GPU_F32_OF_INT8 * GPU_ATTENTION,
            _ if self.step.is_prompt => self.machine.host.macs * F32_OF_INT8 * CPU_ATTENTION,
            _ => self.machine.host.macs * F32_OF_INT8 * CPU_ATTENTION_OF_FEW,
        };
        self.slower(device, bytes, macs / rate);
    }

    fn delta(&mut self, device: Device) {
        let bytes = 2.0 * self.step.sequences * self.anatomy.state_bytes() as f64;
        let operations = self.step.rows * self.anatomy.delta_operations();
        let rate = match device {
            Device::Gpu(gpu) => self.machine.gpus[gpu].macs * GPU_F32_OF_INT8 * GPU_DELTA,
            _ => self.machine.host.macs * F32_OF_INT8 * CPU_DELTA,
        };
        self.slower(device, bytes, operations / rate);
    }

    /// From one device to the next.
    fn cross(&mut self, from: Device, to: Device) {
        let links = [from, to].into_iter().filter_map(|device| match device {
            Device::Gpu(gpu) => Some(self.machine.gpus[gpu].pcie * PCIE_CARRIES),
            _ => None,
        });
        if from != to
            && let Some(link) = links.min_by(f64::total_cmp)
        {
            let hidden = self.anatomy.config.hidden_size as f64 * size_of::<f32>() as f64;
            let seconds = CROSSING_SECONDS + self.step.rows * hidden / link;
            self.add(Limit::Pcie, seconds);
        }
    }

    fn spend(&mut self, device: Device, work: Work) {
        let (limit, seconds) = self.time(device, work);
        self.add(limit, seconds);
    }

    /// The slower of reading and multiplying.
    fn time(&self, device: Device, work: Work) -> (Limit, f64) {
        let (rows, padding) = match work.is_chosen {
            true => (self.step.rows, (GPU_EXPERT_ROWS / work.sharing).max(1.0)),
            false => (work.sharing, 1.0),
        };
        // With codes, and with weights of 16 bits.
        let (rate, half_rate) = match device {
            Device::Gpu(gpu) => {
                let gpu = &self.machine.gpus[gpu];
                let halves = gpu.matrix_macs * GPU_F16_OF_INT8 / GPU_HALF_PRODUCTS;
                if rows >= GPU_MATRIX_UNITS_FROM {
                    let share = GPU_MATRIX_MULTIPLIES / padding;
                    (gpu.matrix_macs * share, halves * share)
                } else {
                    let share = GPU_MULTIPLIES;
                    (gpu.macs * share, halves * share * GPU_HALF_USED_BY_FEW)
                }
            }
            _ => {
                let rate = self.machine.host.macs * cpu_multiplies(work.sharing);
                (rate, rate * F32_OF_INT8)
            }
        };
        let seconds = (work.macs - work.half_macs) / rate + work.half_macs / half_rate;
        self.slower_of(device, work.bytes, seconds)
    }

    fn slower(&mut self, device: Device, bytes: f64, operations: f64) {
        let (limit, seconds) = self.slower_of(device, bytes, operations);
        self.add(limit, seconds);
    }

    fn slower_of(&self, device: Device, bytes: f64, operations: f64) -> (Limit, f64) {
        let (reads, multiplies, bandwidth) = match device {
            Device::Gpu(gpu) => {
                let bandwidth = self.machine.gpus[gpu].bandwidth * GPU_READS;
                (Limit::VramBytes, Limit::GpuOperations, bandwidth)
            }
            _ => {
                let bandwidth = self.machine.host.bandwidth * self.cpu_reads;
                (Limit::RamBytes, Limit::CpuOperations, bandwidth)
            }
        };
        let reading = bytes / bandwidth;
        match reading >= operations {
            true => (reads, reading),
            false => (multiplies, operations),
        }
    }

    fn add(&mut self, limit: Limit, seconds: f64) {
        if seconds > 0.0 {
            *self.times.entry(limit).or_insert(0.0) += seconds;
        }
    }
}
