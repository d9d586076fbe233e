//! How many drafts were right.

/// Drafts of one position of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Proposed, and verified: behind a wrong draft nothing is verified.
    pub tried: u64,
    /// Of these, chosen by the model.
    pub accepted: u64,
}

/// Figures of speculation, of one answer or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DraftCounts {
    /// Tokens proposed.
    pub drafted: u64,
    /// Tokens accepted.
    pub accepted: u64,
    /// By the position in the run of drafts, the first token behind the known ones being 0.
    pub by_position: Vec<Tally>,
}

impl DraftCounts {
    /// Notes one verified run.
    pub fn note(&mut self, drafted: usize, accepted: usize) {
        self.drafted += drafted as u64;
        self.accepted += accepted as u64;
        if self.by_position.len() < drafted {
            self.by_position.resize(drafted, Tally::default());
        }
        for (position, tally) in self.by_position[..drafted].iter_mut().enumerate() {
            tally.tried += u64::from(position <= accepted);
            tally.accepted += u64::from(position < accepted);
        }
    }

    /// Adds another's figures.
    pub fn add(&mut self, other: &Self) {
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        if self.by_position.len() < other.by_position.len() {
            let positions = other.by_position.len();
            self.by_position.resize(positions, Tally::default());
        }
        for (mine, theirs) in self.by_position.iter_mut().zip(&other.by_position) {
            mine.tried += theirs.tried;
            mine.accepted += theirs.accepted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_wrong_draft_was_not_tried() {
        let mut counts = DraftCounts::default();
        counts.note(3, 1);
        counts.note(1, 1);
        counts.note(2, 0);
        let mut sum = DraftCounts::default();
        sum.add(&counts);
        assert_eq!(sum, counts);
        let tallies: Vec<(u64, u64)> = counts
            .by_position
            .iter()
            .map(|tally| (tally.tried, tally.accepted))
            .collect();
        assert_eq!((counts.drafted, counts.accepted), (6, 2));
        assert_eq!(tallies, [(3, 2), (1, 0), (0, 0)]);
    }
}
