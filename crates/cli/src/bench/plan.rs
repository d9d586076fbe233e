//! What is to be measured: every combination of what the lists ask for.

use formats::DType;

use super::lists::Pair;

/// Settings that a loaded engine is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) threads: usize,
    pub(super) key_type: DType,
    pub(super) value_type: DType,
}

/// Settings of one test within an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// Tokens handed over at once.
    pub(super) batch: usize,
    /// Tokens that go through the model at once.
    pub(super) ubatch: usize,
    /// Tokens in the sequence before.
    pub(super) depth: usize,
    pub(super) test: Test,
}

impl Case {
    /// Tokens of a step.
    pub(super) fn chunk(&self) -> usize {
        self.batch.min(self.ubatch)
    }

    /// As tables name it.
    pub(super) fn name(&self) -> String {
        match self.depth {
            0 => self.test.name(),
            depth => format!("{} @ d{depth}", self.test.name()),
        }
    }
}

/// One kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// A prompt of so many tokens.
    Prefill(usize),
    /// So many tokens, one after the other, by each of `sequences` sequences at once.
    Decode { tokens: usize, sequences: usize },
    /// A prompt, then an answer.
    Both(Pair),
    /// A prompt of a usual length until the first token of its answer is chosen.
    Class { name: &'static str, tokens: usize },
    /// A conversation of `turns` questions and answers.
    Turns {
        turns: usize,
        prompt: usize,
        answer: usize,
    },
    /// A sequence's state copied out.
    StateSave,
    /// A sequence's state put back.
    StateRestore,
}

/// The prompt classes: a question, a document, a code base.
pub(super) const CLASSES: [(&str, usize); 3] = [("short", 128), ("medium", 2048), ("long", 16_384)];

/// Tokens of each further question in a conversation.
pub(super) const QUESTION: usize = 64;

/// Tokens that start an answer (the template's header of the turn); history has others there.
pub(super) const HEADER: usize = 4;

impl Test {
    /// As tables name it, without the depth.
    pub(super) fn name(&self) -> String {
        match *self {
            Test::Prefill(tokens) => format!("pp{tokens}"),
            Test::Decode {
                tokens,
                sequences: 1,
            } => format!("tg{tokens}"),
            Test::Decode { tokens, sequences } => format!("tg{tokens} x{sequences}"),
            Test::Both(Pair { prompt, generated }) => format!("pp{prompt}+tg{generated}"),
            Test::Class { name, tokens } => format!("{name} prompt {tokens}"),
            Test::Turns { .. } => "turn".to_owned(),
            Test::StateSave => "state save".to_owned(),
            Test::StateRestore => "state restore".to_owned(),
        }
    }

    /// The most tokens one of its sequences holds, from an empty one.
    pub(super) fn length(&self) -> usize {
        match *self {
            Test::Prefill(tokens) | Test::Decode { tokens, .. } => tokens,
            Test::Both(Pair { prompt, generated }) => prompt + generated,
            Test::Class { tokens, .. } => tokens + 1,
            Test::Turns {
                turns,
                prompt,
                answer,
            } => prompt + turns * (QUESTION + HEADER + answer),
            Test::StateSave | Test::StateRestore => 1,
        }
    }

    /// Tokens that the prefix cache keeps beside the sequences: of each turn the answer as it was, and
    /// a page for each of its places.
    fn kept(&self) -> usize {
        match *self {
            Test::Turns { turns, answer, .. } => turns * (answer + 4 * 64),
            _ => 0,
        }
    }

    /// Its sequences.
    pub(super) fn sequences(&self) -> usize {
        match *self {
            Test::Decode { sequences, .. } => sequences,
            _ => 1,
        }
    }
}

/// The memory that all cases need together: the longest sequence, the most sequences, and the
/// most tokens at once.
pub(super) fn memory(cases: &[Case]) -> (usize, usize, usize) {
    let length = |case: &Case| case.depth + case.test.length();
    let most = |of: &dyn Fn(&Case) -> usize| cases.iter().map(of).max().unwrap_or(1).max(1);
    (
        most(&length),
        most(&|case| case.test.sequences()),
        most(&|case| case.test.sequences() * length(case) + case.test.kept()),
    )
}

/// Every combination: depths within batch sizes, tests within depths.
pub(super) fn cases(
    tests: &[Test],
    depths: &[usize],
    batches: &[usize],
    ubatches: &[usize],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for &batch in batches {
        for &ubatch in ubatches {
            for &depth in depths {
                cases.extend(tests.iter().map(|&test| Case {
                    batch,
                    ubatch,
                    depth,
                    test,
                }));
            }
        }
    }
    // Prompt classes and conversations begin with an empty sequence, states are of one size: they
    // do not depend on the depth.
    let first = depths.first().copied().unwrap_or(0);
    cases.retain(|case| case.depth == first || !case.test.ignores_depth());
    for case in &mut cases {
        if case.test.ignores_depth() {
            case.depth = 0;
        }
    }
    cases
}

impl Test {
    fn ignores_depth(&self) -> bool {
        matches!(
            self,
            Test::Class { .. } | Test::Turns { .. } | Test::StateSave | Test::StateRestore
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_crossed() {
        let decode = |sequences| Test::Decode {
            tokens: 4,
            sequences,
        };
        let short = Test::Class {
            name: "short",
            tokens: 128,
        };
        let cases = cases(
            &[Test::Prefill(8), decode(3), short],
            &[0, 32],
            &[64],
            &[16, 128],
        );
        let names: Vec<String> = cases
            .iter()
            .map(|case| format!("{} @{} {}", case.test.name(), case.depth, case.chunk()))
            .collect();
        let expected = [
            "pp8 @0 16",
            "tg4 x3 @0 16",
            "short prompt 128 @0 16",
            "pp8 @32 16",
            "tg4 x3 @32 16",
            "pp8 @0 64",
            "tg4 x3 @0 64",
            "short prompt 128 @0 64",
            "pp8 @32 64",
            "tg4 x3 @32 64",
        ];
        assert_eq!(names, expected);
        assert_eq!(memory(&cases), (129, 3, 129));
    }
}
