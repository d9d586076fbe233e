//! GPUs: what their makers say of them, and which are in this machine.
//!
//! The driver is asked by way of its own program, `nvidia-smi`: it tells name, memory and link, and not
//! how fast the memory is read.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::plan::Gpu;

/// Makers' figures of a GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// In small letters, as its name has it.
    name: &'static str,
    /// 2^30 bytes.
    vram_gib: f64,
    /// 10^9 bytes per second.
    bandwidth: f64,
    /// 10^12 f32 operations per second of its vector units. They do as many int8 multiplications (dp4a:
    /// four at a time, at half the rate).
    tflops: f64,
    /// 10^12 int8 operations per second of its matrix units, without sparsity; a multiplication is two.
    tops: f64,
    /// 10^9 bytes per second over its link, each way.
    pcie: f64,
}

const fn known(
    name: &'static str,
    vram_gib: f64,
    bandwidth: f64,
    tflops: f64,
    tops: f64,
    pcie: f64,
) -> Known {
    Known {
        name,
        vram_gib,
        bandwidth,
        tflops,
        tops,
        pcie,
    }
}

/// From data sheets and architecture papers; of the A100 twice the f32 operations, for its dp4a.
const TABLE: [Known; 27] = [
    known("rtx 3060", 12.0, 360.0, 12.7, 102.0, 31.5),
    known("rtx 3080", 10.0, 760.0, 29.8, 238.0, 31.5),
    known("rtx 3090", 24.0, 936.0, 35.6, 284.0, 31.5),
    known("rtx 3090 ti", 24.0, 1008.0, 40.0, 320.0, 31.5),
    known("rtx 4060", 8.0, 272.0, 15.1, 121.0, 15.8),
    known("rtx 4060 ti", 16.0, 288.0, 22.1, 177.0, 15.8),
    known("rtx 4070", 12.0, 504.0, 29.1, 233.0, 31.5),
    known("rtx 4070 super", 12.0, 504.0, 35.5, 284.0, 31.5),
    known("rtx 4070 ti", 12.0, 504.0, 40.1, 321.0, 31.5),
    known("rtx 4070 ti super", 16.0, 672.0, 44.1, 353.0, 31.5),
    known("rtx 4080", 16.0, 717.0, 48.7, 390.0, 31.5),
    known("rtx 4080 super", 16.0, 736.0, 52.2, 418.0, 31.5),
    known("rtx 4090", 24.0, 1008.0, 82.6, 661.0, 31.5),
    known("rtx 5060 ti", 16.0, 448.0, 23.7, 190.0, 31.5),
    known("rtx 5070", 12.0, 672.0, 30.9, 247.0, 63.0),
    known("rtx 5070 ti", 16.0, 896.0, 43.9, 352.0, 63.0),
    known("rtx 5080", 16.0, 960.0, 56.3, 450.0, 63.0),
    known("rtx 5090", 32.0, 1792.0, 104.8, 838.0, 63.0),
    known("rtx a6000", 48.0, 768.0, 38.7, 310.0, 31.5),
    known("rtx 6000 ada", 48.0, 960.0, 91.1, 728.0, 31.5),
    known("rtx pro 6000", 96.0, 1792.0, 125.0, 1008.0, 63.0),
    known("l40s", 48.0, 864.0, 91.6, 733.0, 31.5),
    known("a100", 80.0, 2039.0, 39.0, 624.0, 31.5),
    known("h100 pcie", 80.0, 2000.0, 51.2, 1513.0, 63.0),
    known("h100", 80.0, 3350.0, 66.9, 1979.0, 63.0),
    known("h200", 140.0, 4800.0, 66.9, 1979.0, 63.0),
    known("b200", 180.0, 8000.0, 75.0, 4500.0, 63.0),
];

/// Of a GPU that is not in the table: int8 multiplications per byte that it reads, about as consumers' cards
/// have them, and how many times as many on matrix units.
pub(super) const MACS_PER_BYTE: f64 = 45.0;
/// See [`MACS_PER_BYTE`].
pub(super) const ON_MATRIX_UNITS: f64 = 4.0;

/// The figures of the GPU that a name means: the longest that is in it. One that is another card of the same
/// number (`Ti`, `Laptop`), or has another memory, is none of these.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    let words = words(name);
    let found = TABLE.iter().filter_map(|known| {
        let own = self::words(known.name);
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let own = own.strip_prefix(&["rtx"]).unwrap_or(&own);
        let at = words.windows(own.len()).position(|part| part == own)?;
        let rest = &words[at + own.len()..];
        let is_another = rest
            .first()
            .is_some_and(|word| OTHERS.contains(&word.as_str()));
        let has_other_memory = rest.windows(2).any(|pair| {
            let gib = pair[0].parse::<f64>().ok().filter(|_| pair[1] == "gb");
            gib.is_some_and(|gib| (gib / known.vram_gib - 1.0).abs() > 0.2)
        });
        (!is_another && !has_other_memory).then_some((own.len(), known))
    });
    found
        .max_by_key(|(words, _)| *words)
        .map(|(_, known)| known)
}

/// What makes another card of a name that it follows.
const OTHERS: [&str; 8] = ["ti", "super", "laptop", "mobile", "max", "d", "ada", "nvl"];

