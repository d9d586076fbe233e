//! How many drafts to verify: as many as make the most of a step, often none.
//!
//! With a sequence's acceptance by position, n sequences and k drafts for each, a step yields
//! `n + sum of the probabilities that drafts are reached and right` tokens, and takes as long as
//! steps of so many rows were measured to take, plus the drafting. The depths are those with the
//! most tokens per second. Nothing here has a clock or chance in it: durations are given, and
//! equal experience makes equal choices.

use std::collections::BTreeMap;
use std::time::Duration;

use super::acceptance::MOST_DRAFTS;
use super::costs::Costs;

/// What a draft pass is guessed to cost before it was ever measured, in steps.
const GUESSED_DRAFT: f64 = 0.05;
/// A gain below this is noise: not worth the memory traffic of speculation.
const LEAST_GAIN: f64 = 1.02;
/// Plain steps that are measured before the first speculated one.
const FIRST_PLAIN_STEPS: u32 = 3;
/// Plain steps are measured again after this many steps, then after twice as many, and so on.
const PLAIN_AGAIN: (u64, u64) = (64, 512);
/// While speculation is off, sequences try again now and then: for this many steps, of one draft
/// each, and so seldom that all trials together take this share of the time.
const TRIAL_STEPS: u32 = 4;
const TRIAL_SHARE: f64 = 0.005;
/// The least and most steps between trials.
const TRIAL_AGAIN: (f64, f64) = (16.0, 4096.0);

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

/// When a sequence whose speculation does not pay tries again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trial {
    /// Steps since the last draft.
    idle: u32,
    /// Steps left of a running trial.
    left: u32,
}

impl Trial {
    /// Notes what a step was planned with; returns how many drafts to make after all. Trials begin
    /// after `wait` steps without drafts.
    fn decide(&mut self, planned: usize, most: usize, wait: u32) -> usize {
        if planned > 0 {
            *self = Self::default();
            return planned;
        }
        if self.left == 0 {
            self.idle += 1;
            if self.idle < wait {
                return 0;
            }
            *self = Self {
                idle: 0,
                left: TRIAL_STEPS,
            };
        }
        self.left -= 1;
        most.min(1)
    }
}

/// Chooses depths for all sequences of an engine.
#[derive(Debug, Clone, Default)]
pub struct DepthController {
    /// Of steps without prompts, by all their rows.
    steps: Costs,
    /// Of draft passes, by sequences.
    drafts: Costs,
    step: u64,
    /// Whether drafts were worth it in the last step, trials aside; `None` if that step was plain to
    /// be measured.
    pays: Option<bool>,
    /// For each number of rows when plain steps are measured again, and how long to wait
    /// the next time.
    plain_again: BTreeMap<usize, (u64, u64)>,
}

impl DepthController {
    /// No experience.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes how long a step without prompts took: running and choosing tokens, not drafting.
    pub fn step_took(&mut self, rows: usize, duration: Duration) {
        self.steps.note(rows, duration);
    }

    /// Notes how long one draft pass over so many sequences took.
    pub fn draft_took(&mut self, sequences: usize, duration: Duration) {
        self.drafts.note(sequences, duration);
    }

    /// Whether drafts were worth it in the last step that was planned, trials aside; `None` if that
    /// step was plain to be measured.
    pub fn pays(&self) -> Option<bool> {
        self.pays
    }

    /// Measured costs of steps.
    pub fn steps(&self) -> &Costs {
        &self.steps
    }

    /// For each sequence how many drafts to verify in the coming step, beside which it has `others`
    /// rows.
    pub fn plan(&mut self, sequences: &mut [(Prospect, &mut Trial)], others: usize) -> Vec<usize> {
        if sequences.is_empty() {
            return Vec::new();
        }
        self.step += 1;
        let prospects: Vec<Prospect> = sequences.iter().map(|(prospect, _)| *prospect).collect();
        let plain = sequences.len() + others;
        if self.wants_plain(plain) {
            self.pays = None;
            return vec![0; sequences.len()];
        }
        let planned = self.best(&prospects, plain);
        self.pays = Some(planned.iter().any(|&drafts| drafts > 0));
        let wait = self.trial_wait(sequences.len(), plain);
        let decide = |(planned, (prospect, trial)): (usize, &mut (Prospect, &mut Trial))| {
            trial.decide(planned, prospect.most, wait)
        };
        planned.into_iter().zip(sequences).map(decide).collect()
    }

