//! Runs checks one after the other and sums them up in a table.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{CHECKS, Check, Outcome, say};

/// Runs the chosen checks, all of them even when one fails.
pub(crate) fn run(options: &[&str]) -> Result<ExitCode> {
    let chosen = choose(options)?;
    let mut rows = Vec::new();
    let mut failed = false;
    for check in chosen {
        say(&format!("\n=== {}: {}", check.name, check.about));
        let start = Instant::now();
        let (word, note) = match (check.run)() {
            Ok(Outcome::Passed(note)) => ("ok", note),
            Ok(Outcome::Skipped(why)) => {
                say(&format!("SKIPPED: {why}"));
                ("SKIPPED", why)
            }
            Err(error) => {
                failed = true;
                say(&format!("FAILED: {error:#}"));
                ("FAILED", first_line(&format!("{error:#}")))
            }
        };
        rows.push(format!(
            "{:<8} {word:<8} {:>7.1} s  {note}",
            check.name,
            start.elapsed().as_secs_f64()
        ));
    }
    say("\n=== summary");
    for row in rows {
        say(&row);
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn choose(options: &[&str]) -> Result<Vec<&'static Check>> {
    let mut only = Vec::new();
    let mut skip = Vec::new();
    let mut words = options.iter();
    while let Some(&option) = words.next() {
        let list = match option {
            "--only" => &mut only,
            "--skip" => &mut skip,
            _ => bail!("`ci` takes --skip CHECK and --only CHECK, not `{option}`"),
        };
        match words.next() {
            Some(&name) if CHECKS.iter().any(|check| check.name == name) => list.push(name),
            other => bail!("{option} needs the name of a check, not {other:?}"),
        }
    }
    Ok(CHECKS
        .iter()
        .filter(|check| only.is_empty() || only.contains(&check.name))
        .filter(|check| !skip.contains(&check.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_chosen_by_name() {
        let names = |options: &[&str]| -> Vec<&str> {
            choose(options).unwrap().iter().map(|c| c.name).collect()
        };
        assert_eq!(names(&[]).len(), CHECKS.len());
        assert_eq!(names(&["--only", "fmt"]), ["fmt"]);
        assert!(!names(&["--skip", "test"]).contains(&"test"));
        assert!(choose(&["--skip", "nothing"]).is_err());
        assert!(choose(&["--skip"]).is_err());
    }
}
