//! How likely drafts are right, by experience.

/// The most drafts in a run.
pub const MOST_DRAFTS: usize = 8;

/// What the guess is worth at first, in observations.
const GUESS_WEIGHT: f64 = 4.0;
/// What remains of the weight of an experience, and of the guess, with each further one: texts
/// change.
const MEMORY: f64 = 0.95;

/// For each position of a run, how often it was right if all before it were.
#[derive(Debug, Clone, PartialEq)]
pub struct Acceptance {
    guess: [f64; MOST_DRAFTS],
    guess_weight: [f64; MOST_DRAFTS],
    tried: [f64; MOST_DRAFTS],
    right: [f64; MOST_DRAFTS],
}

impl Acceptance {
    /// No experience but a guess for all positions.
    pub fn guess(probability: f64) -> Self {
        Self {
            guess: [probability; MOST_DRAFTS],
            guess_weight: [GUESS_WEIGHT; MOST_DRAFTS],
            tried: [0.0; MOST_DRAFTS],
            right: [0.0; MOST_DRAFTS],
        }
    }

    /// For a new sequence: others' experience is its guess.
    pub fn like(others: &Self) -> Self {
        Self {
            guess: others.probabilities(),
            ..Self::guess(0.0)
        }
    }

    /// Notes one verified run.
    pub fn note(&mut self, drafted: usize, accepted: usize) {
        // Behind the first wrong draft nothing was learnt.
        for position in 0..drafted.min(accepted + 1).min(MOST_DRAFTS) {
            self.guess_weight[position] *= MEMORY;
            self.tried[position] = self.tried[position] * MEMORY + 1.0;
            let is_right = f64::from(u8::from(position < accepted));
            self.right[position] = self.right[position] * MEMORY + is_right;
        }
    }

    /// The probability of each position, if all before it are right.
    pub fn probabilities(&self) -> [f64; MOST_DRAFTS] {
        let mut before = 1.0;
        std::array::from_fn(|position| {
            // What lies deeper is seldom seen; it is hardly better than what lies before it.
            let guess = self.guess[position].min(before);
            let weight = self.guess_weight[position];
            before = (self.right[position] + weight * guess) / (self.tried[position] + weight);
            before
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_and_forgets() {
        let mut acceptance = Acceptance::guess(0.5);
        assert_eq!(acceptance.probabilities(), [0.5; MOST_DRAFTS]);
        (0..200).for_each(|_| acceptance.note(2, 1));
        let [first, second, third, ..] = acceptance.probabilities();
        assert!(first > 0.9 && second < 0.1, "{first} {second}");
        assert!(third <= 0.2, "no better than what it stands on: {third}");
        (0..60).for_each(|_| acceptance.note(2, 0));
        assert!(acceptance.probabilities()[0] < 0.15);
    }

    #[test]
    fn others_experience_is_a_guess() {
        let mut others = Acceptance::guess(0.5);
        (0..200).for_each(|_| others.note(1, 1));
        let mut mine = Acceptance::like(&others);
        assert!(mine.probabilities()[0] > 0.9);
        (0..20).for_each(|_| mine.note(1, 0));
        assert!(mine.probabilities()[0] < 0.35);
    }
}
