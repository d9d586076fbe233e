//! The few tokens of a row of logits that a sampler may be content with.

use crate::tensor::Tensor;

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likely {
    /// The token: a column of the logits.
    pub token: u32,
    /// Neither NaN nor negative infinity.
    pub logit: f32,
}

/// Which tokens are wanted of a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MostLikely {
    /// So many, or all that can be chosen if those are fewer.
    pub count: usize,
    /// Tokens from here on do not count.
    pub limit: usize,
}

impl MostLikely {
    /// Those of a row on the host, and all that are as likely as the last of them, in order of the tokens. What is NaN or
    /// negative infinity cannot be chosen.
    pub fn of_row(self, row: &[f32]) -> Vec<Likely> {
        let can_be = |logit: &f32| *logit > f32::NEG_INFINITY;
        let row = &row[..row.len().min(self.limit)];
        let mut logits: Vec<f32> = row.iter().copied().filter(can_be).collect();
        logits.sort_unstable_by(|a, b| b.total_cmp(a));
        logits.truncate(self.count);
        let Some(&least) = logits.last() else {
            return Vec::new();
        };
        let found = row.iter().zip(0u32..).filter(|(logit, _)| **logit >= least);
        found
            .map(|(&logit, token)| Likely { token, logit })
            .collect()
    }

    /// [`Self::of_row`] for each row.
    pub fn of_rows(self, logits: &Tensor) -> Vec<Vec<Likely>> {
        (0..logits.rows())
            .map(|row| self.of_row(logits.row(row)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_come_with_their_equals() {
        let row = [1.0, f32::NAN, 3.0, f32::NEG_INFINITY, 2.0, 3.0, 2.0, 9.0];
        let found = |count, limit| {
            let likely = MostLikely { count, limit }.of_row(&row);
            likely.iter().map(|likely| likely.token).collect::<Vec<_>>()
        };
        assert_eq!(found(1, 8), [7]);
        assert_eq!(found(1, 7), [2, 5]);
        assert_eq!(found(3, 7), [2, 4, 5, 6]);
        assert_eq!(found(100, 100), [0, 2, 4, 5, 6, 7]);
        assert!(found(0, 8).is_empty());
        assert!(found(2, 0).is_empty());
    }
}
