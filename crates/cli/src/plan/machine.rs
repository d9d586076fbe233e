//! The machine that is planned for: what flags say of it, and where they say nothing, what is found here.

use std::fs;

use clap::Args;
use cpu::Isa;
use engine::plan::{Gpu, Host, Machine};
use formats::Ram;

use super::gpus::{self, MACS_PER_BYTE, ON_MATRIX_UNITS, USUAL_PCIE};
use crate::args::Global;
use crate::exit::Failure;
use crate::size;

/// A machine in flags. What no flag tells is looked up or measured here.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MachineArgs {
    /// GPUs by name, such as 4090 or 4060ti,4060ti; `none` for none (default: those of this machine).
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) gpu: Vec<String>,
    /// The memory of each GPU, in MiB or with a unit: 16G or 16G,16G; 0 for no GPU.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size::bytes)]
    pub(super) vram: Vec<u64>,
    /// How fast each GPU reads its memory, in 10^9 bytes per second.
    #[arg(long, value_name = "GB/S", value_delimiter = ',', value_parser = rate)]
    pub(super) gpu_bw: Vec<f64>,
    /// f32 operations of each GPU's vector units, in 10^12 per second.
    #[arg(long, value_name = "TFLOPS", value_delimiter = ',', value_parser = rate)]
    pub(super) gpu_tflops: Vec<f64>,
    /// What each GPU's link carries each way, in 10^9 bytes per second.
    #[arg(long, value_name = "GB/S", value_delimiter = ',', value_parser = rate)]
    pub(super) pcie: Vec<f64>,
    /// RAM that can be had, in MiB or with a unit: 64G.
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    pub(super) ram: Option<u64>,
    /// How fast RAM is read, in 10^9 bytes per second (default: measured here, in less than a second).
    #[arg(long, value_name = "GB/S", value_parser = rate)]
    pub(super) ram_bw: Option<f64>,
    /// int8 multiplications of the CPU, in 10^9 per second (default: of this machine's cores).
    #[arg(long, value_name = "GMAC/S", value_parser = rate)]
    pub(super) cpu_gmacs: Option<f64>,
}

/// A positive number.
fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// What is read to measure bandwidth: far more than caches hold.
const MEASURED_BYTES: usize = 256 << 20;
const PASSES: usize = 7;

impl MachineArgs {
    /// The machine, and what is to be said about how it was found.
    ///
    /// # Errors
    /// When flags contradict each other, a GPU's figures are unknown, or RAM cannot be told.
    pub(super) fn machine(&self, global: &Global) -> anyhow::Result<(Machine, Vec<String>)> {
        let mut notes = Vec::new();
        let gpus = self.gpus(&mut notes)?;
        let host = self.host(global, &mut notes)?;
        Ok((Machine { gpus, host }, notes))
    }

    fn gpus(&self, notes: &mut Vec<String>) -> Result<Vec<Gpu>, Failure> {
        let is_none = |name: &String| name.eq_ignore_ascii_case("none");
        if self.gpu.iter().any(is_none)
            || (!self.vram.is_empty() && self.vram.iter().all(|&vram| vram == 0))
        {
            return Ok(Vec::new());
        }
        if self.gpu.is_empty() && self.vram.is_empty() {
            return self.found(notes);
        }
        let count = self.gpu.len().max(self.vram.len());
        let one = |index: usize| {
            let name = pick(&self.gpu, index, count, "--gpu")?;
            let known = name.and_then(|name| gpus::find(name));
            let title = match (name, known) {
                (Some(name), _) => name.clone(),
                (None, _) => format!("GPU {index}"),
            };
            let base = known.map(|known| known.gpu(&title));
            self.described(title, base, index, count, notes)
        };
        (0..count).map(one).collect()
    }

