//! Trials of what does not pay, as far as a budget of time goes.

/// The share of the time that trials may take.
const SHARE: f64 = 0.003;
/// Steps of a trial.
const STEPS: u32 = 4;

/// What trials may lose. Every second of running brings some credit, and a trial is charged the time
/// by which it made its steps longer, less what the tokens that it brought are worth. So the share is
/// kept, and trials become as seldom as they are dear: what is close to paying is tried often.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    /// Seconds, negative behind a trial.
    credit: f64,
    /// Steps left of a running trial.
    left: u32,
}

impl Budget {
    /// Notes time that was spent anyway. Not more is saved than one trial takes, of which each
    /// step costs so much if it brings nothing.
    pub(super) fn earn(&mut self, seconds: f64, step_cost: f64) {
        let most = step_cost * f64::from(STEPS);
        self.credit = (self.credit + SHARE * seconds).min(most);
    }

    /// Notes time that a trial lost, or won if it is negative.
    pub(super) fn pay(&mut self, seconds: f64) {
        self.credit -= seconds;
    }

    /// Whether a trial could begin, of which each step is expected to lose so much, or one is running.
    pub(super) fn allows(&self, step_cost: f64) -> bool {
        // Rounding must not keep it out for ever.
        self.left > 0 || self.credit >= 0.999 * step_cost * f64::from(STEPS)
    }

    /// Takes a step of a trial; `true` if it was the last one.
    pub(super) fn take_step(&mut self) -> bool {
        if self.left == 0 {
            self.left = STEPS;
        }
        self.left -= 1;
        self.left == 0
    }

    /// Ends a trial: drafts pay after all.
    pub(super) fn end(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_take_their_share() {
        let (mut budget, mut trials, mut total) = (Budget::default(), 0.0, 0.0);
        for _ in 0..100_000 {
            total += 0.030;
            budget.earn(0.030, 0.010);
            if budget.allows(0.010) {
                budget.take_step();
                // Dearer than was thought.
                budget.pay(0.020);
                trials += 0.020;
            }
        }
        assert!(
            (0.0015..0.00305).contains(&(trials / total)),
            "{}",
            trials / total
        );
    }
}
