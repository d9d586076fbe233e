//! How many drafts to verify: as many as make the most of a step, often none.
//!
//! With a sequence's acceptance by position, n sequences and k drafts for each, a step yields
//! `n + sum of the probabilities that drafts are reached and right` tokens, and takes as long as
//! steps of so many sequences and drafts were measured to take, plus the drafting. The depths are
//! those with the most tokens per second. Nothing here has a clock or chance in it: durations are
//! given, and equal experience makes equal choices.

use std::collections::BTreeMap;
use std::time::Duration;

use super::acceptance::MOST_DRAFTS;
use super::costs::Costs;
use super::trial::Budget;
use super::widths::Widths;

/// What a draft pass is guessed to cost before it was ever measured, in steps.
const GUESSED_DRAFT: f64 = 0.05;
/// A gain below this is noise: not worth the memory traffic of speculation.
const LEAST_GAIN: f64 = 1.05;
/// Plain steps that are measured before the first speculated one.
const FIRST_PLAIN_STEPS: u32 = 3;
/// Plain steps are measured again after this many steps, then after twice as many, and so on.
const PLAIN_AGAIN: (u64, u64) = (64, 256);
/// The least that a trial is expected to lose, as a share of what it takes: estimates are off.
const LEAST_LOSS: f64 = 0.1;
/// A trial that cannot show anything but that drafts do not pay is charged so many times what it
/// loses: its measurements may have been wrong, but that is rare.
const HOPELESS: f64 = 10.0;
/// So many in a row, of which the first does not count: it pays for what the step before held back.
const PLAIN_IN_A_ROW: u32 = 4;

/// What a sequence may gain by drafts in the coming step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prospect {
    /// The most drafts it can use.
    pub most: usize,
    /// For each, the probability that it is right if all before it are.
    pub probabilities: [f64; MOST_DRAFTS],
    /// Whether its drafts are made without a model.
    pub is_free: bool,
}

/// When plain steps are measured again.
#[derive(Debug, Clone, Copy)]
struct PlainAgain {
    at: u64,
    wait: u64,
    /// How many of them are still to come.
    left: u32,
}

/// The step that was planned last.
#[derive(Debug, Clone, Copy, Default)]
struct Present {
    sequences: usize,
    /// Whether drafts may be made for any of them.
    can_draft: bool,
    /// And for some without a model.
    has_free: bool,
    is_trial: bool,
    /// Seconds of drafting for it.
    drafting: f64,
    /// Drafts that were right.
    accepted: usize,
}

/// Chooses depths for all sequences of an engine.
#[derive(Debug, Clone, Default)]
pub struct DepthController {
    widths: Widths,
    /// Seconds of draft passes, by sequences.
    drafts: Costs,
    step: u64,
    present: Present,
    /// Whether the step before had drafts.
    had_drafts: bool,
    /// Whether it was a trial's.
    was_trial: bool,
    plain_again: BTreeMap<usize, PlainAgain>,
    budget: Budget,
    /// Trials so far: they go round among the sequences.
    trials: usize,
}

impl DepthController {
    /// No experience.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes how long the planned step took: running `rows` rows and choosing tokens, not drafting.
    pub fn step_took(&mut self, rows: usize, duration: Duration) {
        let Present {
            sequences,
            can_draft,
            has_free,
            is_trial,
            drafting,
            accepted,
        } = self.present;
        let (drafts, seconds) = (rows.saturating_sub(sequences), duration.as_secs_f64());
        let had_drafts = std::mem::replace(&mut self.had_drafts, drafts > 0);
        if drafts > 0 || !had_drafts {
            self.widths.note(sequences, drafts, seconds);
        }
        if let (0, Some(again)) = (drafts, self.plain_again.get_mut(&sequences)) {
            again.at = again.at.max(self.step + again.wait);
        }
        if can_draft {
            let trial_cost = self.trial_cost(sequences);
            self.budget.earn(seconds + drafting, trial_cost);
        }
        // What was held back in a trial is applied in the step behind it, at its cost.
        let was_trial = std::mem::replace(&mut self.was_trial, is_trial);
        if is_trial || was_trial {
            let plain = self.widths.of(sequences, 0).unwrap_or(seconds);
            let verified = self.widths.of(sequences, drafts).unwrap_or(plain);
            // Whoever had to wait for something else meanwhile has not lost it by drafting.
            let longer = (seconds - plain).clamp(-plain, plain.max(2.0 * (verified - plain)));
            let worth = plain * accepted as f64 / sequences.max(1) as f64;
            let loss = longer + drafting - worth;
            let certain = Prospect {
                most: MOST_DRAFTS,
                probabilities: [1.0; MOST_DRAFTS],
                is_free: has_free,
            };
            let could_pay = loss < 0.0 || self.would_draft(sequences, certain);
            self.budget
                .pay(if could_pay { loss } else { HOPELESS * loss });
        }
        self.present.drafting = 0.0;
    }

