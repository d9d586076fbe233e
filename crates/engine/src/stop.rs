//! Stop strings: the answer ends before the first of them.
//!
//! The text comes in pieces of any size. What was handed out is final, so what may be the
//! beginning of a stop string waits, and nothing else does. However the text is cut, the same text
//! comes out: it is cut where a stop string is complete first; of those complete there, before the
//! longest.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind};

/// The strings of one request, ready to be looked for.
#[derive(Debug, Clone)]
pub struct StopStrings {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    strings: Vec<String>,
    finder: Option<AhoCorasick>,
    longest: usize,
}

/// Why stop strings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// More strings than anyone needs.
    #[error("there are {count} stop strings, and at most {most} can be used")]
    TooMany {
        /// How many were given.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// Text that would be held back for a whole page.
    #[error("a stop string has {bytes} bytes, and at most {most} can be used")]
    TooLong {
        /// Of the string.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// The finder could not be made.
    #[error("the stop strings cannot be searched for: {0}")]
    Unusable(String),
}

impl Default for StopStrings {
    fn default() -> Self {
        Self::none()
    }
}

impl PartialEq for StopStrings {
    fn eq(&self, other: &Self) -> bool {
        self.shared.strings == other.shared.strings
    }
}

impl Eq for StopStrings {}

impl StopStrings {
    /// The most strings of a request.
    pub const MOST: usize = 256;
    /// The most bytes of a string.
    pub const LONGEST: usize = 4096;

    /// Takes strings; empty ones never match.
    ///
    /// # Errors
    /// When there are too many or one is too long.
    pub fn new(strings: &[String]) -> Result<Self, StopError> {
        let strings: Vec<String> = strings.iter().filter(|s| !s.is_empty()).cloned().collect();
        if strings.len() > Self::MOST {
            return Err(StopError::TooMany {
                count: strings.len(),
                most: Self::MOST,
            });
        }
        let longest = strings.iter().map(String::len).max().unwrap_or(0);
        if longest > Self::LONGEST {
            return Err(StopError::TooLong {
                bytes: longest,
                most: Self::LONGEST,
            });
        }
        let finder = match strings.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::Standard)
                    .build(&strings)
                    .map_err(|error| StopError::Unusable(error.to_string()))?,
            ),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                strings,
                finder,
                longest,
            }),
        })
    }

    /// No strings: nothing ever waits.
    pub fn none() -> Self {
        Self {
            shared: Arc::new(Shared {
                strings: Vec::new(),
                finder: None,
                longest: 0,
            }),
        }
    }

    /// A filter at the start of a text.
    pub fn filter(&self) -> StopFilter {
        StopFilter {
            strings: self.clone(),
            held: String::new(),
            stopped: None,
        }
    }

    /// The first place where a string is complete: where the text is cut, and by which string.
    fn find(&self, text: &str) -> Option<(usize, &str)> {
        let finder = self.shared.finder.as_ref()?;
        let end = finder.find(Input::new(text).anchored(Anchored::No))?.end();
        let longest = self
            .shared
            .strings
            .iter()
            .filter(|string| text[..end].ends_with(string.as_str()))
            .max_by_key(|string| string.len())?;
        Some((end - longest.len(), longest))
    }

    /// Where the longest end of `text` begins that further text could make a stop string.
    fn start_of_possible(&self, text: &str) -> usize {
        let earliest = text.len().saturating_sub(self.shared.longest.max(1) - 1);
        text.char_indices()
            .map(|(at, _)| at)
            .skip_while(|&at| at < earliest)
            .find(|&at| {
                let end = &text[at..];
                let mut strings = self.shared.strings.iter();
                strings.any(|string| string.len() > end.len() && string.starts_with(end))
            })
            .unwrap_or(text.len())
    }
}

/// Lets text through up to the first stop string.
#[derive(Debug, Clone)]
pub struct StopFilter {
    strings: StopStrings,
    /// May be the beginning of a stop string.
    held: String,
    stopped: Option<String>,
}

