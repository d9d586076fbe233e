//! What can be typed, and which command it starts.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::{
    bench, convert, dashes, doctor, exit, foreign, inspect, logits, output, plan, pull, run, serve,
    synth, tokenize,
};

/// Runs the Qwen3.5 family of language models on the machine you have.
#[derive(Debug, Parser)]
#[command(
    name = "tidemill",
    version,
    after_help = exit::HELP,
    max_term_width = 100,
    // What was typed last counts, so that flags can be put behind those of a script or a profile.
    args_override_self = true
)]
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
    /// Serve models over HTTP to the programs that speak OpenAI's, Anthropic's or Ollama's API.
    Serve(Box<serve::ServeArgs>),
    /// Fetch a model of Hugging Face, or what has changed of it.
    Pull(pull::PullArgs),
    /// Write the logits after every token of a prompt.
    Logits(Box<logits::LogitsArgs>),
    /// Measure how fast models run here.
    Bench(Box<bench::BenchArgs>),
    /// Say where a model would go on a machine, and how fast it would be, before it is loaded or fetched.
    Plan(Box<plan::PlanArgs>),
    /// Say what this machine has for models, what is wrong, and how to mend it.
    Doctor(doctor::DoctorArgs),
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
    /// Refuses a list of thread counts where only one can be used.
    fn check(&self, global: &Global) -> anyhow::Result<()> {
        if global.threads.len() > 1 && !matches!(self, Command::Bench(_)) {
            let why = "several numbers of threads are for `bench`; give one with -t";
            return Err(exit::Failure::Usage(why.to_owned()).into());
        }
        Ok(())
    }

    fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Command::Run(args) => run::run(&args, global),
            Command::Serve(args) => serve::run(&args, global),
            Command::Pull(args) => pull::run(&args),
            Command::Logits(args) => logits::run(&args, global),
            Command::Bench(args) => bench::run(&args, global),
            Command::Plan(args) => plan::run(&args, global),
            Command::Doctor(args) => doctor::run(&args, global),
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
    /// How many threads compute (default: as many as the machine lends); `bench` takes a list.
    #[arg(
        short,
        long,
        global = true,
        value_name = "N",
        value_delimiter = ',',
        env = "TIDEMILL_THREADS"
    )]
    threads: Vec<NonZeroUsize>,
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
        self.threads.first().copied().unwrap_or_else(lent)
    }

    /// Every number of threads that was asked for, or the one that is usual.
    pub(crate) fn thread_list(&self) -> Vec<NonZeroUsize> {
        match self.threads.as_slice() {
            [] => vec![self.threads()],
            asked => asked.to_vec(),
        }
    }

    /// Whether a number of threads was asked for.
    pub(crate) fn has_threads(&self) -> bool {
        !self.threads.is_empty()
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

/// What was typed, in the form that the parser reads.
fn typed(tell: impl FnMut(&str)) -> Vec<OsString> {
    foreign::taken_out(dashes::doubled(std::env::args_os()).into_iter(), tell)
}

/// What `serve` was told, with further flags behind what was typed.
///
/// # Errors
/// When a flag makes no sense.
pub(crate) fn serve_with(flags: Vec<OsString>) -> Result<serve::ServeArgs, clap::Error> {
    let mut args = typed(|_| {});
    args.extend(flags);
    match Cli::try_parse_from(args)?.command {
        Command::Serve(args) => Ok(*args),
        _ => Err(clap::Error::new(ErrorKind::InvalidSubcommand)),
    }
}

/// The error with the nearest of all flags that would have been understood, those that mean nothing
/// here among them.
fn suggesting(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let typed = typed.trim_start_matches('-').to_owned();
    let cli = Cli::command();
    let args = std::iter::once(&cli)
        .chain(cli.get_subcommands())
        .flat_map(clap::Command::get_arguments);
    let longs = args.filter_map(clap::Arg::get_long);
    let near = foreign::nearest(&typed, longs.chain(foreign::names()));
    if let (Some(near), ErrorKind::UnknownArgument) = (near, error.kind()) {
        let near = ContextValue::String(format!("--{near}"));
        error.insert(ContextKind::SuggestedArg, near);
    }
    error
}

/// Runs the command that was typed.
pub(crate) fn main() -> ExitCode {
    // For help, version and mistakes clap prints what is to be said and ends with 0 or 2.
    let Cli { command, global } =
        Cli::try_parse_from(typed(output::note)).unwrap_or_else(|error| suggesting(error).exit());
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from(global.log_level))
        .with_writer(std::io::stderr)
        .with_ansi(output::use_colour(std::io::stderr().is_terminal()))
        .with_target(false)
        .init();
    match command.check(&global).and_then(|()| command.run(&global)) {
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

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
