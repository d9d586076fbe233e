//! How much of a model has come: a bar on a terminal, else a line now and then.

use std::io::IsTerminal;

use indicatif::ProgressBar;

use crate::output;

/// In how many steps it is told where there is no terminal.
const STEPS: u64 = 10;

/// Below this much nobody waits for long.
const SMALL: u64 = 64 << 20;

/// What has come of all files together.
pub(super) struct Progress {
    bar: ProgressBar,
    is_seen: bool,
    total: u64,
    /// Of files before the one that comes now.
    before: u64,
    step: u64,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self {
            bar: output::byte_progress(total),
            is_seen: std::io::stderr().is_terminal(),
            total,
            before: 0,
            step: 0,
        }
    }

    /// So many bytes of the file that comes now are there.
    pub(super) fn at(&mut self, bytes: u64) {
        let bytes = self.before.saturating_add(bytes);
        self.bar.set_position(bytes);
        let step = bytes.saturating_mul(STEPS) / self.total.max(1);
        if !self.is_seen && self.total >= SMALL && step > self.step {
            let (bytes, total) = (output::bytes(bytes), output::bytes(self.total));
            output::note(&format!("{bytes} of {total}"));
        }
        self.step = step;
    }

    /// A file of so many bytes is there.
    pub(super) fn file_done(&mut self, bytes: u64) {
        self.before = self.before.saturating_add(bytes);
        self.at(0);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
