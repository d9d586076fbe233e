//! Answers on stdout as they come, reasoning dimmed.

use std::io::{self, IsTerminal, Write};

use text::output::OutputEvent;

use crate::output;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Prints an answer as it comes.
pub(super) struct Printer {
    is_silent: bool,
    has_colour: bool,
    /// Whether the last text was dimmed; `None` before the first.
    is_dim: Option<bool>,
}

impl Printer {
    pub(super) fn new() -> Self {
        let has_colour = output::use_colour(io::stdout().is_terminal());
        Self {
            is_silent: false,
            has_colour,
            is_dim: None,
        }
    }

    /// For output that is printed at the end.
    pub(super) fn silent() -> Self {
        Self {
            is_silent: true,
            has_colour: false,
            is_dim: None,
        }
    }

    /// Prints what is new. Without colour, the tags around reasoning and calls tell them from the
    /// answer. A call reads `name({...})`.
    pub(super) fn print(&mut self, event: &OutputEvent) -> io::Result<()> {
        match event {
            OutputEvent::Content(text) => self.write(text, false),
            OutputEvent::Reasoning(text) | OutputEvent::Markup(text) => self.write(text, true),
            OutputEvent::CallStart { name, .. } => self.write(&format!("{name}("), false),
            OutputEvent::CallArguments { json, .. } => self.write(json, false),
            OutputEvent::CallEnd { .. } => self.write(")", false),
        }
    }

    fn write(&mut self, text: &str, is_dim: bool) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.has_colour && self.is_dim != Some(is_dim) {
            let style = if is_dim { DIM } else { PLAIN };
            out.write_all(style.as_bytes())?;
        }
        self.is_dim = Some(is_dim);
        out.write_all(text.as_bytes())?;
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
        self.is_dim = None;
        let mut out = io::stdout().lock();
        out.write_all(end.as_bytes())?;
        out.flush()
    }
}
