//! Which of a layer's experts have copies on the accelerator, and which are to have them: pure bookkeeping.

/// Of a use's weight, what is left of it a step later: half of it after 64.
const FADES: f32 = 0.989_228;

/// By how many uses an expert must be ahead of the one whose slot it gets. A copy costs about three times the
/// reading that one hit spares (the expert is read, written for the link and read again), much of it beside
/// the accelerator's computing; and counts so close are the same.
const AHEAD: f32 = 2.0;

/// An expert and the slot that it is brought into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bring {
    pub(crate) expert: usize,
    pub(crate) slot: usize,
    /// Whether another expert had that slot.
    pub(crate) replaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Empty,
    Coming(usize),
    Here(usize),
}

/// A layer's slots, and how often each of its experts was used of late.
#[derive(Debug, Clone)]
pub(crate) struct Residents {
    uses: Vec<f32>,
    slots: Vec<Slot>,
    slot_of: Vec<Option<usize>>,
    is_changed: bool,
}

impl Residents {
    pub(crate) fn new(experts: usize, slots: usize) -> Self {
        Self {
            uses: vec![0.0; experts],
            slots: vec![Slot::Empty; slots],
            slot_of: vec![None; experts],
            is_changed: false,
        }
    }

    /// Whether an expert can be used from its slot.
    pub(crate) fn has(&self, expert: usize) -> bool {
        self.slot_of.get(expert).is_some_and(Option::is_some)
    }

    /// Where each expert can be used, if that is not what it was when this was asked before.
    pub(crate) fn changed(&mut self) -> Option<&[Option<usize>]> {
        std::mem::take(&mut self.is_changed).then_some(&self.slot_of)
    }

    /// Slots whose experts are on their way.
    pub(crate) fn coming(&self) -> Vec<usize> {
        let slots = self.slots.iter().enumerate();
        let coming = slots.filter(|(_, slot)| matches!(slot, Slot::Coming(_)));
        coming.map(|(slot, _)| slot).collect()
    }

    /// Takes note that the expert of a slot has come.
    pub(crate) fn come(&mut self, slot: usize) {
        if let Some(Slot::Coming(expert)) = self.slots.get(slot).copied() {
            self.slots[slot] = Slot::Here(expert);
            self.slot_of[expert] = Some(slot);
            self.is_changed = true;
        }
    }

    /// Takes note of a step that used these experts, however often each.
    pub(crate) fn used(&mut self, experts: &[usize]) {
        self.uses.iter_mut().for_each(|uses| *uses *= FADES);
        for &expert in experts {
            if let Some(uses) = self.uses.get_mut(expert) {
                *uses += 1.0;
            }
        }
    }

    /// Which of these experts, that were not there, is worth bringing most, if any is.
    pub(crate) fn wanted(&self, missed: &[usize]) -> Option<Bring> {
        let is_coming = |expert: usize| self.slots.contains(&Slot::Coming(expert));
        let candidates = missed.iter().copied();
        let candidates = candidates
            .filter(|&expert| expert < self.uses.len() && !self.has(expert) && !is_coming(expert));
        // Of equals the first.
        let expert = candidates.reduce(|best, other| {
            if self.uses[other] > self.uses[best] {
                other
            } else {
                best
            }
        })?;
        if let Some(slot) = self.slots.iter().position(|slot| *slot == Slot::Empty) {
            return Some(Bring {
                expert,
                slot,
                replaces: false,
            });
        }
        let here = self.slots.iter().enumerate();
        let here = here.filter_map(|(slot, what)| match what {
            Slot::Here(expert) => Some((slot, self.uses[*expert])),
            Slot::Empty | Slot::Coming(_) => None,
        });
        let (slot, least) = here.min_by(|a, b| a.1.total_cmp(&b.1))?;
        (self.uses[expert] > least + AHEAD).then_some(Bring {
            expert,
            slot,
            replaces: true,
        })
    }

