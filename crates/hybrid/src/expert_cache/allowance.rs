//! How many bytes of experts may be brought in a step, shared fairly by the layers.

/// What may be brought to an accelerator. Layers ask in order, and a step begins where an earlier one, or the
/// same, asks again.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    per_step: usize,
    left: usize,
    last: Option<usize>,
    /// Layers before this one have had theirs in the step before.
    from: usize,
    /// The first layer that got nothing.
    refused: Option<usize>,
}

impl Allowance {
    pub(crate) fn new(per_step: usize) -> Self {
        Self {
            per_step,
            left: per_step,
            last: None,
            from: 0,
            refused: None,
        }
    }

    /// A layer's turn.
    pub(crate) fn visit(&mut self, layer: usize) {
        if self.last.is_some_and(|last| layer <= last) {
            self.left = self.per_step;
            self.from = self.refused.take().unwrap_or(0);
        }
        self.last = Some(layer);
    }

    /// Takes `bytes` for the layer whose turn it is. One expert a step may be brought however large it is.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let layer = self.last.unwrap_or(0);
        if self.per_step == 0 || layer < self.from {
            return false;
        }
        if bytes <= self.left || self.left == self.per_step {
            self.left = self.left.saturating_sub(bytes.max(1));
            return true;
        }
        self.refused.get_or_insert(layer);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of four layers, that all want one expert of `bytes`, get it in each of some steps.
    fn steps(per_step: usize, bytes: usize, steps: usize) -> Vec<Vec<usize>> {
        let mut allowance = Allowance::new(per_step);
        let mut step = |_| {
            let gets = |&layer: &usize| {
                allowance.visit(layer);
                allowance.take(bytes)
            };
            (0..4).filter(gets).collect()
        };
        (0..steps).map(&mut step).collect()
    }

    #[test]
    fn layers_take_turns() {
        assert_eq!(steps(100, 30, 3), [vec![0, 1, 2], vec![3], vec![0, 1, 2]]);
        assert_eq!(steps(50, 30, 5), [[0], [1], [2], [3], [0]]);
        assert_eq!(steps(1000, 30, 2), [[0, 1, 2, 3], [0, 1, 2, 3]]);
    }

    #[test]
    fn one_is_brought_however_large_and_none_where_nothing_may_be() {
        assert_eq!(steps(10, 30, 3), [[0], [1], [2]]);
        assert_eq!(steps(0, 30, 2), [const { Vec::<usize>::new() }; 2]);
    }

    #[test]
    fn a_layer_that_is_alone_begins_a_step_each_time() {
        let mut allowance = Allowance::new(50);
        for _ in 0..3 {
            allowance.visit(0);
            assert!(allowance.take(30));
            assert!(!allowance.take(30));
        }
    }
}
