//! Chooses the tokens of one answer.

use std::sync::Arc;

use tensor::{Likely, MostLikely};

use super::candidates::{Candidate, Candidates};
use super::cuts;
use super::dry::Repetitions;
use super::logprobs::{Logprobs, LogprobsOf, TokenLogprobs};
use super::penalties::{Penalties, Side};
use super::random::{Numbers, Stream};
use super::{Mask, SamplerSettings, SettingsError, Stage, TokenRules, argmax};

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Its log-probabilities, if the settings ask for them.
    pub logprobs: Option<TokenLogprobs>,
}

/// Chooses one answer's tokens: the same settings and logits give the same tokens.
///
/// Tell it the prompt with [`Sampler::saw`], then for each token ask [`Sampler::choose`] and say
/// with [`Sampler::accept`] what the answer's token is.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplerSettings,
    rules: Arc<TokenRules>,
    random: Stream,
    penalties: Penalties,
    repetitions: Repetitions,
    /// Tokens of the answer so far.
    accepted: usize,
    /// Lent to each choice, to save allocations.
    list: Vec<Candidate>,
    /// The logits as they were, where they are reported. Lent to each choice too.
    raw: Vec<f32>,
}

impl Sampler {
    /// A sampler at the start of an answer, for a model with these tokens.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn new(settings: SamplerSettings, rules: Arc<TokenRules>) -> Result<Self, SettingsError> {
        settings.validate_for(&rules)?;
        Ok(Self {
            random: Stream::new(settings.seed),
            penalties: Penalties::new(&settings),
            repetitions: Repetitions::new(&settings.dry),
            settings,
            rules,
            accepted: 0,
            list: Vec::new(),
            raw: Vec::new(),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &SamplerSettings {
        &self.settings
    }

    /// The model's tokens.
    pub fn rules(&self) -> &Arc<TokenRules> {
        &self.rules
    }

    /// Tells of a token of the prompt.
    pub fn saw(&mut self, token: u32) {
        self.penalties.see(token, Side::Prompt);
        self.repetitions.see(token);
    }

    /// Tells of the answer's next token.
    pub fn accept(&mut self, token: u32) {
        self.penalties.see(token, Side::Answer);
        self.repetitions.see(token);
        self.accepted += 1;
    }

    /// Tokens of the answer so far.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Chooses the next token from a row of logits, which are changed on the way. With a mask,
    /// only from the tokens it allows. If nothing is possible (no logit is a number above
    /// negative infinity), the lowest allowed token is chosen.
    ///
    /// Changes nothing that a later choice would notice.
    pub fn choose(&mut self, logits: &mut [f32], mask: Option<&Mask>) -> Choice {
        let numbers = self.random.at(self.accepted as u64);
        let wanted = self.settings.logprobs;
        // The model's own are of the logits before they are changed, and of a token that is not
        // known before they are.
        let raw = match wanted {
            Some(Logprobs {
                of: LogprobsOf::Model,
                ..
            }) => {
                let mut raw = std::mem::take(&mut self.raw);
                raw.clear();
                raw.extend_from_slice(logits);
                Some(raw)
            }
            _ => None,
        };
        let rows = logits.len().min(self.rules.rows());
        let rows = &mut logits[..rows];
        for &unused in self.rules.unused() {
            if let Some(logit) = rows.get_mut(unused as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let mut list = std::mem::take(&mut self.list);
        let mut candidates = Candidates::new(rows, &mut list);
        let token = self.decide(&mut candidates, mask, numbers);
        let token = token.unwrap_or_else(|| {
            let allowed = mask.and_then(|mask| mask.tokens().next());
            allowed.unwrap_or_else(|| argmax(candidates.all().0))
        });
        let logprobs = wanted.map(|Logprobs { top, .. }| match &raw {
            Some(raw) => TokenLogprobs::of_logits(raw, &self.rules, token, top),
            None => TokenLogprobs::of_candidates(&mut candidates, token, top),
        });
        self.list = list;
        self.raw = raw.unwrap_or_default();
        Choice { token, logprobs }
    }

    /// How many of the most likely tokens are enough for [`Self::choose_among`] to choose the next one
    /// and `more` behind it, whatever the other logits are; `None` if it takes all of them.
    pub fn enough(&self, more: usize) -> Option<MostLikely> {
        let settings = &self.settings;
        if settings.logprobs.is_some() || !settings.logit_bias.is_empty() {
            return None;
        }
        let mut kept = settings.is_greedy().then_some(1);
        // Those that are not to be chosen may be among the most likely.
        let mut passed_over = self.rules.unused().len() + self.rules.ends().len();
        for stage in &settings.samplers {
            // What comes behind the cut to a number sees no more than that.
            let is_idle = match stage {
                Stage::Penalties => {
                    let lowered = self.penalties.most_lowered()?;
                    passed_over += lowered + more;
                    true
                }
                Stage::Dry => settings.dry.multiplier == 0.0,
                _ if kept.is_some() => true,
                Stage::TopK => {
                    kept = (settings.top_k > 0).then_some(settings.top_k);
                    true
                }
                Stage::Temperature => settings.temperature_range <= 0.0,
                Stage::TopNSigma => settings.top_n_sigma <= 0.0,
                Stage::Typical => settings.typical_p >= 1.0,
                Stage::TopP => settings.top_p >= 1.0,
                Stage::MinP => settings.min_p <= 0.0,
                Stage::Xtc => settings.xtc.probability <= 0.0,
            };
            if !is_idle {
                return None;
            }
        }
        Some(MostLikely {
            count: kept? + passed_over,
            limit: self.rules.rows(),
        })
    }

    /// Chooses the next token as [`Self::choose`] would without a mask, from no fewer tokens than are
    /// [enough](Self::enough).
    pub fn choose_among(&mut self, likely: &[Likely]) -> Choice {
        let numbers = self.random.at(self.accepted as u64);
        let mut list = std::mem::take(&mut self.list);
        let rules = Arc::clone(&self.rules);
        let tokens = likely.iter().copied();
        let tokens = tokens.filter(|likely| rules.is_token(likely.token));
        let mut candidates = Candidates::of(tokens, &mut list);
        let token = self.decide(&mut candidates, None, numbers);
        self.list = list;
        Choice {
            token: token.unwrap_or(0),
            logprobs: None,
        }
    }

    /// Runs all stages and chooses. `None` if there are no candidates.
    fn decide(
        &mut self,
        candidates: &mut Candidates<'_>,
        mask: Option<&Mask>,
        numbers: Numbers,
    ) -> Option<u32> {
        self.narrow(candidates, mask);
        if self.settings.is_greedy() {
            self.correct(candidates);
            return candidates.most_likely();
        }
        for index in 0..self.settings.samplers.len() {
            self.run(self.settings.samplers[index], candidates, numbers);
        }
        candidates.draw(numbers.draw)
    }

    /// What is reported of a token that was not chosen but prescribed, in place of
    /// [`Self::choose`]. Its log-probabilities are the model's, whichever the settings name.
    pub fn prescribe(&self, logits: &[f32], token: u32) -> Choice {
        let logprobs = self
            .settings
            .logprobs
            .map(|Logprobs { top, .. }| TokenLogprobs::of_logits(logits, &self.rules, token, top));
        Choice { token, logprobs }
    }

    /// Removes what may not be chosen, and adds the bias.
    fn narrow(&self, candidates: &mut Candidates<'_>, mask: Option<&Mask>) {
        if let Some(mask) = mask {
            candidates.keep_allowed(mask);
        }
        if self.settings.ignore_eos || self.accepted < self.settings.min_tokens {
            // Where nothing else is possible, as behind a complete grammar, it ends all the same.
            candidates.remove(self.rules.ends());
        }
        let bias = &self.settings.logit_bias;
        if !bias.is_empty() {
            candidates.adjust(bias.iter().map(|&(token, _)| token), |token, logit| {
                let of_token = bias.iter().filter(|(biased, _)| *biased == token);
                of_token.fold(logit, |logit, (_, bias)| logit + bias)
            });
        }
    }

    /// The stages that may change which token is the most likely.
    fn correct(&mut self, candidates: &mut Candidates<'_>) {
        for index in 0..self.settings.samplers.len() {
            let stage = self.settings.samplers[index];
            if matches!(stage, Stage::Penalties | Stage::Dry) {
                self.run(stage, candidates, Numbers::UNUSED);
            }
        }
    }

    fn run(&mut self, stage: Stage, candidates: &mut Candidates<'_>, numbers: Numbers) {
        let SamplerSettings {
            temperature,
            temperature_range,
            temperature_exponent,
            ..
        } = self.settings;
        match stage {
            Stage::Penalties => self.penalties.apply(candidates),
            Stage::Dry => self.repetitions.apply(candidates),
            Stage::Temperature => cuts::temperature(
                candidates,
                temperature,
                temperature_range,
                temperature_exponent,
            ),
            Stage::TopNSigma => cuts::top_n_sigma(candidates, self.settings.top_n_sigma),
            Stage::TopK => cuts::top_k(candidates, self.settings.top_k),
            Stage::Typical => cuts::typical(candidates, self.settings.typical_p),
            Stage::TopP => cuts::top_p(candidates, self.settings.top_p),
            Stage::MinP => cuts::min_p(candidates, self.settings.min_p),
            Stage::Xtc => cuts::xtc(candidates, self.settings.xtc, numbers.xtc),
        }
    }
}
