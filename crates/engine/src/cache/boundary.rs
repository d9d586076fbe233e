//! Places in a prompt where the state is worth keeping.

/// A place between two tokens of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// How many of the prompt's tokens lie before it.
    pub offset: usize,
    /// What ends or begins there.
    pub kind: BoundaryKind,
}

/// What ends or begins at a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BoundaryKind {
    /// Behind system message and tools: other conversations begin like this.
    EndOfSystem,
    /// Behind the message of this index. Behind the last one, the next turn goes on from here even
    /// if the template renders the answer differently once it is history.
    EndOfMessage(usize),
    /// Behind the user's message of this index. With the next one, templates drop the thinking
    /// behind this one, and the conversation goes on from here.
    EndOfQuestion(usize),
    /// Where the answer begins, that is at the prompt's end: the same question, asked again.
    StartOfGeneration,
    /// Before a tool call: clients often write the call's arguments differently when they send it
    /// back.
    StartOfToolCall,
    /// Behind the last token of an answer that was run.
    EndOfGeneration,
    /// Where two prompts were seen to part.
    Parting,
    /// Nothing in particular, far from the last place.
    Spaced,
}

impl BoundaryKind {
    /// The message that ends there, if one does.
    pub fn message(self) -> Option<usize> {
        match self {
            Self::EndOfMessage(message) | Self::EndOfQuestion(message) => Some(message),
            Self::EndOfSystem
            | Self::StartOfGeneration
            | Self::StartOfToolCall
            | Self::EndOfGeneration
            | Self::Parting
            | Self::Spaced => None,
        }
    }
}
