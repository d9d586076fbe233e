//! Cuts the model's text into tags and what stands between them.
//!
//! The same everywhere: whether a tag means anything at its place is for the parser to say. No
//! tag holds a `<` but its first character, so text that turns out to be none is let go at once.

use std::borrow::Cow;

/// The longest opening tag, in bytes. What is longer is text.
pub(super) const MAX_TAG: usize = 256;

/// A tag that may have a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// `<think>`
    ThinkOpen,
    /// `</think>`
    ThinkClose,
    /// `<tool_call>`
    CallOpen,
    /// `</tool_call>`
    CallClose,
    /// `<function=NAME>`
    Function(String),
    /// `</function>`
    FunctionClose,
    /// `<parameter=NAME>`
    Parameter(String),
    /// `</parameter>`
    ParameterClose,
}

/// A piece of the model's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// Text without a tag. Where one text token ends and the next begins means nothing.
    Text(Cow<'t, str>),
    /// A tag as it is written, and what it is.
    Tag { tag: Tag, raw: String },
}

impl Token<'_> {
    /// The text itself.
    pub(super) fn raw(&self) -> &str {
        match self {
            Token::Text(text) => text,
            Token::Tag { raw, .. } => raw,
        }
    }

    pub(super) fn into_owned(self) -> Token<'static> {
        match self {
            Token::Text(text) => Token::Text(Cow::Owned(text.into_owned())),
            Token::Tag { tag, raw } => Token::Tag { tag, raw },
        }
    }

    /// What is left of a text token behind its first `taken` bytes.
    pub(super) fn behind(self, taken: usize) -> Option<Self> {
        match self {
            Token::Text(Cow::Borrowed(text)) if taken < text.len() => {
                Some(Token::Text(Cow::Borrowed(&text[taken..])))
            }
            Token::Text(Cow::Owned(mut text)) if taken < text.len() => {
                text.drain(..taken);
                Some(Token::Text(Cow::Owned(text)))
            }
            _ => None,
        }
    }
}

/// The tags that are always written in the same way.
const FIXED: [(&str, Tag); 6] = [
    ("<think>", Tag::ThinkOpen),
    ("</think>", Tag::ThinkClose),
    ("<tool_call>", Tag::CallOpen),
    ("</tool_call>", Tag::CallClose),
    ("</function>", Tag::FunctionClose),
    ("</parameter>", Tag::ParameterClose),
];

/// The tags with a name inside, up to that.
const NAMED: [&str; 2] = ["<function", "<parameter"];

/// Holds back what may become a tag, and nothing else.
#[derive(Debug, Clone, Default)]
pub(super) struct Lexer {
    /// Empty, or the beginning of a tag.
    held: String,
}

impl Lexer {
    /// The next token of `rest`, which is moved on; `None` when all of it was taken.
    pub(super) fn next<'t>(&mut self, rest: &mut &'t str) -> Option<Token<'t>> {
        if self.held.is_empty() && !rest.is_empty() && !rest.starts_with('<') {
            let (text, behind) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            *rest = behind;
            return Some(Token::Text(Cow::Borrowed(text)));
        }
        while let Some(character) = rest.chars().next() {
            self.held.push(character);
            match read_tag(&self.held) {
                Reading::Begun => *rest = &rest[character.len_utf8()..],
                Reading::Whole(tag) => {
                    *rest = &rest[character.len_utf8()..];
                    let raw = std::mem::take(&mut self.held);
                    return Some(Token::Tag { tag, raw });
                }
                // This character may begin a tag itself.
                Reading::Text => {
                    self.held.pop();
                    let text = std::mem::take(&mut self.held);
                    return Some(Token::Text(Cow::Owned(text)));
                }
            }
        }
        None
    }

    /// What was held back, at the end of the text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

enum Reading {
    /// The beginning of a tag.
    Begun,
    /// A tag.
    Whole(Tag),
    /// Neither.
    Text,
}

fn read_tag(text: &str) -> Reading {
    for (tag, meaning) in &FIXED {
        if tag.starts_with(text) {
            return match tag.len() == text.len() {
                true => Reading::Whole(meaning.clone()),
                false => Reading::Begun,
            };
        }
    }
    for opening in NAMED {
        if opening.starts_with(text) {
            return Reading::Begun;
        }
        let Some(inside) = text.strip_prefix(opening) else {
            continue;
        };
        let Some(inside) = inside.strip_suffix('>') else {
            return match may_go_on(inside) && text.len() < MAX_TAG {
                true => Reading::Begun,
                false => Reading::Text,
            };
        };
        return match name_in(inside) {
            Some(name) if opening == "<function" => Reading::Whole(Tag::Function(name)),
            Some(name) => Reading::Whole(Tag::Parameter(name)),
            None => Reading::Text,
        };
    }
    Reading::Text
}

/// Whether this, behind `<function`, may still become a tag. Only its last character is new.
fn may_go_on(inside: &str) -> bool {
    inside.starts_with(['=', ' ', '\t'])
        && !inside.ends_with(|last: char| last == '<' || (last.is_control() && last != '\t'))
}

/// The name in `=NAME`, ` = "NAME" ` or ` name="NAME"`.
fn name_in(inside: &str) -> Option<String> {
    let inside = inside.trim();
    let name = match inside.strip_prefix('=') {
        Some(name) => name,
        None => inside
            .strip_prefix("name")?
            .trim_start()
            .strip_prefix('=')?,
    };
    let name = name.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|&quote| name.strip_prefix(quote)?.strip_suffix(quote));
    let name = unquoted.unwrap_or(name).trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of `text`, given one character at a time and at once.
    fn check(text: &str, want: &[&str]) {
        let mut all = Vec::new();
        let mut pieces: Vec<String> = vec![text.to_owned()];
        for _ in 0..2 {
            let mut lexer = Lexer::default();
            let mut tokens: Vec<String> = Vec::new();
            let mut was_text = false;
            for piece in &pieces {
                let mut rest = piece.as_str();
                while let Some(token) = lexer.next(&mut rest) {
                    let is_text = matches!(token, Token::Text(_));
                    match tokens.last_mut() {
                        Some(last) if is_text && was_text => last.push_str(token.raw()),
                        _ => tokens.push(token.raw().to_owned()),
                    }
                    was_text = is_text;
                }
            }
            all.push((tokens, lexer.finish()));
            pieces = text.chars().map(String::from).collect();
        }
        assert_eq!(all[0], all[1], "{text:?}");
        let (mut tokens, held) = all.swap_remove(0);
        if !held.is_empty() {
            tokens.push(held);
        }
        assert_eq!(tokens, want, "{text:?}");
    }

    #[test]
    fn tags_are_told_from_text() {
        check("a<think>b", &["a", "<think>", "b"]);
        check("<<think></think", &["<", "<think>", "</think"]);
        check("a <b> </tool_cal>", &["a <b> </tool_cal>"]);
        check("<function=f><function>", &["<function=f>", "<function>"]);
        check("<function=\nf>", &["<function=\nf>"]);
        check("<parameter=a<think>", &["<parameter=a", "<think>"]);
    }

    #[test]
    fn names_may_be_quoted_and_spaced() {
        for inside in ["=f", " = f ", "=\"f\"", " name=\"f\"", " name = 'f'"] {
            assert_eq!(name_in(inside).as_deref(), Some("f"), "{inside:?}");
        }
        for inside in ["=", "= ", "=\"\"", " f", " named=f"] {
            assert_eq!(name_in(inside), None, "{inside:?}");
        }
        let long = format!("<function={}>", "n".repeat(MAX_TAG));
        check(&long, &[&long]);
    }
}