    /// Takes note that an expert will be brought: what its slot had cannot be used any more.
    pub(crate) fn begin(&mut self, bring: Bring) {
        if let Slot::Here(old) = self.slots[bring.slot] {
            self.slot_of[old] = None;
            self.is_changed = true;
        }
        self.slots[bring.slot] = Slot::Coming(bring.expert);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step that uses `experts`: misses are brought as long as they are wanted, and come at once.
    fn step(residents: &mut Residents, experts: &[usize]) -> Vec<Bring> {
        residents.used(experts);
        let mut brought = Vec::new();
        while let Some(bring) = residents.wanted(experts) {
            residents.begin(bring);
            brought.push(bring);
        }
        for slot in residents.coming() {
            residents.come(slot);
        }
        brought
    }

    fn here(residents: &Residents) -> Vec<usize> {
        (0..10).filter(|&expert| residents.has(expert)).collect()
    }

    #[test]
    fn empty_slots_are_filled_at_first_use() {
        let mut residents = Residents::new(10, 3);
        assert_eq!(residents.changed(), None);
        step(&mut residents, &[4, 7]);
        assert_eq!(here(&residents), [4, 7]);
        assert!(residents.changed().is_some_and(|map| map[4].is_some()));
        assert_eq!(residents.changed(), None);
        // One slot for two: the first.
        let brought = step(&mut residents, &[1, 4, 2]);
        assert_eq!(brought.len(), 1);
        assert_eq!(here(&residents), [1, 4, 7]);
    }

    #[test]
    fn only_who_is_well_ahead_gets_anothers_slot() {
        let mut residents = Residents::new(10, 2);
        step(&mut residents, &[0, 1]);
        step(&mut residents, &[0]);
        // Once and twice are not two ahead of once.
        for _ in 0..2 {
            assert!(step(&mut residents, &[2]).is_empty());
        }
        let brought = step(&mut residents, &[2, 3]);
        let expected = Bring {
            expert: 2,
            slot: 1,
            replaces: true,
        };
        assert_eq!(brought, [expected]);
        assert_eq!(here(&residents), [0, 2]);
    }

    #[test]
    fn what_was_used_long_ago_fades() {
        let mut residents = Residents::new(10, 1);
        for _ in 0..50 {
            step(&mut residents, &[5]);
        }
        let steps = (0..1000).position(|_| !step(&mut residents, &[6]).is_empty());
        let steps = steps.unwrap();
        assert!((15..64).contains(&steps), "{steps}");
        // Two that take turns do not chase each other.
        let mut swaps = 0;
        for _ in 0..1000 {
            swaps += step(&mut residents, &[5]).len() + step(&mut residents, &[6]).len();
        }
        assert!(swaps <= 1, "{swaps}");
    }

    #[test]
    fn a_slot_is_of_nobody_until_its_expert_has_come() {
        let mut residents = Residents::new(10, 1);
        step(&mut residents, &[0]);
        (0..4).for_each(|_| residents.used(&[1]));
        let bring = residents.wanted(&[1]).unwrap();
        residents.begin(bring);
        assert!(!residents.has(0) && !residents.has(1));
        assert_eq!(residents.changed().map(<[_]>::len), Some(10));
        // It is not brought twice, and its slot is not given away.
        (0..40).for_each(|_| residents.used(&[2]));
        assert_eq!(residents.wanted(&[1]), None);
        assert_eq!(residents.wanted(&[2]), None);
        residents.come(0);
        assert!(residents.has(1));
        residents.come(0);
        assert!(residents.wanted(&[2]).is_some());
    }

    #[test]
    fn no_slots_and_experts_that_there_are_not_change_nothing() {
        let mut residents = Residents::new(4, 0);
        assert!(step(&mut residents, &[0, 9]).is_empty());
        assert!(!residents.has(9));
        let mut residents = Residents::new(4, 2);
        assert!(step(&mut residents, &[9]).is_empty());
    }
}
