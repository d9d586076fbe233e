//! Which rows go through which expert.

use std::cmp::Reverse;
use std::ops::Range;

use super::Routing;

/// The rows of each expert, and where each choice of each row is among them.
pub(super) struct Plan {
    /// Rows of the input, grouped by expert. The place in this list is a choice's slot.
    pub(super) rows: Vec<u32>,
    /// The used experts and their slots, those with the most rows first.
    pub(super) groups: Vec<(usize, Range<usize>)>,
    /// The slot that computes a choice.
    slot_of: Vec<u32>,
}

impl Plan {
    pub(super) fn new(routing: &Routing, experts: usize) -> Self {
        let mut next = vec![0; experts + 1];
        for &(expert, _) in &routing.choices {
            next[expert as usize + 1] += 1;
        }
        for expert in 0..experts {
            next[expert + 1] += next[expert];
        }
        let mut groups: Vec<(usize, Range<usize>)> = next
            .windows(2)
            .enumerate()
            .filter(|(_, bounds)| bounds[0] < bounds[1])
            .map(|(expert, bounds)| (expert, bounds[0]..bounds[1]))
            .collect();
        groups.sort_by_key(|(_, slots)| Reverse(slots.len()));
        let mut rows = vec![0; routing.choices.len()];
        let mut slot_of = vec![0; routing.choices.len()];
        for row in 0..routing.rows() {
            for choice in routing.range(row) {
                let slot = &mut next[routing.choices[choice].0 as usize];
                rows[*slot] = row as u32;
                slot_of[choice] = *slot as u32;
                *slot += 1;
            }
        }
        Self {
            rows,
            groups,
            slot_of,
        }
    }

    /// The slots of a row's choices, in their order.
    pub(super) fn slots(&self, routing: &Routing, row: usize) -> &[u32] {
        &self.slot_of[routing.range(row)]
    }
}

#[cfg(test)]
mod tests {
    use tensor::HostRouting;

    use super::*;

    #[test]
    fn every_choice_has_a_slot_of_its_own() {
        // As many choices in each row, and not.
        for lens in [[2, 2, 2], [3, 0, 3], [0, 5, 1], [1, 2, 3]] {
            check(lens);
        }
    }

    fn check(lens: [usize; 3]) {
        let choices = [(3, 0.5), (1, 0.5), (1, 0.9), (2, 0.1), (1, 0.6), (3, 0.4)];
        let mut rest = &choices[..];
        let rows = lens.map(|len| {
            let (row, after) = rest.split_at(len);
            rest = after;
            row.to_vec()
        });
        let routing = Routing::new(HostRouting {
            choices: rows.to_vec(),
        });
        let plan = Plan::new(&routing, 5);
        let sizes: Vec<_> = plan.groups.iter().map(|(e, s)| (*e, s.len())).collect();
        assert_eq!(sizes, [(1, 3), (3, 2), (2, 1)]);
        for (row, len) in lens.into_iter().enumerate() {
            assert_eq!(routing.row(row).len(), len);
            for (choice, slot) in plan.slots(&routing, row).iter().enumerate() {
                assert_eq!(plan.rows[*slot as usize], row as u32);
                let expert = routing.row(row)[choice].0 as usize;
                let group = plan.groups.iter().find(|group| group.0 == expert);
                assert!(group.unwrap().1.contains(&(*slot as usize)));
            }
        }
    }
}
