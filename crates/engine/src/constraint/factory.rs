//! What all constraints of a model share.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, ParserFactory, TokenParser};
use text::Tokenizer;

use super::automaton::{Automaton, message_of};
use super::workers::{STACK, Workers};
use super::{Constraint, ConstraintError, Grammar, GrammarLimits, vocabulary};

/// Compiles grammars for one model's vocabulary. Made once per model and shared: the vocabulary's
/// arrangement takes about a second and some tens of megabytes.
pub struct Grammars {
    factory: ParserFactory,
    limits: GrammarLimits,
    vocabulary: usize,
    workers: Arc<Workers>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Grammars")
            .field("vocabulary", &self.vocabulary)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Arranges a tokenizer's vocabulary, and starts `threads` threads that find masks beside the
    /// forward pass; with none, masks are found when they are fetched.
    ///
    /// # Errors
    /// When the vocabulary cannot be used with grammars.
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        limits: GrammarLimits,
        threads: usize,
    ) -> Result<Self, ConstraintError> {
        let vocabulary = tokenizer.vocabulary_size();
        let arranged = catch_unwind(AssertUnwindSafe(|| {
            let environment = vocabulary::environment(tokenizer)?;
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
                .map_err(|error| ConstraintError::Vocabulary(error.to_string()))
        }));
        let mut factory = arranged
            .unwrap_or_else(|panic| Err(ConstraintError::Vocabulary(message_of(panic.as_ref()))))?;
        factory.quiet();
        *factory.limits_mut() = limits.for_parser();
        Ok(Self {
            factory,
            limits,
            vocabulary,
            workers: Arc::new(Workers::start(threads)),
        })
    }

    /// The bounds on each grammar.
    pub fn limits(&self) -> &GrammarLimits {
        &self.limits
    }

    /// Compiles a grammar. Takes up to some tens of milliseconds: do it when a request comes in,
    /// not between two steps.
    ///
    /// # Errors
    /// When the grammar is wrong, not supported, or over a limit.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, ConstraintError> {
        let parsed = grammar.compiled_from(&self.limits)?;
        let parser = self.on_a_deep_stack(parsed)?;
        let automaton = Automaton::new(parser, self.vocabulary);
        Ok(Constraint::new(automaton, Arc::clone(&self.workers)))
    }

    /// The library recurses along the grammar; what the limits let through fits into [`STACK`].
    fn on_a_deep_stack(&self, grammar: TopLevelGrammar) -> Result<TokenParser, ConstraintError> {
        thread::scope(|scope| {
            let compile = || {
                let init = GrammarInit::Serialized(grammar);
                self.factory.create_parser_from_init_ext(
                    init,
                    Logger::new(0, 0),
                    InferenceCapabilities::default(),
                    self.factory.limits().clone(),
                )
            };
            let thread = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, compile)
                .map_err(|error| ConstraintError::Internal(error.to_string()))?;
            match thread.join() {
                Ok(Ok(parser)) => Ok(parser),
                Ok(Err(error)) => Err(ConstraintError::Refused(shortened(&error.to_string()))),
                Err(panic) => Err(ConstraintError::Refused(message_of(panic.as_ref()))),
            }
        })
    }
}

/// The library's messages may quote whole grammars.
fn shortened(message: &str) -> String {
    const MOST: usize = 600;
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} ...", &message[..end]),
        None => message.to_owned(),
    }
}
