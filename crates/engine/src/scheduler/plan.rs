//! Who gets how many rows of a step. Only numbers in, only numbers out.

/// What a sequence could use in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Want {
    /// Rows until its next token can be chosen; 1 for a sequence that is answering.
    pub(super) rows: usize,
    /// Rows until its state must be kept, so that a chunk has to end there.
    pub(super) until_cut: usize,
    /// Whether it reads its prompt.
    pub(super) is_prefill: bool,
    /// Steps since it last had rows.
    pub(super) waited: u64,
    /// Its place among all sequences; lower goes first.
    pub(super) rank: i64,
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) rows: usize,
    /// The most for one prompt.
    pub(super) chunk: usize,
}

/// The rows of each sequence, in the order of `wants`.
///
/// Answers come first, those that waited longest before the others; prompts share what is left,
/// but at least a quarter, so that answers cannot keep them out. Among prompts the one with the
/// fewest chunks to go is first, since that is how the average one is done soonest; each step of
/// waiting counts as a chunk less, so that long ones get their turn.
pub(super) fn plan(wants: &[Want], budget: Budget) -> Vec<usize> {
    let mut rows = vec![0; wants.len()];
    let of_kind = |is_prefill: bool| -> Vec<usize> {
        (0..wants.len())
            .filter(|&at| wants[at].is_prefill == is_prefill)
            .collect()
    };
    let (mut answers, mut prompts) = (of_kind(false), of_kind(true));
    let reserve = if prompts.is_empty() {
        0
    } else {
        (budget.rows / 4).max(usize::from(budget.rows > 1))
    };
    let mut left = budget.rows.max(1);

    answers.sort_by_key(|&at| (std::cmp::Reverse(wants[at].waited), wants[at].rank));
    for at in answers {
        if left > reserve {
            rows[at] = 1;
            left -= 1;
        }
    }
    let chunk = budget.chunk.max(1);
    prompts.sort_by_key(|&at| {
        let chunks = wants[at].rows.div_ceil(chunk) as i64;
        let urgency = chunks.saturating_sub_unsigned(wants[at].waited);
        (urgency, wants[at].rank)
    });
    for at in prompts {
        let Want {
            rows: wanted,
            until_cut,
            ..
        } = wants[at];
        rows[at] = wanted.min(until_cut).min(chunk).min(left);
        left -= rows[at];
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rank: i64) -> Want {
        Want {
            rows: 1,
            until_cut: usize::MAX,
            is_prefill: false,
            waited: 1,
            rank,
        }
    }

    fn prompt(rows: usize, waited: u64) -> Want {
        Want {
            rows,
            until_cut: usize::MAX,
            is_prefill: true,
            waited,
            rank: 0,
        }
    }

    fn check(wants: &[Want], rows: usize, chunk: usize, expected: &[usize]) {
        let planned = plan(wants, Budget { rows, chunk });
        assert_eq!(
            planned, expected,
            "{wants:?}, {rows} rows, chunks of {chunk}"
        );
    }

    #[test]
    fn answers_come_first_and_prompts_fill_the_rest() {
        check(&[answer(0), answer(1)], 8, 4, &[1, 1]);
        check(&[prompt(100, 0), answer(0)], 8, 8, &[7, 1]);
        check(&[prompt(100, 0), answer(0)], 8, 4, &[4, 1]);
        check(&[prompt(100, 0), prompt(3, 0)], 8, 8, &[5, 3]);
    }

    #[test]
    fn chunks_end_where_states_are_kept() {
        let cut = Want {
            until_cut: 3,
            ..prompt(100, 0)
        };
        check(&[cut, prompt(100, 0)], 8, 8, &[3, 5]);
    }

    #[test]
    fn nobody_is_kept_out() {
        let mut wants = vec![answer(0); 8];
        wants.push(prompt(100, 0));
        check(&wants, 4, 4, &[1, 1, 1, 0, 0, 0, 0, 0, 1]);
        wants[7].waited = 2;
        check(&wants, 4, 4, &[1, 1, 0, 0, 0, 0, 0, 1, 1]);
        // A long prompt beats ever new short ones in the end.
        check(&[prompt(40, 10), prompt(4, 0)], 4, 4, &[4, 0]);
        check(&[prompt(40, 5), prompt(4, 0)], 4, 4, &[0, 4]);
    }

    #[test]
    fn even_one_row_goes_to_someone() {
        check(&[answer(0), prompt(9, 0)], 1, 4, &[1, 0]);
        check(&[prompt(9, 0)], 1, 4, &[1]);
        check(&[], 1, 4, &[]);
    }
}
