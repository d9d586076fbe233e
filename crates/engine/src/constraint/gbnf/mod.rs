//! Grammars in llama.cpp's form, rewritten in Lark's.
//!
//! Understood are rules (`name ::= ...`), literals, character classes, `.`, groups, alternatives,
//! the repetitions `*`, `+`, `?`, `{m}`, `{m,}`, `{,n}` and `{m,n}`, and comments. Rules that do
//! not refer to themselves, directly or by others, become regular expressions: those are matched
//! exactly and fast. What is left are rules over such expressions.

mod convert;
mod parse;

/// What is wrong with a GBNF text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GbnfError {
    /// Something else was expected.
    #[error("line {line}: expected {expected}, not {found}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// A name without a rule.
    #[error("rule {name:?} is used and not defined")]
    UnknownRule {
        /// The name.
        name: String,
    },
    /// Two rules of a name.
    #[error("rule {name:?} is defined twice")]
    DefinedTwice {
        /// The name.
        name: String,
    },
    /// Where does it begin?
    #[error("there is no rule \"root\"")]
    NoRoot,
    /// Rules that use each other many times over.
    #[error("written out, the rules have more than {most} bytes")]
    TooLarge {
        /// The bound.
        most: usize,
    },
}

/// The same language as a Lark grammar.
///
/// # Errors
/// When the text is wrong, or too large when its rules are written out.
pub(super) fn to_lark(text: &str) -> Result<String, GbnfError> {
    convert::to_lark(&parse::rules(text)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_without_recursion_become_one_expression() {
        let check = |gbnf: &str, want: &str| {
            let lark = to_lark(gbnf).unwrap();
            assert_eq!(lark, want, "{gbnf}");
        };
        check(
            "root ::= \"a/\" item*\nitem ::= [0-9] | \"\\n\"",
            "start: r1\nT0: /a\\x{2F}(?:(?:[0-9]|\\x{A}))*/\nr1: T0\n",
        );
        check(
            "root ::= \"(\" root? \")\"",
            "start: r0\nT0: /\\x{28}/\nT1: /\\x{29}/\nr0: T0 (r0)? T1\n",
        );
        check("root ::= \"\"", "start: r0\nr0: \"\"\n");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(pieces in prop::collection::vec(
            prop::sample::select(vec![
                "root", "a", "b-1", "::=", "|", "(", ")", "[", "]", "^", "-", "\"", "\\", "x41",
                "u00e9", "{2}", "{1,3}", "{,", "*", "+", "?", ".", "#", "\n", " ", "\u{1F600}",
            ]),
            0..40,
        )) {
            let text = pieces.concat();
            if let Ok(lark) = to_lark(&text) {
                prop_assert!(lark.starts_with("start: "), "{}", lark);
            }
        }
    }
}