    /// Notes how many drafts of a sequence were right, before [`Self::step_took`].
    pub fn verified(&mut self, accepted: usize) {
        self.present.accepted += accepted;
    }

    /// Notes how long one draft pass over so many sequences took.
    pub fn draft_took(&mut self, sequences: usize, duration: Duration) {
        self.drafts.note(sequences, duration.as_secs_f64());
        self.present.drafting += duration.as_secs_f64();
    }

    /// Notes what had to be done once before drafting could begin.
    pub fn preparing_took(&mut self, duration: Duration) {
        self.present.drafting += duration.as_secs_f64();
    }

    /// Measured costs of steps.
    pub fn widths(&self) -> &Widths {
        &self.widths
    }

    /// Whether so many sequences with these probabilities would be drafted for, going by
    /// experience, or there is none.
    pub fn would_draft(&self, sequences: usize, prospect: Prospect) -> bool {
        self.widths.of(sequences, 0).is_none()
            || self
                .best(&vec![prospect; sequences], sequences)
                .iter()
                .any(|&depth| depth > 0)
    }

    /// Whether a trial would be affordable, with so many sequences and a draft that is right with
    /// this probability.
    pub fn can_try(&self, sequences: usize, probability: f64) -> bool {
        let Some(plain) = self.widths.of(sequences, 0) else {
            return false;
        };
        let cost = self.trial_cost(sequences);
        let worth = probability * plain / sequences.max(1) as f64;
        self.budget.allows((cost - worth).max(LEAST_LOSS * cost))
    }

    /// For each sequence how many drafts to verify in the coming step, beside which it has `others`
    /// rows.
    pub fn plan(&mut self, prospects: &[Prospect], others: usize) -> Vec<usize> {
        self.step += 1;
        let sequences = prospects.len() + others;
        self.present = Present {
            sequences,
            can_draft: !prospects.is_empty(),
            has_free: prospects.iter().any(|prospect| prospect.is_free),
            ..Present::default()
        };
        let mut depths = self.best(prospects, sequences);
        if depths.iter().any(|&depth| depth > 0) {
            self.budget.end();
            if self.wants_plain(sequences) {
                return vec![0; prospects.len()];
            }
        }
        self.try_one(prospects, &mut depths);
        depths
    }

    /// Lets one of those that get no draft try one, if that is affordable.
    fn try_one(&mut self, prospects: &[Prospect], depths: &mut [usize]) {
        let sequences = self.present.sequences;
        let has_drafts = depths.iter().any(|&depth| depth > 0);
        let idle: Vec<usize> = (0..depths.len())
            .filter(|&at| depths[at] == 0 && prospects[at].most > 0)
            .collect();
        let Some(&tries) = idle.get(self.trials / 2 % idle.len().max(1)) else {
            return;
        };
        if !self.can_try(sequences, prospects[tries].probabilities[0]) {
            return;
        }
        // The first draft of a step is the dearest. So every other trial is of all at once.
        match self.trials % 2 {
            0 => depths[tries] = 1,
            _ => idle.iter().for_each(|&at| depths[at] = 1),
        }
        if self.budget.take_step() {
            self.trials += 1;
        }
        if has_drafts {
            // What it costs cannot be told from the others' drafts.
            self.budget.pay(self.trial_cost(sequences));
        } else {
            self.present.is_trial = true;
        }
    }

