//! A plan with all of its numbers, for both ways of printing it.

use std::collections::BTreeMap;

use engine::plan::{Anatomy, Budget, Device, Machine, Piece, Plan, Speed, Wish, decode, prefill};
use serde::Serialize;

use super::Compared;
use super::source::Subject;

/// The prompt whose speed is told.
pub(super) const PROMPT: usize = 512;

/// Depths that speeds are told at, as far as the context goes.
const DEPTHS: [usize; 4] = [0, 4_096, 16_384, 131_072];

/// Everything that is known of a plan.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) model: Model,
    pub(super) gpus: Vec<GpuRow>,
    pub(super) cpu: CpuRow,
    pub(super) context: usize,
    pub(super) cache_type_k: String,
    pub(super) cache_type_v: String,
    pub(super) parallel: usize,
    pub(super) chunk_tokens: usize,
    pub(super) parts: Vec<Part>,
    /// Layers of which something is computed by a GPU.
    pub(super) layers_on_gpus: usize,
    /// Layers on GPUs whose experts are in RAM.
    pub(super) n_cpu_moe: usize,
    pub(super) memory: Vec<Memory>,
    pub(super) speeds: Vec<Speeds>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) name: String,
    /// Where its sizes are from.
    pub(super) from: String,
    pub(super) architecture: String,
    pub(super) layers: usize,
    pub(super) parameters: u64,
    pub(super) stored_bytes: u64,
    /// Weights that a decoded token reads.
    pub(super) read_bytes: u64,
    /// Keys and values of a token in all layers.
    pub(super) token_bytes: u64,
    /// Recurrent state of a sequence.
    pub(super) state_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct GpuRow {
    pub(super) name: String,
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) bytes_per_second: f64,
    pub(super) int8_macs_per_second: f64,
    pub(super) matrix_int8_macs_per_second: f64,
    pub(super) pcie_bytes_per_second: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct CpuRow {
    pub(super) name: String,
    pub(super) threads: usize,
    pub(super) ram_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) bytes_per_second: f64,
    pub(super) int8_macs_per_second: f64,
}

/// A piece of the model on one device, over all layers that have it there.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) piece: &'static str,
    pub(super) device: String,
    /// Such as `0-11`, where the piece is of layers.
    pub(super) layers: Option<String>,
    pub(super) tensors: usize,
    pub(super) types: Vec<String>,
    pub(super) bytes: u64,
    /// What a decoded token reads of it.
    pub(super) read_bytes: u64,
    /// Multiplications that a decoded token makes with it.
    pub(super) macs: u64,
    /// The share of it that a GPU keeps copies of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cached: Option<f64>,
}

/// A device's memory, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) device: String,
    pub(super) free: u64,
    pub(super) reserve: u64,
    pub(super) driver: u64,
    pub(super) weights: u64,
    pub(super) expert_cache: u64,
    pub(super) streaming: u64,
    pub(super) keys_values: u64,
    pub(super) states: u64,
    pub(super) buffers: u64,
    pub(super) prompt_cache: u64,
    pub(super) left: u64,
}

/// How fast it would be at a depth.
#[derive(Debug, Serialize)]
pub(crate) struct Speeds {
    pub(super) depth: usize,
    pub(super) prefill: Rate,
    pub(super) decode: Rate,
    /// All answers together, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decode_all: Option<Rate>,
}

#[derive(Debug, Serialize)]
pub(super) struct Rate {
    pub(super) tokens_per_second: f64,
    /// What takes most of the time.
    pub(super) limit: String,
    /// Milliseconds of a step (of the whole prompt), by what they go to.
    pub(super) milliseconds: BTreeMap<String, f64>,
}

impl Rate {
    fn of(speed: &Speed) -> Self {
        let terms = speed.terms.iter();
        Self {
            tokens_per_second: speed.tokens_per_second(),
            limit: speed.limit().to_string(),
            milliseconds: terms
                .map(|term| (term.limit.to_string(), term.seconds * 1e3))
                .collect(),
        }
    }
}

