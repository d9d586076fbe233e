//! Log-probabilities of chosen tokens and of those that might have been.

use super::TokenRules;
use super::candidates::{Candidate, Candidates, most_likely};
use super::loops::{BLOCK, largest, sum_exp};

/// Which log-probabilities a choice reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logprobs {
    /// How many of the most likely tokens beside the chosen one; at most [`Logprobs::MOST`].
    pub top: usize,
    /// Of which distribution.
    pub of: LogprobsOf,
}

/// The distribution that log-probabilities are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogprobsOf {
    /// The model's own: the logits before masks, biases and samplers.
    Model,
    /// The one that the token was drawn from, behind all samplers. Where the most likely token is
    /// taken, the one that it is the most likely of.
    Draw,
}

/// A chosen token's log-probability, and the most likely tokens with theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// Of the chosen token. Negative infinity for one that could not have been drawn.
    pub logprob: f32,
    /// Most likely first, of equals the lower token; fewer than asked if there are no more.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// The most top tokens that can be asked for.
    pub const MOST: usize = 1000;
}

impl TokenLogprobs {
    /// Log-softmax of a whole row of logits, for `token` and the `top` most likely tokens. All
    /// rows count, and only those that are tokens are listed. Prompt tokens get theirs here too.
    pub fn of_logits(logits: &[f32], rules: &TokenRules, token: u32, top: usize) -> Self {
        let best = largest(logits);
        let sum: f64 = logits
            .chunks(BLOCK)
            .map(|block| sum_exp(block, best, 1.0))
            .sum();
        let value = |logit: f32| logprob(logit, best, sum.ln());
        // Some more, as unused rows may be among them.
        let wanted = top + rules.unused().len();
        let rows = &logits[..logits.len().min(rules.rows())];
        let listed = listed(rows, wanted)
            .into_iter()
            .filter(|c| rules.is_token(c.token))
            .take(top)
            .map(|c| (c.token, value(c.logit)))
            .collect();
        let chosen = logits.get(token as usize);
        Self {
            logprob: chosen.map_or(f32::NEG_INFINITY, |&logit| value(logit)),
            top: listed,
        }
    }

    /// The same for what is left of a choice.
    pub(super) fn of_candidates(candidates: &mut Candidates<'_>, token: u32, top: usize) -> Self {
        let (best, log_sum) = candidates.log_sum();
        if let Some(list) = candidates.list() {
            let value = |c: &Candidate| (c.token, logprob(c.logit, best, log_sum));
            let chosen = list.iter().find(|c| c.token == token);
            return Self {
                logprob: chosen.map_or(f32::NEG_INFINITY, |c| value(c).1),
                top: list.iter().take(top).map(value).collect(),
            };
        }
        let (all, divisor) = candidates.all();
        let value = |logit: f32| logprob(logit / divisor, best, log_sum);
        Self {
            logprob: all
                .get(token as usize)
                .map_or(f32::NEG_INFINITY, |&logit| value(logit)),
            top: listed(all, top)
                .into_iter()
                .map(|c| (c.token, value(c.logit)))
                .collect(),
        }
    }
}

fn listed(logits: &[f32], count: usize) -> Vec<Candidate> {
    let mut list = Vec::new();
    most_likely(logits, count, &mut list);
    list
}

/// The one place where a log-probability is made, so that equal logits have equal ones.
fn logprob(logit: f32, best: f32, log_sum: f64) -> f32 {
    let value = (f64::from(logit) - f64::from(best) - log_sum) as f32;
    // Logits that are no numbers have no probability.
    if value.is_nan() {
        f32::NEG_INFINITY
    } else {
        value
    }
}
