//! Steers one answer: thinking that ends in time, and structure where it belongs.

use std::sync::Arc;

use text::ThinkingState;

use super::thinking::Thinking;
use super::{Constraint, ConstraintError, ThinkingBudget, ThinkingTokens};
use crate::sampling::Mask;

/// Where in an answer a constraint begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At the answer's first token, thinking or not.
    AtOnce,
    /// With the answer proper, behind any thinking. The thinking cannot be left in another way
    /// than by closing it.
    BehindThinking,
    /// Behind this token, if the model ever says it: a tool call that it is free to make. Behind
    /// what the constraint describes, the answer ends.
    Behind(u32),
}

/// Says which tokens an answer has to go on with, which it may, and follows what it does.
///
/// For each step: [`Guide::forced`], which leaves nothing to choose; else [`Guide::start`] before
/// the forward pass, and for each of its rows [`Guide::mask`] before a token is chosen and
/// [`Guide::accept`] behind it.
#[derive(Debug, Default)]
pub struct Guide {
    thinking: Option<Thinking>,
    constraint: Option<(Begin, Constraint)>,
    /// Whether the constraint has begun.
    has_begun: bool,
    /// What may be said while a constraint waits for the thinking to end.
    while_thinking: Option<Mask>,
}

impl Guide {
    /// Steers nothing.
    pub fn free() -> Self {
        Self::default()
    }

    /// A guide for an answer to a prompt that leaves the model in this state. `thinking` are the
    /// model's tokens, if it can think; `vocabulary` is the number of its tokens.
    pub fn new(
        thinking: Option<Arc<ThinkingTokens>>,
        state: ThinkingState,
        budget: ThinkingBudget,
        constraint: Option<(Begin, Constraint)>,
        vocabulary: usize,
    ) -> Self {
        let thinking = thinking.map(|tokens| Thinking::new(tokens, state, budget));
        let mut guide = Self {
            thinking,
            constraint,
            has_begun: false,
            while_thinking: None,
        };
        guide.begin_if_due();
        if let (false, Some((Begin::BehindThinking, _)), Some(thinking)) =
            (guide.has_begun, &guide.constraint, &guide.thinking)
        {
            let mut mask = Mask::from_words(vec![u32::MAX; vocabulary.div_ceil(32)], vocabulary);
            let leave = thinking.tokens().leave();
            leave.iter().for_each(|&token| mask.forbid(token));
            guide.while_thinking = Some(mask);
        }
        guide
    }

    /// The tokens that come next, one after the other, whatever the model says. They can go
    /// through the model in one step, as a prompt does.
    pub fn forced(&self) -> &[u32] {
        self.thinking.as_ref().map_or(&[], Thinking::forced)
    }

    /// The next of the forced tokens.
    pub fn forced_next(&self) -> Option<u32> {
        self.forced().first().copied()
    }

    /// Whether what comes next belongs to the thinking.
    pub fn is_thinking(&self) -> bool {
        self.thinking.as_ref().is_some_and(Thinking::is_inside)
    }

    /// How much of a draft is worth verifying: up to what the guide would not allow, or where it
    /// has to think again.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn worth_verifying(&mut self, draft: &[u32]) -> Result<usize, ConstraintError> {
        let forced = self.forced();
        if !forced.is_empty() {
            let same = forced.iter().zip(draft).take_while(|(a, b)| a == b);
            return Ok(same.count());
        }
        let until = match &self.thinking {
            // Closing may force what comes behind it, and the budget may run out.
            Some(thinking) if thinking.is_inside() => thinking.certain_until(draft),
            _ => draft.len(),
        };
        let draft = &draft[..until];
        match &mut self.constraint {
            Some((_, constraint)) if self.has_begun => constraint.allowed(draft),
            Some((Begin::Behind(token), _)) => {
                let at = draft.iter().position(|drafted| drafted == token);
                Ok(at.map_or(draft.len(), |at| at + 1))
            }
            _ => Ok(draft.len()),
        }
    }

    /// The tokens that have to follow by the grammar, as far as that is certain: a draft that is
    /// always right. They are still to be chosen, from masks that leave no choice.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn certain(&mut self) -> Result<Vec<u32>, ConstraintError> {
        match &mut self.constraint {
            Some((_, constraint)) if self.has_begun => constraint.certain(),
            _ => Ok(Vec::new()),
        }
    }

    /// Starts to find the masks of a step that verifies `draft`, beside it.
    pub fn start(&mut self, draft: &[u32]) {
        if let (true, Some((_, constraint))) = (self.has_begun, &mut self.constraint) {
            constraint.start(draft);
        }
    }

    /// The tokens that may be chosen next; `None` for all of them. To be asked when nothing is
    /// forced.
    ///
    /// # Errors
    /// When the grammar takes more work to follow than allowed. The answer has to end.
    pub fn mask(&mut self) -> Result<Option<&Mask>, ConstraintError> {
        match &mut self.constraint {
            Some((_, constraint)) if self.has_begun => constraint.mask().map(Some),
            _ => Ok(self.while_thinking.as_ref()),
        }
    }

    /// Whether anything may be said in a step that verifies `draft`, so that there will be no masks.
    pub fn is_free(&self, draft: &[u32]) -> bool {
        match &self.constraint {
            None => true,
            Some((Begin::Behind(trigger), _)) => !self.has_begun && !draft.contains(trigger),
            Some(_) => false,
        }
    }

    /// Takes the answer's next token, chosen or forced.
    ///
    /// # Errors
    /// When the grammar does not allow it, or following it failed. The answer has to end.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if let (true, Some((_, constraint))) = (self.has_begun, &mut self.constraint) {
            return constraint.accept(token);
        }
        let has_closed = match &mut self.thinking {
            Some(thinking) => thinking.accept(token),
            None => false,
        };
        match (&self.constraint, &mut self.thinking) {
            (Some((Begin::BehindThinking, _)), Some(thinking)) if has_closed => {
                thinking.force_lead_in();
            }
            (Some((Begin::Behind(trigger), _)), _) if *trigger == token => self.has_begun = true,
            _ => {}
        }
        self.begin_if_due();
        Ok(())
    }

    /// Whether the answer follows a grammar and can only end now.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        match &mut self.constraint {
            Some((_, constraint)) if self.has_begun => constraint.is_complete(),
            _ => Ok(false),
        }
    }

    /// The same place for another answer that goes on from here.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn fork(&mut self) -> Result<Self, ConstraintError> {
        let constraint = match &mut self.constraint {
            Some((begin, constraint)) => Some((*begin, constraint.fork()?)),
            None => None,
        };
        Ok(Self {
            thinking: self.thinking.clone(),
            constraint,
            has_begun: self.has_begun,
            while_thinking: self.while_thinking.clone(),
        })
    }

    fn begin_if_due(&mut self) {
        let is_due = match &self.constraint {
            Some((Begin::AtOnce, _)) => true,
            Some((Begin::BehindThinking, _)) => !self.is_thinking(),
            Some((Begin::Behind(_), _)) | None => false,
        };
        if is_due {
            self.has_begun = true;
            self.while_thinking = None;
        }
    }
}