    /// Whether this step should be plain, to know what plain steps cost.
    fn wants_plain(&mut self, sequences: usize) -> bool {
        if self.widths.plain_measured(sequences) < FIRST_PLAIN_STEPS {
            return true;
        }
        let (first, longest) = PLAIN_AGAIN;
        let step = self.step;
        let again = self.plain_again.entry(sequences).or_insert(PlainAgain {
            at: step + first,
            wait: first,
            left: 0,
        });
        if again.left == 0 {
            if step < again.at {
                return false;
            }
            again.left = PLAIN_IN_A_ROW;
            again.wait = (2 * again.wait).min(longest);
        }
        again.left -= 1;
        again.at = step + again.wait;
        true
    }

    /// By how many seconds a step is longer in which one sequence tries a draft.
    fn trial_cost(&self, sequences: usize) -> f64 {
        let Some(plain) = self.widths.of(sequences, 0) else {
            return 0.0;
        };
        let verified = self.widths.of(sequences, 1).unwrap_or(plain);
        verified - plain + self.drafts.of(1).unwrap_or(GUESSED_DRAFT * plain)
    }

    /// The depths with the most tokens per second, going by experience.
    fn best(&self, prospects: &[Prospect], sequences: usize) -> Vec<usize> {
        // The likeliest first. What is reached only over other drafts is less likely than they.
        let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
        for (sequence, prospect) in prospects.iter().enumerate() {
            let mut reached = 1.0;
            let most = prospect.most.min(MOST_DRAFTS);
            for (position, probability) in prospect.probabilities[..most].iter().enumerate() {
                reached *= probability;
                candidates.push((reached, position, sequence));
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));

        let mut depths = vec![0; prospects.len()];
        let Some(plain_cost) = self.widths.of(sequences, 0) else {
            return depths;
        };
        let mut best_rate = sequences as f64 / plain_cost * LEAST_GAIN;
        let mut best = 0;
        let mut tokens = sequences as f64;
        // How many sequences take part in each draft pass.
        let mut passes = [0; MOST_DRAFTS];
        for (count, &(gain, position, sequence)) in candidates.iter().enumerate() {
            tokens += gain;
            passes[position] += usize::from(!prospects[sequence].is_free);
            let drafting: f64 = passes
                .iter()
                .filter(|&&drafting| drafting > 0)
                .map(|&drafting| {
                    let guess = GUESSED_DRAFT * plain_cost;
                    self.drafts.of(drafting).unwrap_or(guess)
                })
                .sum();
            let step = self.widths.of(sequences, count + 1);
            let cost = step.unwrap_or(plain_cost) + drafting;
            if tokens / cost > best_rate {
                best_rate = tokens / cost;
                best = count + 1;
            }
        }
        for &(_, _, sequence) in &candidates[..best] {
            depths[sequence] += 1;
        }
        depths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speculate::Acceptance;

    /// A device and texts: what steps cost, and how likely drafts are right.
    struct World {
        sequences: usize,
        step_ms: fn(usize) -> f64,
        draft_ms: f64,
        /// For each sequence and time.
        right: fn(usize, u64) -> f64,
    }

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// A fixed sequence of numbers in 0..1 that looks random.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 40) as f64 / (1u64 << 24) as f64
        }
    }

    /// Tokens per second over many steps, several times; of a fixed depth, or of the controller's.
    fn run(world: &World, fixed: Option<usize>) -> f64 {
        let of_seeds = (7..15).map(|seed| run_once(world, fixed, Chance(seed)));
        of_seeds.sum::<f64>() / 8.0
    }

    fn run_once(world: &World, fixed: Option<usize>, mut chance: Chance) -> f64 {
        let mut controller = DepthController::new();
        let mut acceptances = vec![Acceptance::guess(0.5); world.sequences];
        let (mut tokens, mut time) = (0.0, 0.0);
        for step in 0..3000u64 {
            let prospects: Vec<Prospect> = acceptances
                .iter()
                .map(|acceptance| Prospect {
                    most: 5,
                    probabilities: acceptance.probabilities(),
                    is_free: world.draft_ms == 0.0,
                })
                .collect();
            let depths = match fixed {
                Some(depth) => vec![depth; world.sequences],
                None => controller.plan(&prospects, 0),
            };
            for pass in 0..MOST_DRAFTS {
                let drafting = depths.iter().filter(|&&depth| depth > pass).count();
                if drafting > 0 && world.draft_ms > 0.0 {
                    controller.draft_took(drafting, ms(world.draft_ms));
                    time += world.draft_ms;
                }
            }
            for (sequence, &depth) in depths.iter().enumerate() {
                let right = (world.right)(sequence, step);
                let hits = (0..depth).take_while(|_| chance.next() < right).count();
                acceptances[sequence].note(depth, hits);
                controller.verified(hits);
                tokens += 1.0 + hits as f64;
            }
            let rows: usize = depths.iter().map(|depth| depth + 1).sum();
            let cost = (world.step_ms)(rows);
            controller.step_took(rows, ms(cost * (0.9 + 0.2 * chance.next())));
            time += cost;
        }
        tokens / time * 1000.0
    }

    /// The controller against the best fixed depth, which also has to be what is expected.
    fn check(name: &str, world: &World, expected: &[usize]) {
        let fixed: Vec<f64> = (0..=5).map(|depth| run(world, Some(depth))).collect();
        let best = (0..=5)
            .max_by(|&a, &b| fixed[a].total_cmp(&fixed[b]))
            .unwrap();
        let adaptive = run(world, None);
        println!("{name}: adaptive {adaptive:.1}, fixed {fixed:.1?}");
        assert!(expected.contains(&best), "{name}: {best} is best");
        assert!(
            adaptive > 0.94 * fixed[best],
            "{name}: {adaptive} {fixed:?}"
        );
        assert!(adaptive > 0.985 * fixed[0], "{name}: never loses");
    }

    #[test]
    fn hardly_tries_what_cannot_pay() {
        let world = World {
            sequences: 1,
            step_ms: |rows| rows as f64,
            draft_ms: 0.7,
            right: |_, _| 0.9,
        };
        let (adaptive, off) = (run(&world, None), run(&world, Some(0)));
        assert!(adaptive > 0.998 * off, "{adaptive} {off}");
    }

    #[test]
    fn finds_the_best_depth_and_never_loses() {
        // Bound by memory: further rows are nearly free.
        let cheap = |rows: usize| 20.0 + 0.5 * rows as f64;
        // Experts: each row brings its own weights.
        let experts = |rows: usize| 10.0 + 10.0 * (rows as f64).powf(0.8);
        // Bound by arithmetic.
        let linear = |rows: usize| 10.0 * rows as f64;
        let world = |sequences, step_ms, draft_ms, right| World {
            sequences,
            step_ms,
            draft_ms,
            right,
        };
        check(
            "good drafts, cheap rows",
            &world(1, cheap, 1.0, |_, _| 0.9),
            &[4, 5],
        );
        check(
            "bad drafts, cheap rows",
            &world(1, cheap, 1.0, |_, _| 0.02),
            &[0],
        );
        check(
            "good drafts, experts",
            &world(1, experts, 1.0, |_, _| 0.8),
            &[1, 2, 3],
        );
        check(
            "fair drafts, experts",
            &world(1, experts, 1.0, |_, _| 0.3),
            &[0],
        );
        check(
            "good drafts, linear",
            &world(4, linear, 1.0, |_, _| 0.9),
            &[0],
        );
        check("free drafts", &world(4, cheap, 0.0, |_, _| 0.6), &[3, 4, 5]);
        check(
            "eight with experts",
            &world(8, experts, 2.0, |_, _| 0.8),
            &[0, 1, 2, 3],
        );
    }

    #[test]
    fn sequences_get_depths_of_their_own() {
        let world = World {
            sequences: 4,
            step_ms: |rows| 20.0 + 3.0 * rows as f64,
            draft_ms: 1.0,
            right: |sequence, _| if sequence < 2 { 0.95 } else { 0.05 },
        };
        let fixed = (0..=5).map(|depth| run(&world, Some(depth)));
        let best = fixed.fold(0.0, f64::max);
        let adaptive = run(&world, None);
        assert!(adaptive > 1.1 * best, "{adaptive} for {best}");
    }

    #[test]
    fn notices_when_a_text_changes() {
        let world = World {
            sequences: 1,
            step_ms: |rows| 20.0 + 2.0 * rows as f64,
            draft_ms: 1.0,
            right: |_, step| if step % 1500 < 700 { 0.0 } else { 0.95 },
        };
        let off = run(&world, Some(0));
        let best = run(&world, Some(4)).max(run(&world, Some(5)));
        let adaptive = run(&world, None);
        assert!(
            adaptive > 1.05 * best && adaptive > 1.5 * off,
            "{adaptive} {best} {off}"
        );
    }
}
