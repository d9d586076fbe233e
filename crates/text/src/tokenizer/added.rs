//! Finds added tokens (`<|im_start|>`, `<think>` ...) in text, in one linear pass.

use aho_corasick::{AhoCorasick, MatchKind};

use super::TokenId;
use super::error::TokenizerError;

/// A matcher for the added tokens: leftmost first, the longest of those that begin there.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    matcher: AhoCorasick,
    ids: Vec<TokenId>,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segment<'t> {
    Text(&'t str),
    Token(TokenId),
}

impl AddedTokens {
    /// Takes tokens with their text; empty texts match nothing and are left out.
    pub(crate) fn new<'t>(
        tokens: impl IntoIterator<Item = (TokenId, &'t str)>,
    ) -> Result<Self, TokenizerError> {
        let (ids, texts): (Vec<_>, Vec<_>) = tokens
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .unzip();
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)?;
        Ok(Self { matcher, ids })
    }

    /// Cuts `text` at the added tokens. Empty texts are left out.
    pub(crate) fn segments<'s, 't: 's>(
        &'s self,
        text: &'t str,
    ) -> impl Iterator<Item = Segment<'t>> {
        let mut matches = self.matcher.find_iter(text).peekable();
        let mut start = 0;
        std::iter::from_fn(move || {
            let end = matches.peek().map_or(text.len(), |found| found.start());
            if start < end {
                let between = &text[start..end];
                start = end;
                return Some(Segment::Text(between));
            }
            let found = matches.next()?;
            start = found.end();
            Some(Segment::Token(self.ids[found.pattern().as_usize()]))
        })
    }

    /// The id of the added token with exactly this text.
    pub(crate) fn id_of(&self, text: &str) -> Option<TokenId> {
        let found = self.matcher.find(text)?;
        (found.range() == (0..text.len())).then(|| self.ids[found.pattern().as_usize()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[Segment<'_>]) {
        let added = AddedTokens::new([(1, "<a>"), (2, "<a>b"), (3, ""), (4, "<c>")]).unwrap();
        let segments: Vec<_> = added.segments(text).collect();
        assert_eq!(segments, want, "{text:?}");
    }

    #[test]
    fn cuts_at_the_longest_leftmost_token() {
        use Segment::{Text, Token};
        check("", &[]);
        check("x", &[Text("x")]);
        check("<a>", &[Token(1)]);
        check("x<a>b<c>y", &[Text("x"), Token(2), Token(4), Text("y")]);
        check("<a<c>", &[Text("<a"), Token(4)]);
    }

    #[test]
    fn knows_ids_by_exact_text() {
        let added = AddedTokens::new([(1, "<a>"), (2, "<a>b")]).unwrap();
        assert_eq!(added.id_of("<a>"), Some(1));
        assert_eq!(added.id_of("<a>b"), Some(2));
        assert_eq!(added.id_of("<a>c"), None);
        assert_eq!(added.id_of(""), None);
        assert_eq!(AddedTokens::new([]).unwrap().id_of("x"), None);
    }
}
