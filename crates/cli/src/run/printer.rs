//! Answers on stdout as they come, reasoning dimmed.

use std::io::{self, IsTerminal, Write};

use text::output::{Part, PartKind};

use crate::output;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Prints the parts of an answer.
pub(super) struct Printer {
    is_silent: bool,
    has_colour: bool,
    last: Option<PartKind>,
}

impl Printer {
    pub(super) fn new() -> Self {
        let has_colour = output::use_colour(io::stdout().is_terminal());
        Self {
            is_silent: false,
            has_colour,
            last: None,
        }
    }

    /// For output that is printed at the end.
    pub(super) fn silent() -> Self {
        Self {
            is_silent: true,
            has_colour: false,
            last: None,
        }
    }

    /// Prints a part. Without colour, the tags around reasoning tell it from the answer.
    pub(super) fn print(&mut self, part: &Part) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.has_colour && self.last != Some(part.kind) {
            let style = if part.kind == PartKind::Answer {
                PLAIN
            } else {
                DIM
            };
            out.write_all(style.as_bytes())?;
        }
        self.last = Some(part.kind);
        out.write_all(part.text.as_bytes())?;
        out.flush()
    }

    /// Ends an answer with a line end.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let end = if self.has_colour {
            format!("{PLAIN}\n")
        } else {
            "\n".to_owned()
        };
        self.last = None;
        let mut out = io::stdout().lock();
        out.write_all(end.as_bytes())?;
        out.flush()
    }
}
