//! What a grammar may cost.

use llguidance::api::ParserLimits;

use super::ConstraintError;

/// Bounds on a request's grammar, all counted, so that the same grammar is always refused or
/// always taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarLimits {
    /// Bytes of the grammar's text.
    pub bytes: usize,
    /// Levels of brackets.
    pub depth: usize,
    /// Symbols of all productions.
    pub symbols: usize,
    /// Work to compile the terminals; about 50,000 a millisecond.
    pub compile_work: u64,
    /// Work on terminals for one mask; about 14,000 a millisecond.
    pub mask_work: u64,
    /// Grammar items for one mask; about 20,000 a millisecond.
    pub mask_items: usize,
    /// States of the terminals' automaton in one answer; 1 to 2 kB each.
    pub states: usize,
}

impl Default for GrammarLimits {
    /// A megabyte of schema, a few tens of milliseconds to compile, at most about 15 ms for a mask
    /// and 50 MB of memory.
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            depth: 256,
            symbols: 500_000,
            compile_work: 1_000_000,
            mask_work: 200_000,
            mask_items: 50_000,
            states: 30_000,
        }
    }
}

impl GrammarLimits {
    pub(super) fn for_parser(&self) -> ParserLimits {
        ParserLimits {
            initial_lexer_fuel: self.compile_work,
            step_lexer_fuel: self.mask_work,
            step_max_items: self.mask_items,
            max_lexer_states: self.states,
            max_grammar_size: self.symbols,
            verbose_errors: false,
            ..ParserLimits::default()
        }
    }

    /// Refuses a text that is too large, or nests so deep that parsing it would use up the stack.
    /// Brackets in strings count too: only text with hundreds of lone ones is refused for that.
    pub(super) fn check(&self, text: &str) -> Result<(), ConstraintError> {
        if text.len() > self.bytes {
            return Err(ConstraintError::TooLarge {
                bytes: text.len(),
                most: self.bytes,
            });
        }
        let (mut depth, mut deepest) = (0usize, 0);
        for byte in text.bytes() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        if deepest > self.depth {
            return Err(ConstraintError::TooDeep {
                depth: deepest,
                most: self.depth,
            });
        }
        Ok(())
    }
}
