//! One answer in the making.

use std::sync::Arc;

use tensor::StateSnapshot;

use crate::cache::{Boundary, Key};
use crate::checkpoint::HeldPages;
use crate::engine::SequenceId;
use crate::event::Usage;
use crate::request::RequestId;

use super::chooser::Chooser;

/// Names one answer of a request: the others came into being behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// One answer in the making: all its tokens, of which some are in a sequence's memory already.
///
/// Reading a prompt and answering are the same thing, tokens that are not in memory yet; when all
/// are, the next one is chosen.
pub(super) struct Stream {
    pub(super) request: RequestId,
    /// Which of the request's answers.
    pub(super) choice: usize,
    /// Prompt and answer.
    pub(super) tokens: Vec<u32>,
    /// By what prompts are compared, one per token.
    pub(super) keys: Vec<Key>,
    /// How many of these are the prompt.
    pub(super) prompt: usize,
    pub(super) place: Place,
    pub(super) chooser: Chooser,
    /// Its place among all streams: when it came, minus what its priority is worth. The order of
    /// two streams never changes, and only those behind make room for those before.
    pub(super) rank: i64,
    pub(super) priority: i32,
    /// Where its state is to be kept, ascending.
    pub(super) cuts: Vec<Boundary>,
    /// The last step in which it had rows.
    pub(super) served: u64,
    /// Whether [`crate::Event::Started`] was told.
    pub(super) is_started: bool,
    /// Whether [`crate::Event::Paused`] was told, and nothing since.
    pub(super) is_paused: bool,
    /// A step failed in which it had tokens up to this one: until it is past them, it runs alone,
    /// so that it takes nobody with it.
    pub(super) suspect_until: usize,
    pub(super) usage: Usage,
    /// Of how many of the prompt's tokens log-probabilities were told.
    pub(super) told: usize,
}

/// Where a stream's memory is.
pub(super) enum Place {
    /// Nowhere: its tokens have to be read, from a cached prompt or from the start.
    Waiting,
    /// It made room for others.
    Parked(Parked),
    /// On the device.
    Running(SequenceId),
}

/// What a stream needs to go on.
pub(super) struct Parked {
    /// Tokens in memory.
    pub(super) past: usize,
    pub(super) state: Arc<StateSnapshot>,
    pub(super) pages: ParkedPages,
    /// The last token's hidden row, for the drafter.
    pub(super) hidden: Option<Arc<[f32]>>,
}

/// Where a parked stream's pages are.
pub(super) enum ParkedPages {
    /// Still on the device.
    Device(HeldPages),
    /// Copied out.
    Host(Vec<Vec<u8>>),
}

impl Parked {
    /// The RAM it takes.
    pub(super) fn bytes(&self) -> usize {
        let pages = match &self.pages {
            ParkedPages::Device(_) => 0,
            ParkedPages::Host(pages) => pages.iter().map(Vec::len).sum(),
        };
        let hidden = self.hidden.as_ref().map_or(0, |row| size_of_val(&row[..]));
        self.state.bytes() + pages + hidden
    }
}

impl Stream {
    /// Its sequence, if it has one.
    pub(super) fn sequence(&self) -> Option<SequenceId> {
        match self.place {
            Place::Running(sequence) => Some(sequence),
            Place::Waiting | Place::Parked(_) => None,
        }
    }

    /// Tokens of the answer.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt
    }
}
