//! The kernels for 64-bit ARM, on the machine that qemu emulates.
//!
//! Lints them, and shows that they are right, not that they are fast. Needs the target's standard library, which
//! rustup has, and a linker and qemu, which are the system's packages; skipped where they cannot be
//! had.

use anyhow::Result;

use crate::{Outcome, cargo, tools};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
const PACKAGES: [&str; 3] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user-static",
];
/// What is emulated: a processor with everything, and one without products of pairs of rows, on which only what
/// depends on that is run again.
const PROCESSORS: [(&str, &[&str]); 2] =
    [("max", &[]), ("cortex-a76", &["isa::", "tests::linear"])];
/// Where Debian's cross compiler has its libraries.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    if cfg!(target_arch = "aarch64") {
        return Ok(Outcome::Skipped(
            "this machine's own tests are these".into(),
        ));
    }
    if !cargo::has_target(TARGET) {
        return Ok(Outcome::Skipped(format!(
            "no standard library, and `rustup target add {TARGET}` did not bring it"
        )));
    }
    let found = || Some((tools::on_path(&[LINKER])?, tools::on_path(&EMULATORS)?));
    let Some((linker, emulator)) = found().or_else(|| {
        tools::install_packages(&PACKAGES).ok()?;
        found()
    }) else {
        return Ok(Outcome::Skipped(format!(
            "no cross compiler and emulator; Debian has them in {}",
            PACKAGES.join(", ")
        )));
    };
    // The lints need no linker: what only this target compiles, no other check reads.
    let lints = [
        "clippy",
        "--locked",
        "--target",
        TARGET,
        "-p",
        "tidemill-cpu",
    ];
    cargo::passes(cargo::command(&lints).args(["--lib", "--tests", "--", "-D", "warnings"]))?;
    let variable = |name: &str| format!("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_{name}");
    for (processor, filters) in PROCESSORS {
        let emulate = format!("{} -L {LIBRARIES} -cpu {processor}", emulator.display());
        let test = ["test", "--locked", "--target", TARGET, "-p", "tidemill-cpu"];
        cargo::passes(
            cargo::command(&test)
                .args(["--lib", "--"])
                .args(filters)
                .env(variable("LINKER"), &linker)
                .env(variable("RUNNER"), emulate)
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                // Emulated, some of them take tens of times as long.
                .env("PROPTEST_CASES", "4"),
        )?;
    }
    Ok(Outcome::Passed("emulated".into()))
}
