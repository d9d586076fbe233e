//! Where a prompt's state is worth keeping.

use crate::cache::{Boundary, BoundaryKind, CacheSettings};

/// The places of a prompt where its state is kept, ascending.
///
/// A chunk has to end at each, and each costs a copy of the state. So only four are always
/// taken: behind the system message, behind the last question and the last message, and at the
/// prompt's end. Others are taken when they are far enough from the ones around them.
pub(super) fn of_prompt(
    prompt: &[u32],
    boundaries: &[Boundary],
    settings: &CacheSettings,
) -> Vec<Boundary> {
    let is_question = |b: &&Boundary| matches!(b.kind, BoundaryKind::EndOfQuestion(_));
    let last_question = boundaries.iter().rfind(is_question).map(|b| b.offset);
    let is_message = |b: &&Boundary| b.kind.message().is_some();
    let last_message = boundaries.iter().rfind(is_message).map(|b| b.offset);
    let is_needed = |b: &Boundary| {
        b.kind == BoundaryKind::EndOfSystem
            || [last_question, last_message].contains(&Some(b.offset))
    };
    let end = Boundary {
        offset: prompt.len(),
        kind: BoundaryKind::StartOfGeneration,
    };
    let mut cuts: Vec<Boundary> = boundaries
        .iter()
        .filter(|b| is_needed(b) && (1..prompt.len()).contains(&b.offset))
        .copied()
        .collect();
    cuts.push(end);
    cuts.dedup_by_key(|b| b.offset);

    let tail = (1..=settings.tail).rev().filter_map(|back| {
        let offset = (prompt.len() / settings.spacing.max(1) + 1).checked_sub(back)?;
        Some(Boundary {
            offset: offset * settings.spacing,
            kind: BoundaryKind::Spaced,
        })
    });
    // Messages' ends first: conversations part there rather than anywhere.
    let others: Vec<Boundary> = boundaries.iter().copied().chain(tail).collect();
    for other in others {
        let at = cuts.partition_point(|cut| cut.offset < other.offset);
        let before = at.checked_sub(1).map_or(0, |at| cuts[at].offset);
        let is_far = other.offset >= before + settings.gap
            && cuts
                .get(at)
                .is_some_and(|next| other.offset + settings.gap <= next.offset);
        if is_far {
            cuts.insert(at, other);
        }
    }
    cuts
}

/// Puts a place among those of a prompt.
pub(super) fn add(cuts: &mut Vec<Boundary>, cut: Boundary) {
    let at = cuts.partition_point(|other| other.offset < cut.offset);
    if cuts.get(at).is_none_or(|next| next.offset != cut.offset) {
        cuts.insert(at, cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BoundaryKind::*;

    fn check(prompt: usize, boundaries: &[(usize, BoundaryKind)], expected: &[usize]) {
        let settings = CacheSettings {
            gap: 100,
            spacing: 1000,
            tail: 2,
            ..CacheSettings::default()
        };
        let boundaries: Vec<Boundary> = boundaries
            .iter()
            .map(|&(offset, kind)| Boundary { offset, kind })
            .collect();
        let cuts = of_prompt(&vec![0; prompt], &boundaries, &settings);
        let offsets: Vec<usize> = cuts.iter().map(|cut| cut.offset).collect();
        assert_eq!(offsets, expected, "{prompt} tokens, {boundaries:?}");
    }

    #[test]
    fn system_last_question_last_message_and_end_are_always_kept() {
        check(50, &[], &[50]);
        check(
            50,
            &[
                (10, EndOfSystem),
                (20, EndOfMessage(1)),
                (30, EndOfMessage(2)),
                (45, EndOfMessage(3)),
            ],
            &[10, 45, 50],
        );
        check(
            50,
            &[
                (10, EndOfSystem),
                (15, EndOfQuestion(1)),
                (20, EndOfQuestion(2)),
                (30, EndOfMessage(3)),
                (40, EndOfMessage(4)),
            ],
            &[10, 20, 40, 50],
        );
        check(50, &[(50, EndOfMessage(0))], &[50]);
        check(50, &[(0, EndOfMessage(0))], &[50]);
    }

    #[test]
    fn others_are_kept_when_they_are_far_apart() {
        check(
            800,
            &[
                (150, EndOfMessage(0)),
                (200, EndOfMessage(1)),
                (300, EndOfMessage(2)),
                (790, EndOfMessage(3)),
            ],
            &[150, 300, 790, 800],
        );
        check(
            800,
            &[(400, StartOfToolCall), (790, EndOfMessage(0))],
            &[400, 790, 800],
        );
    }

    #[test]
    fn long_prompts_have_places_in_their_tail() {
        check(5500, &[], &[4000, 5000, 5500]);
        check(5050, &[], &[4000, 5050]);
        check(1500, &[], &[1000, 1500]);
    }
}
