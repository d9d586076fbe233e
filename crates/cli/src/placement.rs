//! Which parts of a model go to which GPU, and which stay in RAM: as planned, or as flags say.

use anyhow::Context;
use clap::Args;
use engine::plan::factors::GPU_CONTEXT_BYTES;
use engine::plan::{
    Anatomy, Block, Device, Gpu, Host, Machine, Piece, Placement, PlanError, Wish, advise,
    check_with_copies, copied_per_step, place_of, plan, streams_from,
};
use engine::{EngineSettings, OnGpu, OpenedModel};
use formats::Ram;
use regex::Regex;

use crate::exit::Failure;
use crate::fit::{FitArgs, Steps};
use crate::output;
use crate::plan::{NoPlan, OVER_ALL, gpus, machine};
use crate::size;

/// More bytes than any model has.
const PLENTY: u64 = u64::MAX / 2;

/// What of a model GPUs get.
#[derive(Debug, Clone, PartialEq, Args)]
pub(crate) struct PlacementArgs {
    /// With --backend gpu: layers on the GPU, counted from the last, of which the output counts as one;
    /// `all`, or `auto` for what is fastest and fits [short: -ngl].
    #[arg(long, value_name = "N", default_value = "auto", value_parser = layers,
          aliases = ["ngl", "gpu-layers"], allow_hyphen_values = true)]
    n_gpu_layers: Layers,
    /// With --backend gpu: leave the experts of the first N layers in RAM [short: -ncmoe].
    #[arg(long, value_name = "N", alias = "ncmoe")]
    n_cpu_moe: Option<usize>,
    /// With --backend gpu: leave the experts of all layers in RAM [short: -cmoe].
    #[arg(long, alias = "cmoe", conflicts_with = "n_cpu_moe")]
    cpu_moe: bool,
    /// With --backend gpu: where tensors go that a regular expression finds, such as
    /// `blk\.[0-9]\.ffn_.*_exps=CPU`, to the CPU or a GPU by its number (GPU1); the first that finds one
    /// counts. A layer's experts stay together, and so does the rest of it [short: -ot].
    #[arg(long, value_name = "REGEX=PLACE", alias = "ot", value_delimiter = ',', value_parser = rule)]
    override_tensor: Vec<Rule>,
    /// With --backend gpu: tokens of a step from which on experts in RAM are copied to the GPU instead of
    /// computed by the CPU, with room on the GPU for those of two layers, or of one; `auto` by what is planned,
    /// which has no such room where the CPU is faster, `off` for never.
    #[arg(long, value_name = "N", default_value = "auto", value_parser = rows)]
    stream_experts: Rows,
    /// With --backend gpu: each one's memory for copies of often used experts that are in RAM, in MiB or with a
    /// unit, as far as there is room; `auto` for all that is left, `off` for none.
    #[arg(long, value_name = "SIZE", default_value = "auto", value_parser = copies)]
    expert_cache: Copies,
    /// With --backend gpu: what is left free of each one's memory, in MiB or with a unit.
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = size::bytes)]
    vram_target: u64,
    /// With --backend gpu: which GPUs, by their numbers, such as 0,1 (default: all) [short: -dev].
    #[arg(long, value_name = "NUMBERS", alias = "dev", value_delimiter = ',', value_parser = number)]
    device: Vec<usize>,
    /// With --backend gpu and layers counted by -ngl: how many of them each GPU gets, as shares such as 3,1
    /// (default: by their free memory) [short: -ts].
    #[arg(long, value_name = "SHARES", alias = "ts", value_delimiter = ',', value_parser = share)]
    tensor_split: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Auto,
    All,
    Last(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Auto,
    Never,
    From(usize),
}

/// Bytes of each GPU's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copies(u64);

/// Tensors whose names are found, and where they go.
#[derive(Debug, Clone)]
struct Rule {
    names: Regex,
    device: Device,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.names.as_str() == other.names.as_str() && self.device == other.device
    }
}

