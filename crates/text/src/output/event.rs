//! What the parser tells about the model's output.

use std::ops::Range;

/// A step in the reading of the model's output.
///
/// The texts of [`Reasoning`](Self::Reasoning), [`Content`](Self::Content) and
/// [`Markup`](Self::Markup) and the sources of the calls, in the order of the events, are the
/// output itself. Between a call's start and end there are only its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// What the model thinks. Never empty.
    Reasoning(String),
    /// What it answers. Never empty.
    Content(String),
    /// Tags, and white space beside them that belongs to neither side. Never empty.
    Markup(String),
    /// A call begins. From here on it stays a call, whatever follows.
    CallStart {
        /// The calls of an output count from 0.
        index: usize,
        /// The function's name, as the model wrote it.
        name: String,
    },
    /// A piece of the call's arguments. All of them joined are the text of one JSON object.
    CallArguments {
        /// Which call.
        index: usize,
        /// Never empty.
        json: String,
    },
    /// The call is over.
    CallEnd {
        /// Which call.
        index: usize,
        /// Whether it is as the model meant it.
        outcome: CallOutcome,
        /// Where it stands in the output, in bytes: `<function=...>` to `</function>`, or the
        /// JSON object; without the tags around it, which are [`Markup`](Self::Markup).
        source: Range<usize>,
    },
}

/// How a call ended. The arguments are valid JSON in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// As the form has it, or with no more missing than a closing tag or brace.
    Complete,
    /// The output ended inside the call. The last argument may be a part, others may be missing.
    Truncated,
    /// It went wrong after it had begun. The arguments end where it did, and what follows is
    /// content.
    Malformed,
}

/// Why the output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model ended its turn.
    Stopped,
    /// Something else ended it: a limit, a stop text, a client that left.
    Cut,
}

/// Adds an event, joining texts of a kind.
pub(super) fn add(event: OutputEvent, events: &mut Vec<OutputEvent>) {
    use OutputEvent::{CallArguments, Content, Markup, Reasoning};
    match (events.last_mut(), &event) {
        (_, Reasoning(text) | Content(text) | Markup(text)) if text.is_empty() => {}
        (_, CallArguments { json, .. }) if json.is_empty() => {}
        (Some(Reasoning(last)), Reasoning(text))
        | (Some(Content(last)), Content(text))
        | (Some(Markup(last)), Markup(text)) => last.push_str(text),
        (
            Some(CallArguments {
                json: last,
                index: a,
            }),
            CallArguments { json, index: b },
        ) if *a == *b => {
            last.push_str(json);
        }
        _ => events.push(event),
    }
}
