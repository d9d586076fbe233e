//! Why a constraint cannot be had, or cannot go on.

use text::output::ToolGrammarError;

use super::gbnf::GbnfError;

/// What can go wrong with structured output. Each ends its own request only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// More text than a grammar may have.
    #[error("the grammar has {bytes} bytes, and at most {most} are compiled; make it smaller")]
    TooLarge {
        /// Of the grammar's text.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// Brackets within brackets beyond what a parser should be asked to follow.
    #[error("the grammar nests {depth} deep, and at most {most} levels are compiled")]
    TooDeep {
        /// Levels of brackets.
        depth: usize,
        /// The bound.
        most: usize,
    },
    /// The grammar is wrong, uses what is not supported, or takes too much work to compile.
    #[error("the grammar cannot be compiled: {0}")]
    Refused(String),
    /// The GBNF text is wrong or uses what cannot be converted.
    #[error("the GBNF grammar cannot be compiled: {0}")]
    Gbnf(#[from] GbnfError),
    /// The tools cannot be made into a grammar.
    #[error("the tools cannot be enforced: {0}")]
    Tools(#[from] ToolGrammarError),
    /// The tokens that may follow take too much work to find.
    #[error(
        "the grammar is too complex to follow: {0}; use fewer alternatives, or bounds on repetitions"
    )]
    TooComplex(String),
    /// A token that the grammar does not allow here.
    #[error("token {token} does not follow the grammar")]
    Violated {
        /// The token.
        token: u32,
    },
    /// The vocabulary cannot be used with grammars.
    #[error("this vocabulary cannot be used with grammars: {0}")]
    Vocabulary(String),
    /// A mistake in the program. The request ends, others go on.
    #[error("following the grammar failed: {0}")]
    Internal(String),
}
