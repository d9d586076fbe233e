//! Counts of values by size.

/// How many values there were up to each bound, as Prometheus wants them.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is for larger values.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// An empty one with these ascending bounds.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        let at = self.bounds.partition_point(|&bound| bound < value);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
            self.sum += value;
        }
    }

    /// The bounds, each with the number of values up to it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut so_far = 0;
        self.bounds
            .iter()
            .zip(&self.counts)
            .map(move |(&bound, count)| {
                so_far += count;
                (bound, so_far)
            })
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_up_to_their_bounds() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative, [(1.0, 2), (2.0, 3)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 12.0));
    }
}