impl Speeds {
    pub(super) fn of(
        anatomy: &Anatomy,
        machine: &Machine,
        wish: &Wish,
        plan: &Plan,
        depth: usize,
    ) -> Self {
        let decode = |sequences| {
            let speed = decode(anatomy, machine, wish, &plan.placement, sequences, depth);
            Rate::of(&speed)
        };
        let prompt = prefill(anatomy, machine, wish, &plan.placement, PROMPT, depth);
        Self {
            depth,
            prefill: Rate::of(&prompt),
            decode: decode(1),
            decode_all: (wish.sequences > 1).then(|| decode(wish.sequences)),
        }
    }
}

impl Report {
    pub(super) fn new(
        subject: &Subject,
        machine: &Machine,
        wish: &Wish,
        plan: &Plan,
        mut notes: Vec<String>,
    ) -> Self {
        let Subject { anatomy, .. } = subject;
        let config = &anatomy.config;
        let depths = DEPTHS
            .into_iter()
            .filter(|&depth| depth == 0 || depth + PROMPT <= wish.context);
        let layout = wish.engine().layout(config);
        let attention = layout.attention_layers as u64 - config.mtp_layers.min(1) as u64;
        if plan.placement.layers_on_gpus() > 0 {
            notes.push(
                "what a GPU reaches of its figures is assumed: nothing was measured on one yet"
                    .to_owned(),
            );
        }
        Self {
            model: Model {
                name: subject.name.clone(),
                from: subject.from.clone(),
                architecture: config.architecture.gguf_name().to_owned(),
                layers: config.layers.len(),
                parameters: anatomy.groups.iter().map(|group| group.values).sum(),
                stored_bytes: anatomy.stored_bytes(),
                read_bytes: anatomy.read_bytes() as u64,
                token_bytes: attention * anatomy.token_bytes(wish).unwrap_or(0),
                state_bytes: layout.state_bytes() as u64,
            },
            gpus: machine.gpus.iter().map(gpu_row).collect(),
            cpu: CpuRow {
                name: machine.host.name.clone(),
                threads: machine.host.threads,
                ram_bytes: machine.host.total,
                free_bytes: machine.host.free,
                bytes_per_second: machine.host.bandwidth,
                int8_macs_per_second: machine.host.macs,
            },
            context: wish.context,
            cache_type_k: wish.kv.key.name().to_ascii_lowercase(),
            cache_type_v: wish.kv.value.name().to_ascii_lowercase(),
            parallel: wish.sequences,
            chunk_tokens: wish.chunk_tokens,
            parts: parts(anatomy, plan),
            layers_on_gpus: plan.placement.layers_on_gpus(),
            n_cpu_moe: plan.placement.layers_with_experts_in_ram(),
            memory: plan.budgets.iter().map(memory).collect(),
            speeds: depths
                .map(|depth| Speeds::of(anatomy, machine, wish, plan, depth))
                .collect(),
            notes,
        }
    }
}

fn gpu_row(gpu: &engine::plan::Gpu) -> GpuRow {
    GpuRow {
        name: gpu.name.clone(),
        total_bytes: gpu.total,
        free_bytes: gpu.free,
        bytes_per_second: gpu.bandwidth,
        int8_macs_per_second: gpu.macs,
        matrix_int8_macs_per_second: gpu.matrix_macs,
        pcie_bytes_per_second: gpu.pcie,
    }
}

