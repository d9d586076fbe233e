//! Options of several letters behind one dash, as people know them from other programs: `-ub 512`.
//!
//! A usual parser reads `-ub` as `-u b`. None of the names below can mean that here, so they get
//! their second dash before the parser sees them.

use std::ffi::{OsStr, OsString};

/// Options that no command could mean otherwise.
const EVERYWHERE: [&str; 16] = [
    "-ub", "-np", "-ctk", "-ctv", "-md", "-hf", "-hff", "-hft", "-fit", "-fitt", "-ngl", "-ncmoe",
    "-cmoe", "-ot", "-dev", "-ts",
];
/// Those of `bench`; elsewhere `-pg` would be a prompt.
const IN_BENCH: [&str; 2] = ["-pg", "-npl"];

/// The arguments with two dashes where they are meant.
pub(crate) fn doubled(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let (mut is_bench, mut is_over) = (false, false);
    args.map(|arg| {
        is_bench |= arg == "bench";
        is_over |= arg == "--";
        if !is_over && is_meant(&arg, is_bench) {
            let mut doubled = OsString::from("-");
            doubled.push(arg);
            return doubled;
        }
        arg
    })
    .collect()
}

fn is_meant(arg: &OsStr, is_bench: bool) -> bool {
    let Some(text) = arg.to_str() else {
        return false;
    };
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    EVERYWHERE.contains(&name) || (is_bench && IN_BENCH.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_get_their_second_dash() {
        let check = |typed: &str, expected: &str| {
            let args = typed.split(' ').map(OsString::from);
            let found: Vec<_> = doubled(args)
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            assert_eq!(found.join(" "), expected);
        };
        check("t bench -pg 5,6 -ub 4", "t bench --pg 5,6 --ub 4");
        check(
            "t run -ctk f32 -ctv=q8_0 -pg",
            "t run --ctk f32 --ctv=q8_0 -pg",
        );
        check("t bench -ubx --ub 3 -- -ub", "t bench -ubx --ub 3 -- -ub");
    }
}
