//! How long a model takes from its path to the first token: with its file in the system's cache,
//! and without.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::{Engine, OpenedModel};

use super::runner::{prefill, work};
use super::tokens::Tokens;

/// The tokens of the prompt behind which the first token is chosen.
pub(super) const PROMPT: usize = 16;

/// One load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    /// Until the engine was ready.
    pub(super) ready: Duration,
    /// Until the first token was chosen.
    pub(super) first_token: Duration,
}

/// Loads a model with `load`, runs a short prompt, and takes the times.
///
/// # Errors
/// What opening, loading and computing say.
pub(super) fn time(
    load: impl FnOnce() -> anyhow::Result<(OpenedModel, Engine)>,
) -> anyhow::Result<Loaded> {
    let start = Instant::now();
    let (opened, mut engine) = load()?;
    let ready = start.elapsed();
    let sequence = engine.start()?;
    let prompt = Tokens::new(0, opened.config.vocab_size).take(PROMPT);
    let logits = prefill(&mut engine, sequence, &prompt, PROMPT)?;
    let token = engine::argmax(&logits);
    let first_token = start.elapsed();
    std::hint::black_box(engine.step(&[work(sequence, &[token], false)])?);
    Ok(Loaded { ready, first_token })
}

/// Asks the system to forget what it keeps of these files; says how much of them it still keeps.
///
/// # Errors
/// If a file cannot be opened, or the system has no such call.
#[cfg(target_os = "linux")]
pub(super) fn forget(paths: &[PathBuf]) -> std::io::Result<f64> {
    use rustix::fs::{Advice, fadvise};
    let (mut kept, mut asked) = (0, 0);
    for path in paths {
        let file = std::fs::File::open(path)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let size = file.metadata()?.len();
        for index in 0..PROBES {
            let at = (u128::from(size) * u128::from(index) / u128::from(PROBES)) as u64;
            asked += 1;
            kept += u64::from(is_cached(&file, at));
        }
    }
    Ok(kept as f64 / f64::from(asked.max(1)))
}

/// Places of each file that are looked at.
#[cfg(target_os = "linux")]
const PROBES: u64 = 64;

/// Whether a byte can be had without waiting for the disk.
#[cfg(target_os = "linux")]
fn is_cached(file: &std::fs::File, at: u64) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    matches!(
        preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT),
        Ok(1)
    )
}

/// As above, where the system has no such call.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(super) fn forget(_paths: &[PathBuf]) -> std::io::Result<f64> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_cache_can_be_probed_and_dropped() {
        // In the source tree: a folder for temporary files may live in memory, which keeps all.
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        let kept = forget(&[file.path().to_owned()]).unwrap();
        assert!((0.0..=1.0).contains(&kept), "{kept}");
        assert!(forget(&[PathBuf::from("/nonexistent/file")]).is_err());
    }
}