/// The groups, those of one kind on one device together.
fn parts(anatomy: &Anatomy, plan: &Plan) -> Vec<Part> {
    let mut rows: BTreeMap<(Piece, Device), (Part, Vec<usize>)> = BTreeMap::new();
    for group in &anatomy.groups {
        let device = plan.placement.of(group);
        let piece = match group.block {
            // One row for all of it.
            engine::plan::Block::Mtp => Piece::Join,
            _ => group.piece,
        };
        let (part, layers) = rows.entry((piece, device)).or_insert_with(|| {
            let part = Part {
                piece: name_of(piece, anatomy),
                device: device_name(device),
                layers: None,
                tensors: 0,
                types: Vec::new(),
                bytes: 0,
                read_bytes: 0,
                macs: 0,
                cached: None,
            };
            (part, Vec::new())
        });
        part.tensors += group.tensors.len();
        part.bytes += group.bytes;
        let share = match (piece, anatomy.experts(group.block)) {
            (Piece::Experts, Some(experts)) => experts.top_k / experts.count,
            (Piece::Join | Piece::Vision | Piece::Unused, _) => 0.0,
            (Piece::Embedding, _) if !anatomy.is_tied() => 0.0,
            _ => 1.0,
        };
        part.read_bytes += (share * group.bytes as f64) as u64;
        part.macs += (share * group.macs) as u64;
        for dtype in group.types.keys() {
            let name = dtype.name().to_owned();
            if !part.types.contains(&name) {
                part.types.push(name);
            }
        }
        if let engine::plan::Block::Layer(layer) = group.block {
            layers.push(layer);
            let place = plan.placement.layers[layer];
            if piece == Piece::Experts && place.cached > 0.0 {
                part.cached = Some(place.cached);
            }
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    for (mut part, mut layers) in rows.into_values() {
        layers.sort_unstable();
        part.types.sort();
        part.layers = (!layers.is_empty()).then(|| ranges(&layers));
        parts.push(part);
    }
    parts
}

/// Numbers as `0-2,4`, or how many there are where that would be long.
fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    if ranges.len() > 3 {
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        return format!("{} of {first}-{last}", numbers.len());
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

fn name_of(piece: Piece, anatomy: &Anatomy) -> &'static str {
    match piece {
        Piece::Embedding if anatomy.is_tied() => "embedding and output head",
        Piece::Embedding => "embedding",
        Piece::Attention => "attention",
        Piece::Delta => "delta rule",
        Piece::Router => "router, norm",
        Piece::Shared => "shared expert",
        Piece::Experts => "experts",
        Piece::Dense => "feed-forward",
        Piece::Join => "multi-token prediction",
        Piece::Norm => "last norm",
        Piece::Head => "output head",
        Piece::Vision => "image reader",
        Piece::Unused => "not used",
    }
}

pub(super) fn device_name(device: Device) -> String {
    match device {
        Device::Gpu(index) => format!("GPU {index}"),
        Device::Ram => "RAM".to_owned(),
        Device::Nowhere => "not loaded".to_owned(),
    }
}

fn memory(budget: &Budget) -> Memory {
    Memory {
        device: device_name(budget.device),
        free: budget.free,
        reserve: budget.reserve,
        driver: budget.driver,
        weights: budget.weights,
        expert_cache: budget.expert_cache,
        streaming: budget.streaming,
        keys_values: budget.keys_values,
        states: budget.states,
        buffers: budget.buffers,
        prompt_cache: budget.prompt_cache,
        left: budget.left(),
    }
}

/// A row of a comparison.
#[derive(Debug, Serialize)]
pub(super) struct ComparisonRow {
    quantisation: String,
    stored_bytes: u64,
    read_bytes: u64,
    fits: bool,
    layers_on_gpus: Option<usize>,
    n_cpu_moe: Option<usize>,
    speed: Option<BTreeMap<&'static str, f64>>,
}

pub(super) fn comparison(rows: &[Compared]) -> Vec<ComparisonRow> {
    let row = |row: &Compared| {
        let found = row.found.as_ref();
        ComparisonRow {
            quantisation: row.mix.to_string(),
            stored_bytes: row.anatomy.stored_bytes(),
            read_bytes: row.anatomy.read_bytes() as u64,
            fits: found.is_some(),
            layers_on_gpus: found.map(|(plan, _)| plan.placement.layers_on_gpus()),
            n_cpu_moe: found.map(|(plan, _)| plan.placement.layers_with_experts_in_ram()),
            speed: found.map(|(_, speeds)| {
                BTreeMap::from([
                    ("prefill", speeds.prefill.tokens_per_second),
                    ("decode", speeds.decode.tokens_per_second),
                ])
            }),
        }
    };
    rows.iter().map(row).collect()
}