fn layers(text: &str) -> Result<Layers, String> {
    match text {
        "auto" | "-1" => Ok(Layers::Auto),
        "all" => Ok(Layers::All),
        _ => match text.parse() {
            Ok(count) => Ok(Layers::Last(count)),
            Err(_) => Err("expected a number, all or auto".to_owned()),
        },
    }
}

fn rows(text: &str) -> Result<Rows, String> {
    match text {
        "auto" => Ok(Rows::Auto),
        "off" => Ok(Rows::Never),
        _ => match text.parse() {
            Ok(count) if count > 0 => Ok(Rows::From(count)),
            _ => Err("expected a number above 0, auto or off".to_owned()),
        },
    }
}

fn copies(text: &str) -> Result<Copies, String> {
    Ok(Copies(match text {
        "auto" => u64::MAX,
        "off" => 0,
        _ => size::bytes(text).map_err(|why| format!("{why}; or auto or off"))?,
    }))
}

/// A GPU's number, as such or as others write it: 1, GPU1, CUDA1.
fn number(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .strip_prefix("cuda")
        .or_else(|| lower.strip_prefix("gpu"));
    let digits = digits.unwrap_or(&lower);
    digits
        .parse()
        .map_err(|_| format!("{text} is no GPU; expected a number, such as 0 or GPU0"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share: &f64| share.is_finite() && *share >= 0.0);
    share.ok_or_else(|| "expected a number from 0 on".to_owned())
}

fn rule(text: &str) -> Result<Rule, String> {
    let Some((names, place)) = text.rsplit_once('=') else {
        return Err("expected a regular expression, `=` and CPU or a GPU".to_owned());
    };
    let device = match place.to_ascii_lowercase().as_str() {
        "cpu" | "ram" => Device::Ram,
        "gpu" => Device::Gpu(0),
        _ => match number(place) {
            Ok(number) => Device::Gpu(number),
            Err(_) => return Err(format!("{place} is no place; expected CPU or a GPU")),
        },
    };
    let names = Regex::new(names).map_err(|error| error.to_string())?;
    Ok(Rule { names, device })
}

impl PlacementArgs {
    /// Says which of these flags mean nothing where no GPU computes.
    pub(crate) fn tell_unused(&self) {
        let given = [
            ("--n-gpu-layers", self.n_gpu_layers != Layers::Auto),
            ("--n-cpu-moe", self.n_cpu_moe.is_some()),
            ("--cpu-moe", self.cpu_moe),
            ("--override-tensor", !self.override_tensor.is_empty()),
            ("--device", !self.device.is_empty()),
            ("--tensor-split", !self.tensor_split.is_empty()),
        ];
        for (name, _) in given.iter().filter(|(_, is_given)| *is_given) {
            let note = format!(
                "note: {name}: models are computed by the CPU unless --backend gpu says otherwise; ignored"
            );
            output::notes_of(name, vec![note]);
        }
    }

    /// Where the parts of a model go on this machine. What does not fit is refused before any of it is
    /// loaded.
    ///
    /// # Errors
    /// If it does not fit, or flags fit no model of this kind.
    pub(crate) fn place(
        &self,
        (gpus, host): (Vec<gpu::Gpu>, cpu::Cpu),
        opened: &OpenedModel,
        wanted: (&EngineSettings, Steps),
        fit: FitArgs,
    ) -> anyhow::Result<OnGpu> {
        let machine = machine_with(&gpus, host.threads())?;
        let mut notes = Vec::new();
        let found = self.find(&machine, opened, wanted, fit, &mut notes);
        if found
            .as_ref()
            .is_ok_and(|(placement, _)| placement.layers_on_gpus() == 0)
        {
            notes.push(
                "note: every layer is in RAM, so that GPUs have little to do; --backend cpu needs none"
                    .to_owned(),
            );
        }
        // A server loads a model again and again.
        output::notes_of(&opened.path.display().to_string(), notes);
        let (placement, stream_from) = found?;
        let copied_per_step = copied_per_step(&machine, &placement);
        tracing::info!(
            "{} of {} layers on GPUs, {} of them without their experts; experts are copied there from {} \
             tokens on, {} layers at a time, and {:.0} % of them are kept there",
            placement.layers_on_gpus(),
            placement.layers.len(),
            placement.layers_with_experts_in_ram(),
            stream_from.map_or_else(|| "no".to_owned(), |rows| rows.to_string()),
            placement.stream_rooms,
            100.0 * placement.copied(),
        );
        Ok(OnGpu {
            gpus,
            host,
            placement: Some(placement),
            stream_from,
            copied_per_step,
        })
    }

    /// Which GPUs are to compute; none for all.
    pub(crate) fn devices(&self) -> &[usize] {
        &self.device
    }

    /// The same for any machine with GPUs, and from how many rows of a step on experts are copied to them.
    /// What the user is to know is added to `notes`.
    fn find(
        &self,
        machine: &Machine,
        opened: &OpenedModel,
        (settings, steps): (&EngineSettings, Steps),
        fit: FitArgs,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<(Placement, Option<usize>)> {
        let anatomy = opened
            .anatomy()
            .with_context(|| format!("{} cannot be taken apart", opened.path.display()))?;
        let wish = Wish {
            vram_reserve: self.vram_target,
            expert_cache: self.expert_cache.0,
            stream_rooms: match self.stream_experts {
                Rows::Never => 0,
                Rows::Auto | Rows::From(_) => 2,
            },
            stream_if_faster: self.stream_experts == Rows::Auto,
            ..fit.wish(settings, steps)
        };
        let asked = self.asked(opened, &anatomy, machine, notes)?;
        let fitting = |anatomy: &Anatomy, wish: &Wish| match &asked {
            Some(placement) => check_with_copies(anatomy, machine, wish, placement.clone()),
            None => plan(anatomy, machine, wish),
        };
        let placement = match fitting(&anatomy, &wish) {
            Ok(plan) => plan.placement,
            Err(PlanError::DoesNotFit { .. }) if !fit.is_on() => {
                // What RAM has no room for is read from the disk as it is used.
                let mut machine = machine.clone();
                machine.host.free = PLENTY;
                match asked {
                    None => plan(&anatomy, &machine, &wish)?.placement,
                    Some(placement) => {
                        let found = check_with_copies(&anatomy, &machine, &wish, placement.clone());
                        found.map_or(placement, |plan| plan.placement)
                    }
                }
            }
            Err(why @ PlanError::DoesNotFit { .. }) => {
                let mut advice = advise(&anatomy, &wish, &[], |anatomy, wish| {
                    fitting(anatomy, wish).is_ok()
                });
                let without_rooms = Wish {
                    stream_rooms: 0,
                    ..wish.clone()
                };
                if wish.stream_rooms > 0 && fitting(&anatomy, &without_rooms).is_ok() {
                    advice.instead.push("--stream-experts off".to_owned());
                }
                if asked.is_some() {
                    let instead = "-ngl auto without other places, which takes what fits";
                    advice.instead.push(instead.to_owned());
                }
                return Err(NoPlan {
                    name: opened.path.display().to_string(),
                    tried: match asked {
                        Some(_) => " where it was asked for",
                        None => OVER_ALL,
                    },
                    why,
                    advice,
                }
                .into());
            }
            Err(why) => return Err(why.into()),
        };
        let stream_from = match self.stream_experts {
            Rows::Never => None,
            Rows::From(rows) if placement.stream_rooms > 0 => Some(rows),
            Rows::From(rows) => {
                let why = match placement.layers_with_experts_in_ram() {
                    0 => "no layer on a GPU has its experts in RAM",
                    _ => "there is no room for a layer's experts on a GPU",
                };
                notes.push(format!("note: --stream-experts {rows}: {why}; ignored"));
                None
            }
            Rows::Auto => streams_from(&anatomy, machine, &wish, &placement),
        };
        Ok((placement, stream_from))
    }

    fn is_auto(&self) -> bool {
        self.n_gpu_layers == Layers::Auto
            && self.n_cpu_moe.is_none()
            && !self.cpu_moe
            && self.override_tensor.is_empty()
            && self.tensor_split.is_empty()
    }

    /// What flags say, if they say anything.
    fn asked(
        &self,
        opened: &OpenedModel,
        anatomy: &Anatomy,
        machine: &Machine,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Option<Placement>> {
        if self.is_auto() {
            return Ok(None);
        }
        let config = &opened.config;
        let count = config.layers.len();
        // As llama.cpp counts: the output is one more than the layers.
        let first = match self.n_gpu_layers {
            Layers::Auto | Layers::All => 0,
            Layers::Last(0) => {
                let why = "--n-gpu-layers 0 leaves nothing to the GPU; --backend cpu needs none";
                return Err(Failure::Usage(why.to_owned()).into());
            }
            Layers::Last(layers) => (count + 1).saturating_sub(layers),
        };
        let split = self.split(machine, count - first.min(count))?;
        let last = split.last().copied().unwrap_or(Device::Gpu(0));
        let mut placement = Placement::all_on(last, count);
        for (place, &device) in placement.layers[first.min(count)..].iter_mut().zip(&split) {
            (place.rest, place.experts) = (device, device);
        }
        // A token reads one row of it, if it is not the head too.
        if !anatomy.is_tied() {
            placement.embedding = Device::Ram;
        }
        let in_ram = if self.cpu_moe {
            count
        } else {
            self.n_cpu_moe.unwrap_or(0)
        };
        for (index, place) in placement.layers.iter_mut().enumerate() {
            if index < first {
                place.rest = Device::Ram;
            }
            if index < first || index < in_ram {
                place.experts = Device::Ram;
            }
        }
        for name in opened.tensor_names() {
            let mut rules = self.override_tensor.iter();
            let found = rules.find(|rule| rule.names.is_match(name));
            if let Some(Device::Gpu(gpu)) = found.map(|rule| rule.device)
                && gpu >= machine.gpus.len()
            {
                let count = machine.gpus.len();
                let why = format!("--override-tensor names GPU {gpu}, and {count} are used");
                return Err(Failure::Usage(why).into());
            }
            if let (Some(rule), Some(part)) = (found, place_of(name, config)) {
                move_to(&mut placement, part, rule.device);
            }
        }
        // Who routes computes, unless the experts are in RAM.
        for (index, place) in placement.layers.iter_mut().enumerate() {
            if place.experts != place.rest && place.experts != Device::Ram {
                if !self.override_tensor.is_empty() {
                    notes.push(format!(
                        "note: the experts of layer {index} go where the rest of it does"
                    ));
                }
                place.experts = place.rest;
            }
        }
        Ok(Some(placement))
    }

    /// The GPU of each of the last `layers` layers, in order.
    fn split(&self, machine: &Machine, layers: usize) -> anyhow::Result<Vec<Device>> {
        let gpus = machine.gpus.len();
        let shares: Vec<f64> = match self.tensor_split.as_slice() {
            [] => machine.gpus.iter().map(|gpu| gpu.free as f64).collect(),
            shares if shares.len() == gpus && shares.iter().sum::<f64>() > 0.0 => shares.to_vec(),
            shares => {
                let why = format!(
                    "--tensor-split has {} shares for {gpus} GPUs; give one for each, of which not all are 0",
                    shares.len()
                );
                return Err(Failure::Usage(why).into());
            }
        };
        let all: f64 = shares.iter().sum();
        let of_layer = |layer: usize| {
            let middle = (layer as f64 + 0.5) / layers as f64 * all;
            let mut before = 0.0;
            let gpu = shares.iter().position(|share| {
                before += share;
                middle < before
            });
            Device::Gpu(gpu.unwrap_or(gpus.saturating_sub(1)))
        };
        Ok((0..layers).map(of_layer).collect())
    }
}

/// This machine with these GPUs, as far as it matters for where a model goes.
fn machine_with(gpus: &[gpu::Gpu], threads: usize) -> anyhow::Result<Machine> {
    let described = |gpu: &gpu::Gpu| -> anyhow::Result<Gpu> {
        let (free, total) = gpu.driver().memory()?;
        let name = &gpu.driver().device().name;
        let known = gpus::find(name).map(|known| known.gpu(name));
        Ok(Gpu {
            total: total as u64,
            // The driver has what it takes already, and plans count it.
            free: free as u64 + GPU_CONTEXT_BYTES,
            ..known.unwrap_or_else(|| gpus::usual(name))
        })
    };
    // A system that does not tell is trusted to have enough.
    let ram = Ram::look();
    let host = Host {
        name: String::new(),
        threads,
        total: ram.as_ref().map_or(PLENTY, Ram::total),
        free: ram.as_ref().map_or(PLENTY, |ram| ram.free),
        bandwidth: machine::read_bandwidth(threads)?,
        macs: machine::peak_macs(threads),
    };
    Ok(Machine {
        gpus: gpus.iter().map(described).collect::<Result<_, _>>()?,
        host,
    })
}

/// Sends a part of the model to a device.
fn move_to(placement: &mut Placement, (block, piece): (Block, Piece), device: Device) {
    match (block, piece) {
        (Block::Layer(layer), piece) => {
            if let Some(place) = placement.layers.get_mut(layer) {
                match piece {
                    Piece::Experts => place.experts = device,
                    _ => place.rest = device,
                }
            }
        }
        (Block::Mtp, _) => placement.mtp = device,
        (Block::Vision, _) => {}
        (Block::Model, Piece::Embedding) => placement.embedding = device,
        (Block::Model, _) => placement.head = device,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use engine::plan::LayerPlace;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        placement: PlacementArgs,
        #[command(flatten)]
        fit: FitArgs,
    }

    /// With GPUs of so much memory.
    fn machine(vram: &[u64]) -> Machine {
        let gpu = |&vram: &u64| Gpu {
            total: vram,
            free: vram,
            ..gpus::usual("a GPU")
        };
        Machine {
            gpus: vram.iter().map(gpu).collect(),
            host: Host {
                name: "a CPU".to_owned(),
                threads: 8,
                total: 32 << 30,
                free: 32 << 30,
                bandwidth: 60e9,
                macs: 2e12,
            },
        }
    }

    /// The placement of the model inside the program, which has four layers.
    fn placed(flags: &str, vram: &[u64]) -> Result<(Placement, Option<usize>), String> {
        let args = std::iter::once("t").chain(flags.split_whitespace());
        let flags = Flags::try_parse_from(args).map_err(|error| error.to_string())?;
        let opened = crate::embedded::open().unwrap();
        let settings = EngineSettings::single(2048);
        let found = flags.placement.find(
            &machine(vram),
            &opened,
            (&settings, Steps::default()),
            flags.fit,
            &mut Vec::new(),
        );
        found.map_err(|error| format!("{error:#}"))
    }

    /// Of each layer: G where it is on the first GPU, H on the second, small with its experts in RAM, r in
    /// RAM.
    fn letters(flags: &str, vram: &[u64]) -> String {
        let (placement, _) = placed(flags, vram).unwrap();
        let letter = |place: &LayerPlace| match (place.rest, place.experts) {
            (Device::Gpu(0), Device::Gpu(0)) => 'G',
            (Device::Gpu(0), Device::Ram) => 'g',
            (Device::Gpu(1), Device::Gpu(1)) => 'H',
            (Device::Gpu(1), Device::Ram) => 'h',
            (Device::Ram, Device::Ram) => 'r',
            places => panic!("{places:?}"),
        };
        placement.layers.iter().map(letter).collect()
    }

    #[test]
    fn flags_mean_what_they_mean_elsewhere() {
        for (flags, expected) in [
            ("", "GGGG"),
            ("--ngl all", "GGGG"),
            ("--ngl 99 --n-cpu-moe 3", "gggG"),
            ("--ngl 5", "GGGG"),
            // The output is one of the three.
            ("--ngl 3", "rrGG"),
            ("--ngl 3 --cpu-moe", "rrgg"),
            ("--ot exps=CPU", "gggg"),
            ("--ot blk\\.[01]\\.ffn_up_exps=CPU,blk\\.2=cpu", "ggrG"),
            ("--ot blk\\.3\\.=GPU,.*=CPU", "rrrG"),
            ("--cpu-moe --ot blk\\.0\\.ffn_.*_exps=CUDA0", "Gggg"),
        ] {
            assert_eq!(letters(flags, &[8 << 30]), expected, "{flags}");
        }
        let (ends, _) = placed("--ot token_embd=CPU,^output=CPU", &[8 << 30]).unwrap();
        assert_eq!((ends.embedding, ends.head), (Device::Ram, Device::Ram));
    }

    #[test]
    fn layers_are_shared_out_over_gpus() {
        let two = [6 << 30, 2 << 30];
        for (flags, expected) in [
            ("--ngl all", "GGGH"),
            ("--ngl all --ts 1,1", "GGHH"),
            ("--ngl 3 --ts 1,1", "rrGH"),
            ("--ngl all --ts 0,1 --n-cpu-moe 2", "hhHH"),
            ("--ts 1,3", "GHHH"),
            // The first rule that finds a tensor counts.
            ("--ngl all --ot blk\\.0\\.=GPU1,exps=CPU", "Hggh"),
        ] {
            assert_eq!(letters(flags, &two), expected, "{flags}");
        }
        // What is planned fills the first.
        assert_eq!(letters("", &two), "GGGG");
        for (flags, says) in [
            ("--ts 1,2,3", "3 shares for 2 GPUs"),
            ("--ts 0,0", "not all are 0"),
            ("--ts=-1,2", "from 0 on"),
            ("--ot exps=GPU2", "GPU 2, and 2 are used"),
            ("--dev vulkan", "is no GPU"),
        ] {
            let error = placed(flags, &two).unwrap_err();
            assert!(error.contains(says), "{flags}: {error}");
        }
    }

    #[test]
    fn flags_that_say_nothing_are_refused() {
        for (flags, says) in [
            ("--ngl many", "a number, all or auto"),
            ("--ngl 0", "--backend cpu"),
            ("--ot exps", "CPU or a GPU"),
            ("--ot exps=Vulkan0", "Vulkan0 is no place"),
            ("--ot (=CPU", "unclosed group"),
            ("--stream-experts 0", "above 0"),
            ("--cpu-moe --n-cpu-moe 2", "cannot be used with"),
        ] {
            let error = placed(flags, &[8 << 30]).unwrap_err();
            assert!(error.contains(says), "{flags}: {error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_loaded() {
        // With nothing else said, what does not fit stays in RAM.
        let (small, _) = placed("--vram-target 0", &[465 << 20]).unwrap();
        assert!(small.layers_on_gpus() < 4, "{small:?}");
        let error = placed("--ngl all --vram-target 0", &[465 << 20]).unwrap_err();
        for part in ["does not fit where", "of GPU 0", "-ngl auto"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(placed("--ngl all --fit off", &[1 << 20]).is_ok());
        // Without a check RAM may be short, and what fits the GPU is there all the same.
        let opened = crate::embedded::open().unwrap();
        let settings = EngineSettings::single(2048);
        let mut machine = machine(&[8 << 30, 8 << 30]);
        machine.host.free = 0;
        let find = |flags: &str| {
            let Flags { placement, fit } = Flags::parse_from(flags.split(' '));
            let wanted = (&settings, Steps::default());
            placement.find(&machine, &opened, wanted, fit, &mut Vec::new())
        };
        assert!(find("t").is_err());
        assert_eq!(find("t --fit off").unwrap().0.layers_on_gpus(), 4);
    }

    #[test]
    fn keys_and_values_of_two_types_are_refused_before_anything_is_loaded() {
        let opened = crate::embedded::open().unwrap();
        let mut settings = EngineSettings::single(2048);
        settings.kv.key = formats::DType::Q8_0;
        for flags in ["t", "t --cpu-moe", "t --fit off"] {
            let Flags { placement, fit } = Flags::parse_from(flags.split(' '));
            let wanted = (&settings, Steps::default());
            let machine = machine(&[8 << 30]);
            let error = placement.find(&machine, &opened, wanted, fit, &mut Vec::new());
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("-ctk and -ctv the same type"),
                "{flags}: {error}"
            );
        }
    }

    #[test]
    fn experts_are_copied_where_that_is_faster() {
        let from = |flags: &str| placed(flags, &[8 << 30]).unwrap().1;
        assert_eq!(from("--cpu-moe --stream-experts 100"), Some(100));
        assert_eq!(from("--cpu-moe --stream-experts off"), None);
        assert_eq!(from("--ngl all"), None, "there are none to copy");
        assert_eq!(from("--ngl all --stream-experts 100"), None);
        assert!(from("--cpu-moe --expert-cache off").is_some());
    }

    #[test]
    fn what_is_asked_for_and_cannot_be_is_told() {
        let opened = crate::embedded::open().unwrap();
        let settings = EngineSettings::single(2048);
        let mut machine = machine(&[8 << 30]);
        let notes = |machine: &Machine, flags: &str| {
            let Flags { placement, fit } = Flags::parse_from(flags.split(' '));
            let (wanted, mut notes) = ((&settings, Steps::default()), Vec::new());
            let found = placement.find(machine, &opened, wanted, fit, &mut notes);
            (found.unwrap().1, notes.join("\n"))
        };
        let (from, told) = notes(&machine, "t --ngl all --stream-experts 9");
        assert!(from.is_none() && told.contains("no layer on a GPU has its experts in RAM"));
        // Without a check nothing is known to have room.
        machine.gpus[0].free = 1 << 20;
        let (from, told) = notes(&machine, "t --cpu-moe --fit off --stream-experts 9");
        assert!(
            from.is_none() && told.contains("no room for a layer's experts"),
            "{told}"
        );
        machine.gpus[0].free = 8 << 30;
        let (from, told) = notes(&machine, "t --cpu-moe --stream-experts 9");
        assert_eq!((from, told.as_str()), (Some(9), ""));
    }

    #[test]
    fn copies_of_experts_get_what_is_left_or_what_is_said() {
        let shares = |flags: &str, vram: u64| {
            let (placement, _) = placed(flags, &[vram]).unwrap();
            let shares = placement.layers.iter().map(|place| place.cached);
            (shares.collect::<Vec<_>>(), placement.stream_rooms)
        };
        assert_eq!(
            shares("--n-cpu-moe 2", 8 << 30),
            (vec![1.0, 1.0, 0.0, 0.0], 0),
            "all of them are there in any case"
        );
        assert_eq!(
            shares("--n-cpu-moe 2 --stream-experts 100", 8 << 30),
            (vec![1.0, 1.0, 0.0, 0.0], 2),
            "it was asked for"
        );
        assert_eq!(
            shares("--cpu-moe --expert-cache off", 8 << 30),
            (vec![0.0; 4], 2)
        );
        assert_eq!(
            shares("--cpu-moe --stream-experts off", 8 << 30),
            (vec![1.0; 4], 0)
        );
        assert_eq!(shares("--ngl all", 8 << 30), (vec![0.0; 4], 0));
        // As much in all as is said, and no more than there is.
        let opened = crate::embedded::open().unwrap();
        let anatomy = opened.anatomy().unwrap();
        let one = anatomy.bytes_in_vram(Block::Layer(0), Piece::Experts);
        let (some, _) = shares(
            &format!("--cpu-moe --expert-cache {}k", one / 1024),
            8 << 30,
        );
        let all: f64 = some.iter().sum();
        assert!((all - 1.0).abs() < 0.01, "{some:?}");
        let error = placed("--expert-cache much", &[8 << 30]).unwrap_err();
        assert!(error.contains("auto or off"), "{error}");
    }
}
