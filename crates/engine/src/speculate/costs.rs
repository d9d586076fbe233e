//! How long steps take by how many rows they have, by experience.

use std::collections::VecDeque;

/// Steps with more rows count as having this many.
const MOST_ROWS: usize = 256;
/// The latest measurements of each number of rows that count.
const REMEMBERED: usize = 12;
/// What a further row is guessed to cost, in steps of one row, before it was ever tried. Low, so
/// that it is tried.
const GUESSED_ROW: f64 = 0.1;

/// The latest measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest {
    values: VecDeque<f64>,
    /// The mean of their middle half: neighbours on the machine make some of them several times too
    /// long. It is asked for much more often than it changes.
    usual: f64,
    count: u32,
}

impl Latest {
    pub(super) fn note(&mut self, value: f64) {
        if self.values.len() == REMEMBERED {
            self.values.pop_front();
        }
        self.values.push_back(value);
        self.count = self.count.saturating_add(1);
        let mut sorted = [0.0; REMEMBERED];
        let sorted = &mut sorted[..self.values.len()];
        sorted
            .iter_mut()
            .zip(&self.values)
            .for_each(|(to, from)| *to = *from);
        sorted.sort_by(f64::total_cmp);
        let edge = sorted.len() / 4;
        let middle = &sorted[edge..sorted.len() - edge];
        self.usual = middle.iter().sum::<f64>() / middle.len() as f64;
    }

    /// What is usual, if there was any.
    pub(super) fn usual(&self) -> Option<f64> {
        (self.count > 0).then_some(self.usual)
    }

    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

/// Measured seconds by the number of rows.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// Ascending by rows; with what is usual.
    known: Vec<(usize, f64)>,
    latest: Vec<Latest>,
}

impl Costs {
    /// Notes a measurement.
    pub fn note(&mut self, rows: usize, seconds: f64) {
        let rows = rows.clamp(1, MOST_ROWS);
        let at = match self.known.binary_search_by_key(&rows, |&(rows, _)| rows) {
            Ok(at) => at,
            Err(at) => {
                self.known.insert(at, (rows, seconds));
                self.latest.insert(at, Latest::default());
                at
            }
        };
        self.latest[at].note(seconds);
        self.known[at].1 = self.latest[at].usual().unwrap_or(seconds);
    }

    /// How often steps of so many rows were measured.
    pub fn measured(&self, rows: usize) -> u32 {
        self.known
            .binary_search_by_key(&rows, |&(rows, _)| rows)
            .map_or(0, |at| self.latest[at].count())
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
            costs.note(rows, ms as f64 / 1e3);
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
        costs.note(1, 5.0);
        assert!(costs.of(1).unwrap() < 0.0135);
        assert_eq!((costs.measured(1), costs.measured(2)), (10, 0));
        (0..50).for_each(|_| costs.note(1, 0.040));
        assert!((costs.of(1).unwrap() - 0.040).abs() < 0.002, "it follows");
    }
}
