//! What can be typed, and which command it starts.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::{convert, exit, inspect, logits, output, run, synth, tokenize};

/// Runs the Qwen3.5 family of language models on the machine you have.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// One line here, one in [`Command::run`] and a file make a command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Talk to a model: answer one prompt, or hold a conversation.
    Run(Box<run::RunArgs>),
    /// Write the logits after every token of a prompt.
    Logits(logits::LogitsArgs),
    /// Show what is in a model file, and what is wrong with it.
    Inspect(inspect::InspectArgs),
    /// Turn text into token ids, or ids into text.
    Tokenize(tokenize::TokenizeArgs),
    /// Write a model of random weights with the true shapes of a family member.
    Synth(synth::SynthArgs),
    /// Turn a Hugging Face checkpoint into a GGUF file.
    Convert(convert::ConvertArgs),
}

impl Command {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Command::Run(args) => run::run(&args, global),
            Command::Logits(args) => logits::run(&args, global),
            Command::Inspect(args) => inspect::run(&args),
            Command::Tokenize(args) => tokenize::run(&args),
            Command::Synth(args) => synth::run(&args, global),
            Command::Convert(args) => convert::run(&args, global),
        }
    }
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How many threads compute (default: as many as the machine lends).
    #[arg(short, long, global = true, value_name = "N", env = "TIDEMILL_THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// How much to say on stderr.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "TIDEMILL_LOG",
        default_value = "warn"
    )]
    log_level: LogLevel,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl Global {
    /// How many threads to compute with.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let lent = || NonZeroUsize::new(cpu::default_threads()).unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(lent)
    }

    /// Starts the threads for coarse work (encoding, generating). Call it once.
    ///
    /// # Errors
    /// When the system has no threads left.
    pub(crate) fn start_threads(&self) -> anyhow::Result<()> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads().get())
            .build_global()
            .context("start the threads")
    }
}

/// Runs the command that was typed.
pub(crate) fn main() -> ExitCode {
    // For help, version and mistakes clap prints what is to be said and ends with 0 or 2.
    let Cli { command, global } = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(global.log_level))
        .with_writer(std::io::stderr)
        .with_ansi(output::use_colour(std::io::stderr().is_terminal()))
        .with_target(false)
        .init();
    match command.run(&global) {
        Ok(()) => exit::Status::Done.into(),
        Err(error) => {
            let status = exit::Status::of(&error);
            match status {
                exit::Status::Done => {}
                exit::Status::Interrupted => output::note("interrupted"),
                _ => output::note(&format!("error: {error:#}")),
            }
            status.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