/// The words of a name, and its numbers, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for letter in name.to_ascii_lowercase().chars() {
        let kind = match letter {
            'a'..='z' => Some(false),
            '0'..='9' => Some(true),
            _ => None,
        };
        match words.last_mut().filter(|_| kind == last) {
            Some(word) if kind.is_some() => word.push(letter),
            _ if kind.is_some() => words.push(letter.into()),
            _ => {}
        }
        last = kind;
    }
    words
}

/// A GPU of which nothing is known: slow enough that little is expected of it.
pub(crate) fn usual(name: &str) -> Gpu {
    let bandwidth = 400e9;
    Gpu {
        name: name.to_owned(),
        total: 0,
        free: 0,
        bandwidth,
        macs: bandwidth * MACS_PER_BYTE,
        matrix_macs: bandwidth * MACS_PER_BYTE * ON_MATRIX_UNITS,
        pcie: USUAL_PCIE,
    }
}

/// Links where nothing is known of them: 16 lanes of the fourth generation.
pub(super) const USUAL_PCIE: f64 = 31.5e9;

impl Known {
    /// As a GPU with all of its memory free.
    pub(crate) fn gpu(&self, name: &str) -> Gpu {
        let total = (self.vram_gib * f64::from(1 << 30)) as u64;
        Gpu {
            name: name.to_owned(),
            total,
            free: total,
            bandwidth: self.bandwidth * 1e9,
            macs: self.tflops * 1e12,
            matrix_macs: self.tops / 2.0 * 1e12,
            pcie: self.pcie * 1e9,
        }
    }
}

/// A GPU that the driver names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Bytes: all, and free ones; `None` where it shares the processor's and does not say.
    pub(crate) memory: Option<(u64, u64)>,
    /// Bytes per second over the link that it has now, each way; `None` if it does not say.
    pub(crate) pcie: Option<f64>,
    pub(crate) driver: String,
}

/// What is asked of each.
const QUERY: &str = "--query-gpu=name,memory.total,memory.free,pcie.link.gen.max,\
                     pcie.link.width.max,driver_version";

/// How long the driver may take: it starts itself where nobody used it before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The GPUs of this machine.
///
/// # Errors
/// Why the driver does not tell.
pub(crate) fn found() -> Result<Vec<Found>, String> {
    let mut child = Command::new("nvidia-smi")
        .args([QUERY, "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| "nvidia-smi, a program of NVIDIA's driver, is not there".to_owned())?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("nvidia-smi does not answer".to_owned());
            }
            Err(error) => return Err(format!("nvidia-smi: {error}")),
        }
    };
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        // A few lines, which the pipe holds.
        let _ = out.take(1 << 16).read_to_string(&mut text);
    }
    if !status.success() {
        let line = text.lines().next().unwrap_or("it says nothing");
        return Err(format!("nvidia-smi failed: {line}"));
    }
    Ok(read(&text))
}

/// Reads the driver's lines; those that make no sense are passed over.
fn read(text: &str) -> Vec<Found> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [name, total, free, generation, width, driver] = fields.as_slice() else {
            return None;
        };
        let mib = |text: &str| text.parse::<u64>().ok()?.checked_mul(1 << 20);
        Some(Found {
            name: (*name).to_owned(),
            memory: mib(total).zip(mib(free)),
            pcie: link(generation, width),
            driver: (*driver).to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// What a link carries each way: 0.25 x 10^9 bytes per second and lane in the first generation, about
/// twice as much in each further one.
fn link(generation: &str, width: &str) -> Option<f64> {
    let generation: i32 = generation.parse().ok().filter(|n| (1..=7).contains(n))?;
    let width: f64 = width.parse().ok().filter(|n| (1.0..=16.0).contains(n))?;
    let lane = match generation {
        1 => 0.25,
        2 => 0.5,
        more => 0.985 * f64::from(1 << (more - 3)),
    };
    Some(lane * width * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let check = |name: &str, want: Option<&str>| {
            assert_eq!(find(name).map(|known| known.name), want, "{name}");
        };
        check(
            "NVIDIA GeForce RTX 4070 Ti SUPER",
            Some("rtx 4070 ti super"),
        );
        check("NVIDIA GeForce RTX 4070", Some("rtx 4070"));
        check("NVIDIA H100 80GB HBM3", Some("h100"));
        check("NVIDIA H200", Some("h200"));
        check("5080", Some("rtx 5080"));
        check("rtx-5080", Some("rtx 5080"));
        check("3060ti", None);
        check("4060ti", Some("rtx 4060 ti"));
        check("NVIDIA RTX 6000 Ada Generation", Some("rtx 6000 ada"));
        check(
            "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
            Some("rtx pro 6000"),
        );
        check("NVIDIA A100-SXM4-80GB", Some("a100"));
        for name in [
            "Radeon RX 7900 XTX",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 3080 Ti",
            "NVIDIA A100-SXM4-40GB",
            "NVIDIA GH200 480GB",
            "Quadro RTX 6000",
            "",
        ] {
            check(name, None);
        }
    }

    #[test]
    fn the_drivers_lines_are_read() {
        let text = "NVIDIA GeForce RTX 5080, 16303, 15100, 5, 16, 580.65.06\nodd\n\
                    NVIDIA GB10, [N/A], [N/A], 5, 16, 580.65.06\n";
        let found = read(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].memory, Some((16303 << 20, 15100 << 20)));
        assert_eq!(found[1].memory, None);
        assert_eq!(found[0].pcie.map(f64::round), Some(63_040_000_000.0));
        assert_eq!(link("9", "16"), None);
        assert_eq!(link("4", "x"), None);
    }
}
