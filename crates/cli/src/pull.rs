//! `tidemill pull`: fetches a model of Hugging Face, or what has changed of it.

use clap::Args;

use crate::hub::{self, FetchArgs};
use crate::output;

/// What `tidemill pull` takes.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The model, such as owner/model or owner/model:Q4_K_M. Afterwards `-hf` finds it without asking
    /// anybody.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    fetching: FetchArgs,
}

/// Fetches it, and says where it is. Ctrl-C ends the program at once: what has come stays, and needs no
/// tidying.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    let path = hub::pull(&args.name, &args.fetching)?;
    Ok(output::result(&path.display().to_string())?)
}
