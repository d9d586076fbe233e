//! The pre-tokenizer: cuts text into the pieces within which tokens may merge.
//!
//! The published patterns end in `\s+(?!\S)|\s+`: a run of spaces leaves its last one to the word
//! behind it. That look-ahead is the only thing that needs a backtracking engine, which is slow
//! on long runs and gives up on very long ones. So the pattern here ends in a plain `\s+`, and
//! [`Splitter::pieces`] hands the last space back, which is the same thing in linear time.

use regex::Regex;

use super::error::TokenizerError;

/// A family's way to cut text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreTokenizer {
    /// Qwen2, Qwen3 and Qwen3-Next: a combining mark is punctuation.
    Qwen2,
    /// Qwen3.5 and later: a combining mark belongs to its letter.
    Qwen35,
}

/// Without the common end `|\s+(?!\S)|\s+`.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+";
const SPACES: &str = r"|\s+";
const SPACES_WITH_LOOK_AHEAD: &str = r"|\s+(?!\S)|\s+";

impl PreTokenizer {
    const ALL: [Self; 2] = [Self::Qwen2, Self::Qwen35];

    /// The names in GGUF files (`tokenizer.ggml.pre`), for messages.
    pub const SUPPORTED: &str = "qwen2, qwen35";

    /// The pre-tokenizer with this name in GGUF files.
    ///
    /// # Errors
    /// When the name is not one of [`Self::SUPPORTED`].
    pub fn from_gguf_name(name: &str) -> Result<Self, TokenizerError> {
        match name {
            "qwen2" => Ok(Self::Qwen2),
            "qwen35" => Ok(Self::Qwen35),
            _ => Err(TokenizerError::UnsupportedPreTokenizer {
                found: name.to_owned(),
            }),
        }
    }

    /// The pre-tokenizer with this regular expression in `tokenizer.json`.
    ///
    /// # Errors
    /// When it is not the expression of a supported family.
    pub fn from_pattern(pattern: &str) -> Result<Self, TokenizerError> {
        Self::ALL
            .into_iter()
            .find(|family| {
                pattern.strip_suffix(SPACES_WITH_LOOK_AHEAD) == Some(family.pattern_head())
            })
            .ok_or_else(|| TokenizerError::UnsupportedPreTokenizer {
                found: pattern.to_owned(),
            })
    }

    fn pattern_head(self) -> &'static str {
        match self {
            Self::Qwen2 => QWEN2,
            Self::Qwen35 => QWEN35,
        }
    }
}

/// A [`PreTokenizer`], ready to run.
#[derive(Debug)]
pub(crate) struct Splitter {
    pattern: Regex,
}

impl Splitter {
    pub(crate) fn new(family: PreTokenizer) -> Self {
        let pattern = [family.pattern_head(), SPACES].concat();
        let pattern = Regex::new(&pattern).expect("the built-in patterns are valid");
        Self { pattern }
    }

    /// The pieces of `text`, in order and without gaps.
    pub(crate) fn pieces<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
            let length = match self.pattern.find_at(text, start) {
                Some(found) if found.start() == start => length_to_take(found.as_str(), rest),
                // Every character belongs to some alternative; if one did not, the text before
                // the next match would be a piece of its own.
                Some(found) => found.start() - start,
                None => rest.len(),
            };
            start += length;
            Some(&rest[..length])
        })
    }
}

/// How much of a match is the piece: a run of spaces before a word gives its last one back.
fn length_to_take(found: &str, rest: &str) -> usize {
    let is_run_of_spaces = found
        .chars()
        .all(|c| c.is_whitespace() && c != '\r' && c != '\n');
    if !is_run_of_spaces || found.len() == rest.len() {
        return found.len();
    }
    match found.char_indices().next_back() {
        Some((last, _)) if last > 0 => last,
        _ => found.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(family: PreTokenizer, text: &str, want: &[&str]) {
        let pieces: Vec<_> = Splitter::new(family).pieces(text).collect();
        assert_eq!(pieces, want, "{text:?}");
    }

    #[test]
    fn cuts_as_the_published_patterns_do() {
        use PreTokenizer::Qwen35;
        check(Qwen35, "", &[]);
        check(Qwen35, "Hello  world", &["Hello", " ", " world"]);
        check(Qwen35, "a   ", &["a", "   "]);
        check(Qwen35, "a \n b", &["a", " \n", " b"]);
        check(Qwen35, "a\u{a0}\u{a0}1", &["a", "\u{a0}", "\u{a0}", "1"]);
        check(
            Qwen35,
            "it's 42!\n\n",
            &["it", "'s", " ", "4", "2", "!\n\n"],
        );
        check(Qwen35, "IT'S", &["IT", "'S"]);
        check(Qwen35, "\tx", &["\tx"]);
    }

    #[test]
    fn marks_belong_to_letters_since_qwen35() {
        let text = "क्षि";
        check(PreTokenizer::Qwen35, text, &[text]);
        check(PreTokenizer::Qwen2, text, &["क", "\u{94d}ष", "\u{93f}"]);
    }

    #[test]
    fn names_and_patterns_are_known() {
        assert_eq!(
            PreTokenizer::from_gguf_name("qwen35").unwrap(),
            PreTokenizer::Qwen35
        );
        let error = PreTokenizer::from_gguf_name("llama-bpe").unwrap_err();
        assert!(error.to_string().contains("qwen2, qwen35"), "{error}");
        let pattern = [QWEN2, SPACES_WITH_LOOK_AHEAD].concat();
        assert_eq!(
            PreTokenizer::from_pattern(&pattern).unwrap(),
            PreTokenizer::Qwen2
        );
        assert!(PreTokenizer::from_pattern(r"\w+").is_err());
    }
}
