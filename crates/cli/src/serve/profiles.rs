//! Files of profiles: names, and the flags that differ for each.
//!
//! The form is that of llama.cpp's presets, so that these can be read too:
//!
//! ```ini
//! [*]
//! ctx-size = 32768
//!
//! [coder]
//! model = models/Qwen3.5-35B-A3B-Q4_K_M.gguf
//! preset = coding
//! client-sampling = not-greedy
//! ```

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use clap::{ArgAction, Args, Command};

use super::ServedArgs;
use crate::exit::Failure;
use crate::output;

/// A profile as it is written: its name, and flags as they would be typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) flags: Vec<OsString>,
}

/// What llama.cpp's presets say beside flags.
const OTHERS: [&str; 3] = ["version", "load-on-startup", "stop-timeout"];

/// Reads a file of profiles, those of `[*]` put before each one's own.
///
/// # Errors
/// When it cannot be read, or a line makes no sense.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Section>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the profiles in {}", path.display()))?;
    parse(&text).map_err(|why| {
        let why = format!("{}: {why}", path.display());
        Failure::Usage(why).into()
    })
}

fn parse(text: &str) -> Result<Vec<Section>, String> {
    let known = ServedArgs::augment_args(Command::new("profile"));
    let mut shared: Vec<OsString> = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut is_shared = true;
    for (number, line) in text.lines().enumerate() {
        let at = |why: String| format!("line {}: {why}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            is_shared = name == "*";
            if name.is_empty() || sections.iter().any(|section| section.name == name) {
                return Err(at(format!(
                    "[{name}] has no name, or one that was there before"
                )));
            }
            if !is_shared {
                let name = name.to_owned();
                let flags = Vec::new();
                sections.push(Section { name, flags });
            }
            continue;
        }
        let flags = flag(line, &known).map_err(at)?;
        match sections.last_mut().filter(|_| !is_shared) {
            Some(section) => section.flags.extend(flags),
            None => shared.extend(flags),
        }
    }
    for section in &mut sections {
        section.flags.splice(0..0, shared.iter().cloned());
    }
    Ok(sections)
}

/// The flag of a line such as `ctx-size = 4096`, as it would be typed.
fn flag(line: &str, known: &Command) -> Result<Vec<OsString>, String> {
    let (key, value) = line.split_once('=').unwrap_or((line, "true"));
    let (key, value) = (key.trim().trim_start_matches('-'), value.trim());
    if OTHERS.contains(&key) {
        return Ok(Vec::new());
    }
    if let Some(ignored) = crate::foreign::find(key) {
        output::note(&format!("note: {key}: {}; ignored", ignored.why));
        return Ok(Vec::new());
    }
    let is_named = |arg: &&clap::Arg| {
        let mut longs = arg.get_long_and_visible_aliases().into_iter().flatten();
        let hidden = arg.get_all_aliases().into_iter().flatten();
        let short = arg.get_short().map(String::from);
        longs.any(|long| long == key)
            || hidden.into_iter().any(|alias| alias == key)
            || short.is_some_and(|short| short == key)
    };
    let Some(arg) = known.get_arguments().find(is_named) else {
        let longs = known.get_arguments().filter_map(clap::Arg::get_long);
        let near = crate::foreign::nearest(key, longs);
        let near = near.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
        return Err(format!("a profile cannot say {key:?}{near}"));
    };
    let long = format!("--{}", arg.get_long().unwrap_or(key));
    if arg.get_action().takes_values() {
        // In one piece, so that values may begin with a dash.
        return Ok(vec![format!("{long}={value}").into()]);
    }
    debug_assert!(matches!(arg.get_action(), ArgAction::SetTrue));
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(vec![long.into()]),
        "false" | "off" | "no" | "0" => Ok(Vec::new()),
        _ => Err(format!("{key} is on or off, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<&[(&str, &str)], &str>) {
        let found = parse(text).map(|sections| {
            let typed = |section: Section| {
                let flags: Vec<_> = section.flags.iter().map(|f| f.to_string_lossy()).collect();
                (section.name, flags.join(" "))
            };
            sections.into_iter().map(typed).collect::<Vec<_>>()
        });
        match (found, want) {
            (Ok(found), Ok(want)) => {
                let found: Vec<(&str, &str)> = found
                    .iter()
                    .map(|(name, flags)| (name.as_str(), flags.as_str()))
                    .collect();
                assert_eq!(found, want, "{text}");
            }
            (Err(found), Err(want)) => assert!(found.contains(want), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn profiles_are_flags_under_names() {
        check("", Ok(&[]));
        check(
            "; a comment\nversion = 1\n[*]\nc = 4096\n\n[a]\nmodel=/m/x.gguf\ntemp = 0.5\n[b]\nmlock = true\nno-mmap = off\n",
            Ok(&[
                ("a", "--ctx-size=4096 --model=/m/x.gguf --temperature=0.5"),
                ("b", "--ctx-size=4096 --mlock"),
            ]),
        );
        check(
            "[a]\nsplit-mode = layer\n--top-k = 5",
            Ok(&[("a", "--top-k=5")]),
        );
        check("[a]\nlogit-bias = 5-1", Ok(&[("a", "--logit-bias=5-1")]));
        check("[a]\n[a]", Err("line 2"));
        check("[a]\nctx-sizes = 5", Err("did you mean \"ctx-size\""));
        check("[a]\nport = 5", Err("cannot say \"port\""));
        check("[a]\nmlock = maybe", Err("on or off"));
    }
}
