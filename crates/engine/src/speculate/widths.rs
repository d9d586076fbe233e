//! What drafts cost to verify, by how many sequences a step has and how many drafts.

use std::collections::BTreeMap;

use super::costs::{Costs, Latest};

/// What a further row is guessed to cost, in plain steps, before any was tried. Low, so that it is
/// tried.
const GUESSED_ROW: f64 = 0.1;

/// What counts of a further row's cost that was measured so often (beginning with never): one bad
/// measurement must not keep it from being tried again.
const TRUSTED: [f64; 4] = [0.0, 0.8, 0.87, 0.94];

/// Costs of steps. Those with drafts are remembered in plain steps of as many sequences, measured
/// in the same minutes: contexts grow and neighbours come and go, but the ratio hardly changes.
#[derive(Debug, Clone, Default)]
pub struct Widths {
    /// Seconds of steps without drafts, by sequences.
    plain: Costs,
    /// For each number of sequences and of drafts, in plain steps.
    ratios: BTreeMap<usize, BTreeMap<usize, Latest>>,
}

impl Widths {
    /// Notes how many seconds a step took.
    pub fn note(&mut self, sequences: usize, drafts: usize, seconds: f64) {
        if drafts == 0 {
            self.plain.note(sequences, seconds);
        } else if let Some(plain) = self.plain.of(sequences) {
            let of_sequences = self.ratios.entry(sequences).or_default();
            of_sequences
                .entry(drafts)
                .or_default()
                .note(seconds / plain);
        }
    }

    /// How often plain steps of so many sequences were measured.
    pub fn plain_measured(&self, sequences: usize) -> u32 {
        self.plain.measured(sequences)
    }

    /// The seconds that a step may take; `None` before any measurement. More drafts never take
    /// less.
    pub fn of(&self, sequences: usize, drafts: usize) -> Option<f64> {
        let plain = self.plain.of(sequences)?;
        if drafts == 0 {
            return Some(plain);
        }
        // Where this number of sequences was never tried with drafts, a row costs what it costs
        // with the number closest to it.
        let closest = self
            .ratios
            .iter()
            .min_by_key(|(known, _)| known.abs_diff(sequences));
        let Some((&known, ratios)) = closest else {
            return Some(plain * (1.0 + GUESSED_ROW * drafts as f64));
        };
        let ratio = interpolate(ratios, drafts);
        if known == sequences {
            return Some(plain * ratio);
        }
        let further = (ratio - 1.0) * self.plain.of(known).unwrap_or(plain);
        Some(plain + further)
    }
}

/// The ratio for so many drafts, along a line that never falls from one plain step for none.
fn interpolate(ratios: &BTreeMap<usize, Latest>, drafts: usize) -> f64 {
    let mut below = (0, 1.0);
    for (&known, latest) in ratios {
        let Some(usual) = latest.usual() else {
            continue;
        };
        let trusted = TRUSTED.get(latest.count() as usize).unwrap_or(&1.0);
        let ratio = (1.0 + trusted * (usual - 1.0)).max(below.1);
        if known == drafts {
            return ratio;
        }
        if known > drafts {
            let share = (drafts - below.0) as f64 / (known - below.0) as f64;
            return below.1 + share * (ratio - below.1);
        }
        below = (known, ratio);
    }
    // Beyond what was tried, rows cost what they cost so far, and a little less: let it be tried.
    let (known, ratio) = below;
    let slope = if known > 0 {
        0.9 * (ratio - 1.0) / known as f64
    } else {
        GUESSED_ROW
    };
    ratio + slope * (drafts - known) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn ratios_follow_the_plain_steps() {
        let mut widths = Widths::default();
        assert_eq!(widths.of(1, 2), None);
        widths.note(1, 0, 0.010);
        assert!(near(widths.of(1, 2), 0.012), "a guess");
        (0..4).for_each(|_| widths.note(1, 4, 0.018));
        assert!(near(widths.of(1, 4), 0.018) && near(widths.of(1, 2), 0.014));
        assert!((0..20).all(|drafts| widths.of(1, drafts + 1) >= widths.of(1, drafts)));
        // Everything has become slower.
        (0..20).for_each(|_| widths.note(1, 0, 0.020));
        assert!(near(widths.of(1, 4), 0.036));
        // With two sequences a row costs as much more as with one.
        (0..20).for_each(|_| widths.note(2, 0, 0.030));
        assert!(near(widths.of(2, 4), 0.046));
        (0..4).for_each(|_| widths.note(2, 4, 0.060));
        assert!(near(widths.of(2, 4), 0.060));
        assert_eq!(
            (widths.plain_measured(2), widths.plain_measured(3)),
            (20, 0)
        );
    }
}
