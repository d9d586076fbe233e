//! `tidemill doctor`: what this machine has, what of it will be used, what is wrong and how to mend it.

mod gpu;
mod host;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::args::Global;
use crate::output;

/// What `doctor` understands.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The form of the answer.
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    output: Form,
}

/// Forms of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// How good what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Something is slower, or less, than it could be.
    Warning,
    /// Nothing runs.
    Fatal,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    /// What would be better, and how to get there.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            found: found.into(),
            verdict: Verdict::Good,
            mend: None,
        }
    }

    fn note(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            ..Self::good(what, found)
        }
    }

    fn warning(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            mend: Some(mend.into()),
            ..Self::good(what, found)
        }
    }

    fn fatal(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fatal,
            ..Self::warning(what, found, mend)
        }
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    findings: Vec<Finding>,
    /// What models are computed by.
    will_use: String,
    runs: bool,
}

/// Looks, and says what was found. Only what keeps models from running is a failure.
pub(crate) fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<()> {
    let mut findings = host::findings(global);
    findings.extend(gpu::findings());
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        will_use: host::will_use(global),
        runs: findings
            .iter()
            .all(|finding| finding.verdict != Verdict::Fatal),
        findings,
    };
    match args.output {
        Form::Text => output::result(&text(&report))?,
        Form::Json => output::json(&report)?,
    }
    anyhow::ensure!(
        report.runs,
        "models do not run on this machine; why is said above"
    );
    Ok(())
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("tidemill {}", report.version)];
    let width = report
        .findings
        .iter()
        .map(|finding| finding.what.len())
        .max();
    let width = width.unwrap_or(0);
    for finding in &report.findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok  ",
            Verdict::Note => "note",
            Verdict::Warning => "warn",
            Verdict::Fatal => "FAIL",
        };
        lines.push(format!(
            "{mark}  {:width$}  {}",
            finding.what, finding.found
        ));
        if let Some(mend) = &finding.mend {
            lines.push(format!("      {:width$}  -> {mend}", ""));
        }
    }
    lines.push(format!("\nused: {}", report.will_use));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lined_up_with_what_mends_them() {
        let report = Report {
            version: "1",
            findings: vec![
                Finding::good("RAM", "64 GiB"),
                Finding::warning("huge pages", "never", "allow them"),
            ],
            will_use: "the CPU".to_owned(),
            runs: true,
        };
        let want = "tidemill 1\nok    RAM         64 GiB\nwarn  huge pages  never\n                  \
                    -> allow them\n\nused: the CPU";
        assert_eq!(text(&report), want);
    }
}
