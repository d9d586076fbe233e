//! Results go to stdout, everything else to stderr.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Prints a result, one line or many, with a line end.
///
/// # Errors
/// When stdout cannot be written; a reader that went away ends the program quietly.
pub(crate) fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a part of a result, as it is.
///
/// # Errors
/// As [`result`].
pub(crate) fn part(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints a result as JSON.
///
/// # Errors
/// As [`result`].
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(result(&serde_json::to_string_pretty(value)?)?)
}

/// Tells the user something that is no result. A closed stderr is nobody's problem.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What was told last of each thing.
static TOLD: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Tells the user what is to be known of something, such as a model, unless it is what was told last of it.
pub(crate) fn notes_of(what: &str, notes: Vec<String>) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    for note in news(&mut told, what, notes) {
        self::note(note);
    }
}

/// What of it is to be told: all, or nothing.
fn news<'t>(
    told: &'t mut BTreeMap<String, Vec<String>>,
    what: &str,
    notes: Vec<String>,
) -> &'t [String] {
    if told.get(what) == Some(&notes) {
        return &[];
    }
    let told = told.entry(what.to_owned()).or_default();
    *told = notes;
    told
}

/// Whether to colour what goes to a stream.
pub(crate) fn use_colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A bar on stderr that counts bytes; nothing where stderr is no terminal.
pub(crate) fn byte_progress(total: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}")
            .expect("the template is valid");
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style)
}

/// A bar on stderr that counts steps; nothing where stderr is no terminal.
pub(crate) fn step_progress(what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}").expect("the template is valid");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(style)
        .with_message(what)
}

/// A number of bytes in the unit that suits it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.2} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_told_again_when_they_are_others() {
        let mut told = BTreeMap::new();
        let mut tell = |what: &str, notes: &[&str]| {
            let notes = notes.iter().map(|note| (*note).to_owned()).collect();
            news(&mut told, what, notes).to_vec()
        };
        assert_eq!(tell("a", &["one", "two"]), ["one", "two"]);
        assert_eq!(tell("a", &["one", "two"]).len(), 0);
        assert_eq!(tell("b", &["one", "two"]), ["one", "two"]);
        assert_eq!(tell("a", &["one", "three"]), ["one", "three"]);
        assert_eq!(tell("a", &[]).len(), 0);
        assert_eq!(tell("a", &["one"]), ["one"]);
    }

    #[test]
    fn byte_counts_have_fitting_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(5 << 40), "5120.00 GiB");
    }
}