impl StopFilter {
    /// Takes a piece of text and returns what is now certain to be before any stop string. Behind
    /// a stop string that is nothing.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        if self.strings.shared.finder.is_none() {
            return piece.to_owned();
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        if let Some((start, string)) = self.strings.find(&text) {
            self.stopped = Some(string.to_owned());
            text.truncate(start);
        } else {
            self.held = text.split_off(self.strings.start_of_possible(&text));
        }
        text
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string that ended the text, if one did.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// The text that waits.
    pub fn held(&self) -> &str {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(list: &[&str]) -> StopStrings {
        let list: Vec<String> = list.iter().map(|&s| s.to_owned()).collect();
        StopStrings::new(&list).unwrap()
    }

    fn filtered<'p>(
        stop: &StopStrings,
        pieces: impl IntoIterator<Item = &'p str>,
    ) -> (String, Option<String>) {
        let mut filter = stop.filter();
        let mut text = String::new();
        for piece in pieces {
            text.push_str(&filter.push(piece));
        }
        text.push_str(&filter.finish());
        (text, filter.stopped().map(str::to_owned))
    }

    #[test]
    fn text_ends_before_the_first_complete_string() {
        let check = |list: &[&str], text: &str, want: &str, by: Option<&str>| {
            let stop = strings(list);
            let characters = text.split("");
            for pieces in [vec![text], characters.collect()] {
                let (left, stopped) = filtered(&stop, pieces);
                assert_eq!((left.as_str(), stopped.as_deref()), (want, by), "{list:?}");
            }
        };
        check(&[], "any text", "any text", None);
        check(&["", "stop"], "do stop here", "do ", Some("stop"));
        check(&["stop"], "do sto", "do sto", None);
        check(&["abc", "b"], "xabc", "xa", Some("b"));
        check(&["b", "ab", "cab"], "xcab", "x", Some("cab"));
        check(&["aab"], "aaab", "a", Some("aab"));
        check(
            &["é\n", "\u{1F600}"],
            "caf\u{e9}\u{1F600}é\n",
            "café",
            Some("\u{1F600}"),
        );
        check(&["\n\nUser:"], "a\n\n\nUser:b", "a\n", Some("\n\nUser:"));
    }

    #[test]
    fn only_what_may_become_a_string_waits() {
        let mut filter = strings(&["</end>", "\n\n"]).filter();
        assert_eq!(filter.push("so</e"), "so");
        assert_eq!(filter.held(), "</e");
        assert_eq!(filter.push("x<"), "</ex");
        assert_eq!(filter.push("\n"), "<");
        assert_eq!(filter.push("\nlost"), "");
        assert_eq!(filter.stopped(), Some("\n\n"));
        assert_eq!(
            (filter.push("more"), filter.finish()),
            (String::new(), String::new())
        );
    }

    #[test]
    fn bounds_are_kept() {
        let many = vec!["x".to_owned(); StopStrings::MOST + 1];
        assert!(matches!(
            StopStrings::new(&many),
            Err(StopError::TooMany { .. })
        ));
        let long = ["x".repeat(StopStrings::LONGEST + 1)];
        assert!(matches!(
            StopStrings::new(&long),
            Err(StopError::TooLong { .. })
        ));
    }

    /// By trying every place.
    fn by_definition(list: &[String], text: &str) -> String {
        for end in 1..=text.len() {
            let Some(before) = text.get(..end) else {
                continue;
            };
            let matching = list
                .iter()
                .filter(|s| !s.is_empty() && before.ends_with(s.as_str()));
            if let Some(longest) = matching.map(String::len).max() {
                return before[..end - longest].to_owned();
            }
        }
        text.to_owned()
    }

    proptest! {
        #[test]
        fn however_the_text_is_cut(
            list in prop::collection::vec("[abé]{0,4}", 0..5),
            pieces in prop::collection::vec("[abcé]{0,5}", 0..12),
        ) {
            let stop = StopStrings::new(&list).unwrap();
            let text = pieces.concat();
            let (left, stopped) = filtered(&stop, pieces.iter().map(String::as_str));
            prop_assert_eq!(&left, &by_definition(&list, &text));
            prop_assert_eq!(stopped.is_some(), left.len() < text.len());
        }

        #[test]
        fn no_more_waits_than_must(
            list in prop::collection::vec("[ab]{1,4}", 1..5),
            pieces in prop::collection::vec("[abc]{0,5}", 0..12),
        ) {
            let mut filter = StopStrings::new(&list).unwrap().filter();
            for piece in &pieces {
                filter.push(piece);
                let held = filter.held();
                // All that waits could be completed, with what waits behind it.
                prop_assert!(held.is_empty() || list.iter().any(|s| s.starts_with(held)));
            }
        }
    }
}
