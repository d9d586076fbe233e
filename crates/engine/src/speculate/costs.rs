//! How long steps take by how many rows they have, by experience.

use std::time::Duration;

/// Steps with more rows count as having this many.
const MOST_ROWS: usize = 256;
/// The weight of a new measurement.
const NEWS: f64 = 0.15;
/// A measurement counts as at most this many times what was expected: something else ran.
const MOST_SURPRISE: f64 = 3.0;
/// What a further row is guessed to cost, in steps of one row, before it was ever tried. Low, so
/// that it is tried.
const GUESSED_ROW: f64 = 0.1;

/// Measured durations by the number of rows.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// Ascending by rows; in seconds.
    known: Vec<(usize, f64)>,
    /// How often each of them was measured.
    counts: Vec<u32>,
}

impl Costs {
    /// Notes a measurement.
    pub fn note(&mut self, rows: usize, duration: Duration) {
        let (rows, seconds) = (rows.clamp(1, MOST_ROWS), duration.as_secs_f64());
        match self.known.binary_search_by_key(&rows, |&(rows, _)| rows) {
            Ok(at) => {
                self.counts[at] = self.counts[at].saturating_add(1);
                // The mean of the first few, then a moving one.
                let weight = NEWS.max(1.0 / f64::from(self.counts[at]));
                let (_, known) = &mut self.known[at];
                *known += weight * (seconds.min(*known * MOST_SURPRISE) - *known);
            }
            Err(at) => {
                self.known.insert(at, (rows, seconds));
                self.counts.insert(at, 1);
            }
        }
    }

    /// How often steps of so many rows were measured.
    pub fn measured(&self, rows: usize) -> u32 {
        self.known
            .binary_search_by_key(&rows, |&(rows, _)| rows)
            .map_or(0, |at| self.counts[at])
    }

    /// Seconds that a step of so many rows may take; `None` before any measurement. More rows
    /// never take less.
    pub fn of(&self, rows: usize) -> Option<f64> {
        let rows = rows.clamp(1, MOST_ROWS);
        let at = self.known.partition_point(|&(known, _)| known <= rows);
        // Noise may have made a smaller step look slower: then this one is as slow.
        let floor = self.known[..at]
            .iter()
            .map(|&(_, seconds)| seconds)
            .fold(0.0, f64::max);
        let below = at.checked_sub(1).map(|below| self.known[below]);
        let seconds = match (below, self.known.get(at)) {
            (None, None) => return None,
            (Some((known, seconds)), _) if known == rows => seconds,
            (Some(below), Some(&above)) => {
                let share = (rows - below.0) as f64 / (above.0 - below.0) as f64;
                below.1 + share * (above.1 - below.1)
            }
            (Some((known, seconds)), None) => {
                seconds * (1.0 + GUESSED_ROW * (rows - known) as f64 / known as f64)
            }
            (None, Some(&(known, seconds))) => {
                seconds / (1.0 + GUESSED_ROW * (known - rows) as f64)
            }
        };
        Some(seconds.max(floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(known: &[(usize, u64)]) -> Costs {
        let mut costs = Costs::default();
        for &(rows, ms) in known {
            costs.note(rows, Duration::from_millis(ms));
        }
        costs
    }

    #[test]
    fn interpolates_and_never_falls() {
        assert_eq!(Costs::default().of(1), None);
        let costs = costs(&[(1, 10), (5, 30), (7, 20)]);
        let of = |rows| costs.of(rows).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(of(1), 0.010) && near(of(3), 0.020) && near(of(5), 0.030));
        assert!(near(of(7), 0.030), "no faster than a smaller step");
        assert!((1..300).all(|rows| of(rows + 1) >= of(rows)));
        assert!(of(MOST_ROWS) > of(9));
    }

    #[test]
    fn one_outlier_changes_little() {
        let mut costs = costs(&[(1, 10); 9]);
        costs.note(1, Duration::from_secs(5));
        assert!(costs.of(1).unwrap() < 0.0135);
        assert_eq!((costs.measured(1), costs.measured(2)), (10, 0));
        (0..50).for_each(|_| costs.note(1, Duration::from_millis(40)));
        assert!((costs.of(1).unwrap() - 0.040).abs() < 0.002, "it follows");
    }
}