    /// The GPUs of this machine, at the speeds that flags or the table tell.
    fn found(&self, notes: &mut Vec<String>) -> Result<Vec<Gpu>, Failure> {
        let found = match gpus::found() {
            Ok(found) => found,
            Err(why) => {
                notes.push(format!("no GPU is planned for: {why}"));
                return Ok(Vec::new());
            }
        };
        let count = found.len();
        let one = |(index, found): (usize, gpus::Found)| {
            let vram = pick(&self.vram, index, count, "--vram")?;
            let memory = found.memory.or(vram.map(|&vram| (vram, vram)));
            let Some((total, free)) = memory else {
                notes.push(format!(
                    "{} is not planned for: it does not tell its memory; give --vram",
                    found.name
                ));
                return Ok(None);
            };
            let base = gpus::find(&found.name).map(|known| Gpu {
                total,
                free,
                pcie: found.pcie.unwrap_or(USUAL_PCIE),
                ..known.gpu(&found.name)
            });
            let base = base.or_else(|| {
                let bandwidth = pick(&self.gpu_bw, index, count, "--gpu-bw").ok()??;
                Some(Gpu {
                    name: found.name.clone(),
                    total,
                    free,
                    bandwidth: bandwidth * 1e9,
                    macs: bandwidth * 1e9 * MACS_PER_BYTE,
                    matrix_macs: bandwidth * 1e9 * MACS_PER_BYTE * ON_MATRIX_UNITS,
                    pcie: found.pcie.unwrap_or(USUAL_PCIE),
                })
            });
            self.described(found.name, base, index, count, notes)
                .map(Some)
        };
        let gpus = found.into_iter().enumerate().map(one);
        let gpus: Result<Vec<Option<Gpu>>, Failure> = gpus.collect();
        Ok(gpus?.into_iter().flatten().collect())
    }

    /// A GPU with what flags say of it in place of what is known.
    fn described(
        &self,
        name: String,
        base: Option<Gpu>,
        index: usize,
        count: usize,
        notes: &mut Vec<String>,
    ) -> Result<Gpu, Failure> {
        let vram = pick(&self.vram, index, count, "--vram")?.copied();
        let bandwidth = pick(&self.gpu_bw, index, count, "--gpu-bw")?.map(|rate| rate * 1e9);
        let tflops = pick(&self.gpu_tflops, index, count, "--gpu-tflops")?;
        let macs = tflops.map(|tflops| tflops * 1e12);
        let pcie = pick(&self.pcie, index, count, "--pcie")?.map(|rate| rate * 1e9);
        let unknown = |what: &str| {
            let why = format!("{name}: nothing is known of it here; give {what}");
            Failure::Usage(why)
        };
        let base = match (base, vram, bandwidth) {
            (Some(base), ..) => base,
            (None, Some(vram), Some(bandwidth)) => {
                if macs.is_none() {
                    let tflops = bandwidth * MACS_PER_BYTE / 1e12;
                    notes.push(format!(
                        "{name}: {tflops:.0} x 10^12 f32 operations a second are assumed; --gpu-tflops tells"
                    ));
                }
                Gpu {
                    name,
                    total: vram,
                    free: vram,
                    bandwidth,
                    macs: bandwidth * MACS_PER_BYTE,
                    matrix_macs: macs.unwrap_or(bandwidth * MACS_PER_BYTE) * ON_MATRIX_UNITS,
                    pcie: USUAL_PCIE,
                }
            }
            (None, None, _) => return Err(unknown("--vram and --gpu-bw")),
            (None, _, None) => return Err(unknown("--gpu-bw, such as 960 (10^9 bytes a second)")),
        };
        Ok(Gpu {
            total: vram.unwrap_or(base.total),
            free: vram.unwrap_or(base.free),
            bandwidth: bandwidth.unwrap_or(base.bandwidth),
            macs: macs.unwrap_or(base.macs),
            pcie: pcie.unwrap_or(base.pcie),
            ..base
        })
    }

    fn host(&self, global: &Global, notes: &mut Vec<String>) -> anyhow::Result<Host> {
        let memory = match self.ram {
            Some(ram) => Some((ram, ram)),
            None => Ram::look().map(|memory| (memory.total(), memory.free)),
        };
        let Some((total, free)) = memory else {
            let why = "this system does not tell how much RAM can be had; give --ram, such as 64G";
            return Err(Failure::Usage(why.to_owned()).into());
        };
        let threads = global.threads().get();
        let bandwidth = match self.ram_bw {
            Some(rate) => rate * 1e9,
            None => {
                let measured = read_bandwidth(threads)?;
                notes.push(format!(
                    "RAM: {:.1} x 10^9 bytes a second, the best of {PASSES} passes here; --ram-bw tells \
                     another machine's",
                    measured / 1e9
                ));
                measured
            }
        };
        let macs = self.cpu_gmacs.map(|rate| rate * 1e9);
        let macs = macs.unwrap_or_else(|| {
            let own = peak_macs(threads);
            if self.ram.is_some() || self.ram_bw.is_some() {
                notes.push(format!(
                    "the processor is taken to be this one, with {:.0} x 10^9 int8 multiplications a second; \
                     --cpu-gmacs tells another's",
                    own / 1e9
                ));
            }
            own
        });
        Ok(Host {
            name: cpu_name().unwrap_or_else(|| "CPU".to_owned()),
            threads,
            total,
            free,
            bandwidth,
            macs,
        })
    }
}

