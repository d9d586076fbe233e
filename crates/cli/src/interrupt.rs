//! Ctrl-C: the first asks a long command to stop and tidy up, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::exit::{Failure, Status};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Begins to listen. Call it once, from a command that then calls [`check`] often.
///
/// # Errors
/// When the system refuses.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(Status::Interrupted as i32);
        }
    })
    .context("listen for Ctrl-C")
}

/// Fails when Ctrl-C was pressed.
///
/// # Errors
/// [`Failure::Interrupted`]
pub(crate) fn check() -> Result<(), Failure> {
    if REQUESTED.load(Ordering::Relaxed) {
        return Err(Failure::Interrupted);
    }
    Ok(())
}

/// Starts to listen anew, after what was interrupted has ended.
pub(crate) fn forget() {
    REQUESTED.store(false, Ordering::Relaxed);
}
