//! What a figure was measured on: processor, memory, system, and the program itself.

use std::fs;
use std::time::SystemTime;

/// The facts that every result carries. What the system does not tell is `None`.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    /// Physical cores that this process may use.
    pub(crate) cores: usize,
    pub(crate) ram_bytes: Option<u64>,
    /// Such as `Linux 6.1.0 x86_64`.
    pub(crate) system: String,
    /// Whether the kernel may back memory with huge pages: `always`, `madvise` or `never`.
    pub(crate) huge_pages: Option<String>,
}

/// The program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where whoever built it set `TIDEMILL_COMMIT`.
pub(crate) const COMMIT: Option<&str> = option_env!("TIDEMILL_COMMIT");

impl Machine {
    /// Asks the system.
    pub(crate) fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let system = match std::env::consts::OS {
            "linux" => "Linux",
            other => other,
        };
        let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            cpu: field(&cpuinfo, "model name").map(str::to_owned),
            cores: cpu::default_threads(),
            ram_bytes: kilobytes(&meminfo, "MemTotal"),
            system: [system, release.trim(), std::env::consts::ARCH]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
            huge_pages: huge.ok().and_then(|text| chosen(&text).map(str::to_owned)),
        }
    }
}

/// What this process holds of the machine's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessMemory {
    /// The most that was resident at once, pages of mapped files included (`VmHWM`).
    pub(crate) peak_bytes: Option<u64>,
    /// What is resident and belongs to no file now (`RssAnon`).
    pub(crate) private_bytes: Option<u64>,
}

impl ProcessMemory {
    /// Starts the peak anew, so that what measuring itself took does not count. Where the system
    /// does not allow it, the peak stays too high.
    pub(crate) fn forget_peak() {
        let _ = fs::write("/proc/self/clear_refs", "5");
    }

    /// As of now.
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            peak_bytes: kilobytes(&status, "VmHWM"),
            private_bytes: kilobytes(&status, "RssAnon"),
        }
    }
}

/// The value behind `name:` or `name :`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?.strip_suffix("kB")?;
    value.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The word in brackets of `always [madvise] never`.
fn chosen(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

/// The time as `2026-01-31T12:00:00Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01.
fn date(mut day: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn fields_of_proc_files_are_read() {
        let text = "model name\t: AMD EPYC\nMemTotal:       24000 kB\nOdd: 7\n";
        assert_eq!(field(text, "model name"), Some("AMD EPYC"));
        assert_eq!(kilobytes(text, "MemTotal"), Some(24_000 * 1024));
        assert_eq!(kilobytes(text, "Odd"), None);
        assert_eq!(kilobytes(text, "Absent"), None);
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
    }

    #[test]
    fn dates_are_right() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