/// The value for one of several GPUs: its own, or the only one.
fn pick<'v, T>(
    values: &'v [T],
    index: usize,
    count: usize,
    flag: &str,
) -> Result<Option<&'v T>, Failure> {
    match values {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several if several.len() == count => Ok(several.get(index)),
        several => Err(Failure::Usage(format!(
            "{flag} has {} values for {count} GPUs; give one, or one for each",
            several.len()
        ))),
    }
}

/// Bytes per second, as all threads read them.
///
/// # Errors
/// When there is no memory to read.
pub(crate) fn read_bandwidth(threads: usize) -> std::io::Result<f64> {
    let pool = cpu::Pool::new(threads);
    Ok(cpu::bandwidth::measure_read(&pool, MEASURED_BYTES, PASSES)?.best)
}

/// What the processor is called.
pub(crate) fn cpu_name() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    field(&info, "model name").map(str::to_owned)
}

/// int8 multiplications per second of so many threads, each on a core of its own.
pub(crate) fn peak_macs(threads: usize) -> f64 {
    threads as f64 * clock() * macs_per_cycle(Isa::detect())
}

/// Of one core: what AVX-512 does was measured on Zen 4, others by how they compare with it.
fn macs_per_cycle(isa: Isa) -> f64 {
    match isa {
        Isa::Avx512 | Isa::AvxVnni => 64.0,
        // Prefill ran at 237 tokens a second instead of 428 on the same cores.
        Isa::Avx2 => 35.0,
        Isa::Neon => 32.0,
        // By the instructions of the kernels' loops, 101 instead of 135: neither has been timed.
        Isa::NeonI8mm => 43.0,
        Isa::Scalar => 2.0,
    }
}

/// Cycles per second, where the system tells; a usual number elsewhere.
fn clock() -> f64 {
    let folder = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq";
    let kilohertz = fs::read_to_string(folder).ok();
    let kilohertz = kilohertz.and_then(|text| text.trim().parse::<f64>().ok());
    let megahertz = || {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        field(&info, "cpu MHz")?.parse::<f64>().ok()
    };
    kilohertz
        .map(|rate| rate * 1e3)
        .or_else(|| megahertz().map(|rate| rate * 1e6))
        .filter(|rate| (5e8..1e10).contains(rate))
        .unwrap_or(3.5e9)
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(args: &MachineArgs) -> Result<Vec<Gpu>, String> {
        args.gpus(&mut Vec::new())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn gpus_are_named_or_described() {
        let named = MachineArgs {
            gpu: vec!["4090".to_owned()],
            ..MachineArgs::default()
        };
        let found = gpus(&named).unwrap();
        assert_eq!((found[0].total, found[0].bandwidth), (24 << 30, 1008e9));
        let described = MachineArgs {
            vram: vec![16 << 30, 12 << 30],
            gpu_bw: vec![960.0, 504.0],
            pcie: vec![32.0],
            ..MachineArgs::default()
        };
        let found = gpus(&described).unwrap();
        assert_eq!(found[1].free, 12 << 30);
        assert_eq!((found[1].bandwidth, found[1].pcie), (504e9, 32e9));
        let none = MachineArgs {
            vram: vec![0],
            ..MachineArgs::default()
        };
        assert_eq!(gpus(&none), Ok(Vec::new()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |args: MachineArgs, says: &str| {
            let error = gpus(&args).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        let odd = |vram: &[u64], rates: &[f64]| MachineArgs {
            vram: vram.to_vec(),
            gpu_bw: rates.to_vec(),
            ..MachineArgs::default()
        };
        check(odd(&[16 << 30], &[]), "--gpu-bw");
        check(odd(&[1, 2, 3], &[1.0, 2.0]), "2 values for 3 GPUs");
        let unknown = MachineArgs {
            gpu: vec!["mystery".to_owned()],
            ..MachineArgs::default()
        };
        check(unknown, "mystery: nothing is known");
    }
}
