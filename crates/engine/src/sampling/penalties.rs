//! Repetition, presence and frequency penalties.
//!
//! Presence and frequency look at the answer alone: words of the prompt are not worn out, and the
//! model cards' values come from engines that see it so. Repetition looks at prompt and answer.

use std::collections::{HashMap, VecDeque};

use super::SamplerSettings;
use super::candidates::Candidates;

/// Which tokens were seen how often, as far as the penalties look.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    repeat: f32,
    presence: f32,
    frequency: f32,
    window: Option<usize>,
    /// Where a token is in `seen`.
    places: HashMap<u32, usize>,
    seen: Vec<Seen>,
    /// Oldest first; only kept where there is a window.
    recent: VecDeque<(u32, Side)>,
}

/// A token's counts within the window.
#[derive(Debug, Clone, Copy)]
struct Seen {
    token: u32,
    prompt: u32,
    answer: u32,
}

/// Where a token stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Prompt,
    Answer,
}

impl Penalties {
    pub(super) fn new(settings: &SamplerSettings) -> Self {
        Self {
            repeat: settings.repeat_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            window: settings.penalty_window,
            places: HashMap::new(),
            seen: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    fn is_idle(&self) -> bool {
        let changes = (self.repeat, self.presence, self.frequency) != (1.0, 0.0, 0.0);
        !changes || self.window == Some(0)
    }

    /// How many tokens may be less likely than their logits say; `None` if any could be more likely.
    pub(super) fn most_lowered(&self) -> Option<usize> {
        if self.is_idle() {
            return Some(0);
        }
        let lowers = self.repeat >= 1.0 && self.presence >= 0.0 && self.frequency >= 0.0;
        lowers.then_some(self.seen.len())
    }

    /// Counts a token.
    pub(super) fn see(&mut self, token: u32, side: Side) {
        let prompt_counts = self.repeat != 1.0;
        if self.is_idle() || (side == Side::Prompt && !prompt_counts) {
            return;
        }
        *self.count(token, side) += 1;
        let Some(window) = self.window else {
            return;
        };
        self.recent.push_back((token, side));
        if self.recent.len() > window
            && let Some((old, side)) = self.recent.pop_front()
        {
            *self.count(old, side) -= 1;
        }
    }

    fn count(&mut self, token: u32, side: Side) -> &mut u32 {
        let place = *self.places.entry(token).or_insert_with(|| {
            self.seen.push(Seen {
                token,
                prompt: 0,
                answer: 0,
            });
            self.seen.len() - 1
        });
        let seen = &mut self.seen[place];
        match side {
            Side::Prompt => &mut seen.prompt,
            Side::Answer => &mut seen.answer,
        }
    }

    pub(super) fn apply(&self, candidates: &mut Candidates<'_>) {
        if self.is_idle() {
            return;
        }
        candidates.adjust(self.seen.iter().map(|seen| seen.token), |token, logit| {
            self.places
                .get(&token)
                .map_or(logit, |&place| self.penalised(&self.seen[place], logit))
        });
    }

    fn penalised(&self, seen: &Seen, mut logit: f32) -> f32 {
        if seen.prompt + seen.answer > 0 {
            logit = if logit > 0.0 {
                logit / self.repeat
            } else {
                logit * self.repeat
            };
        }
        if seen.answer > 0 {
            logit -= self.presence + self.frequency * seen.answer as f32;
        }
        logit
    }
}