    /// Whether this step should be plain, to know what plain steps cost.
    fn wants_plain(&mut self, rows: usize) -> bool {
        if self.steps.measured(rows) < FIRST_PLAIN_STEPS {
            return true;
        }
        let (first, longest) = PLAIN_AGAIN;
        let (at, wait) = self
            .plain_again
            .entry(rows)
            .or_insert((self.step + first, first));
        if self.step < *at {
            return false;
        }
        *wait = (2 * *wait).min(longest);
        *at = self.step + *wait;
        true
    }

    /// How long each of so many sequences waits for its next trial.
    fn trial_wait(&self, sequences: usize, rows: usize) -> u32 {
        let (least, most) = TRIAL_AGAIN;
        let Some(plain) = self.steps.of(rows) else {
            return most as u32;
        };
        let verified = self.steps.of(rows + 1).unwrap_or(plain);
        let drafted = self.drafts.of(1).unwrap_or(GUESSED_DRAFT * plain);
        let share = sequences as f64 * (verified - plain + drafted) / plain;
        let wait = f64::from(TRIAL_STEPS) * share / TRIAL_SHARE;
        wait.clamp(least, most) as u32
    }

    /// The depths with the most tokens per second, going by experience.
    fn best(&self, prospects: &[Prospect], plain: usize) -> Vec<usize> {
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
        let Some(plain_cost) = self.steps.of(plain) else {
            return depths;
        };
        let mut best_rate = plain as f64 / plain_cost * LEAST_GAIN;
        let mut best = 0;
        let mut tokens = plain as f64;
        // How many sequences take part in each draft pass.
        let mut passes = [0; MOST_DRAFTS];
        for (count, &(gain, position, sequence)) in candidates.iter().enumerate() {
            tokens += gain;
            passes[position] += usize::from(!prospects[sequence].is_free);
            let drafting: f64 = passes
                .iter()
                .filter(|&&sequences| sequences > 0)
                .map(|&sequences| {
                    self.drafts
                        .of(sequences)
                        .unwrap_or(GUESSED_DRAFT * plain_cost)
                })
                .sum();
            let rows = plain + count + 1;
            let cost = self.steps.of(rows).unwrap_or(plain_cost) + drafting;
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

    /// Tokens per second over many steps; of a fixed depth, or of the controller's.
    fn run(world: &World, fixed: Option<usize>) -> f64 {
        let mut chance = Chance(7);
        let mut controller = DepthController::new();
        let mut acceptances = vec![Acceptance::guess(0.5); world.sequences];
        let mut trials = vec![Trial::default(); world.sequences];
        let (mut tokens, mut time) = (0.0, 0.0);
        for step in 0..3000u64 {
            let mut prospects: Vec<(Prospect, &mut Trial)> = acceptances
                .iter()
                .zip(&mut trials)
                .map(|(acceptance, trial)| {
                    let prospect = Prospect {
                        most: 5,
                        probabilities: acceptance.probabilities(),
                        is_free: world.draft_ms == 0.0,
                    };
                    (prospect, trial)
                })
                .collect();
            let depths = match fixed {
                Some(depth) => vec![depth; world.sequences],
                None => controller.plan(&mut prospects, 0),
            };
            for pass in 0..MOST_DRAFTS {
                let drafting = depths.iter().filter(|&&depth| depth > pass).count();
                if drafting > 0 && world.draft_ms > 0.0 {
                    controller.draft_took(drafting, ms(world.draft_ms));
                    time += world.draft_ms;
                }
            }
            let rows: usize = depths.iter().map(|depth| depth + 1).sum();
            let cost = (world.step_ms)(rows);
            controller.step_took(rows, ms(cost * (0.9 + 0.2 * chance.next())));
            time += cost;
            for (sequence, &depth) in depths.iter().enumerate() {
                let right = (world.right)(sequence, step);
                let hits = (0..depth).take_while(|_| chance.next() < right).count();
                acceptances[sequence].note(depth, hits);
                tokens += 1.0 + hits as f64;
            }
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
