//! Flags of llama.cpp's programs that mean nothing here: they are taken, said to be, and passed over.
//!
//! What means something is an option of its own, under llama.cpp's name as well as ours.

use std::ffi::OsString;

/// Whether a value follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// `on`, `off` or `auto`, or nothing.
    Switch,
}

/// A flag that means nothing here.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// Without dashes.
    names: &'static [&'static str],
    takes: Takes,
    /// Why it means nothing.
    pub(crate) why: &'static str,
}

const NO_GPU: &str = "GPUs share a model by layers, with --backend gpu";
const IMAGES: &str = "images cannot be read yet";
const THREADS: &str = "prompts are read by as many threads as answers are made (--threads)";
const MEASURED: &str = "is decided by what is measured";
const ALWAYS: &str = "templates are always used";
const NEVER_SHIFTS: &str = "contexts are never shifted";
const HAS_IT: &str = "it is so already";

const FOREIGN: [Foreign; 23] = [
    foreign(&["threads-batch", "tb"], Takes::Value, THREADS),
    foreign(
        &["flash-attn", "fa"],
        Takes::Switch,
        "attention has one form",
    ),
    foreign(&["fit-ctx", "fitc"], Takes::Value, NO_GPU),
    foreign(&["split-mode", "sm"], Takes::Value, NO_GPU),
    foreign(&["main-gpu", "mg"], Takes::Value, NO_GPU),
    foreign(&["no-kv-offload", "nkvo"], Takes::Nothing, NO_GPU),
    foreign(
        &["op-offload", "no-op-offload"],
        Takes::Nothing,
        "--stream-experts says when weights in RAM are copied to a GPU",
    ),
    foreign(&["kv-offload"], Takes::Nothing, NO_GPU),
    foreign(&["jinja"], Takes::Nothing, ALWAYS),
    foreign(&["no-jinja"], Takes::Nothing, ALWAYS),
    foreign(&["mmproj", "mm"], Takes::Value, IMAGES),
    foreign(&["mmproj-url", "mmu"], Takes::Value, IMAGES),
    foreign(&["no-mmproj", "mmproj-auto"], Takes::Nothing, IMAGES),
    foreign(
        &["no-context-shift", "context-shift"],
        Takes::Nothing,
        NEVER_SHIFTS,
    ),
    foreign(
        &["cache-reuse"],
        Takes::Value,
        "every prompt is looked for in the cache",
    ),
    foreign(&["cont-batching", "cb"], Takes::Nothing, HAS_IT),
    foreign(&["kv-unified", "kvu"], Takes::Nothing, HAS_IT),
    foreign(&["metrics", "slots"], Takes::Nothing, HAS_IT),
    foreign(&["props"], Takes::Nothing, HAS_IT),
    foreign(
        &["no-warmup", "warmup"],
        Takes::Nothing,
        "nothing is warmed up",
    ),
    foreign(
        &["numa"],
        Takes::Value,
        "weights are spread over the memory of all CPUs it may use; numactl is obeyed",
    ),
    foreign(&["prio"], Takes::Value, "priorities are the system's"),
    foreign(&["poll"], Takes::Value, MEASURED),
];

const fn foreign(names: &'static [&'static str], takes: Takes, why: &'static str) -> Foreign {
    Foreign { names, takes, why }
}

/// The flag of this name, which has no dashes.
pub(crate) fn find(name: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|flag| flag.names.contains(&name))
}

/// All their long names, without dashes.
pub(crate) fn names<'n>() -> impl Iterator<Item = &'n str> {
    FOREIGN
        .iter()
        .filter_map(|flag| flag.names.first())
        .copied()
}

/// The arguments without flags that mean nothing, of each of which `tell` gets a note. Only `run` and
/// `serve` are typed as llama.cpp's programs are.
pub(crate) fn taken_out(
    args: impl Iterator<Item = OsString>,
    mut tell: impl FnMut(&str),
) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.peekable();
    let (mut is_meant, mut is_over) = (false, false);
    while let Some(arg) = args.next() {
        is_meant |= arg == "run" || arg == "serve";
        is_over |= arg == "--";
        let text = arg.to_string_lossy().into_owned();
        let found = text
            .strip_prefix('-')
            .filter(|_| is_meant && !is_over)
            .and_then(|name| {
                let name = name.strip_prefix('-').unwrap_or(name);
                let (name, value) = name
                    .split_once('=')
                    .map_or((name, None), |(n, v)| (n, Some(v)));
                Some((find(name)?, value.is_some()))
            });
        let Some((flag, has_value)) = found else {
            kept.push(arg);
            continue;
        };
        let is_value = |next: &OsString| match flag.takes {
            Takes::Nothing => false,
            Takes::Value => true,
            Takes::Switch => ["on", "off", "auto", "0", "1"]
                .iter()
                .any(|word| next == word),
        };
        if !has_value {
            args.next_if(is_value);
        }
        tell(&format!("note: {text}: {}; ignored", flag.why));
    }
    kept
}

/// The name that is most like one that there is not, if any is.
pub(crate) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.map(|known| (distance(name, known), known)).min()?;
    (near.0 <= name.len().max(near.1.len()) / 2).then_some(near.1)
}

/// How many letters have to be changed, put in or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_taken_out() {
        let check = |typed: &str, expected: &str| {
            let args = typed.split(' ').map(OsString::from);
            let found: Vec<_> = taken_out(args, |_| {})
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            assert_eq!(found.join(" "), expected);
        };
        check("t serve -mg 1 -c 5", "t serve -c 5");
        check("t serve --main-gpu=1 -c 5", "t serve -c 5");
        check("t serve -fa -c 5", "t serve -c 5");
        check("t serve -fa on --jinja --slots -c 5", "t serve -c 5");
        check("t run -p x -- -mg 9", "t run -p x -- -mg 9");
        check("t bench -fa 1", "t bench -fa 1");
    }

    #[test]
    fn names_are_unique_and_near_ones_are_found() {
        let names: Vec<&str> = FOREIGN
            .iter()
            .flat_map(|flag| flag.names)
            .copied()
            .collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[at + 1..].contains(name), "{name}");
        }
        let check = |name: &str, want| {
            let names = ["ctx-size", "cache-ram", "temp"];
            assert_eq!(nearest(name, names.into_iter()), want, "{name}");
        };
        check("ctx_size", Some("ctx-size"));
        check("tmp", Some("temp"));
        check("absolutely-not", None);
    }
}
