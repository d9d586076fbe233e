//! Looks a template's text over before it is compiled.
//!
//! The engine compiles an expression by recursion, so one that is long enough exhausts the stack
//! and with it ends the program. Templates come with model files: they must not be able to.

use std::borrow::Cow;

use super::error::TemplateError;

/// Published templates have some 30 KiB at most.
const MAX_BYTES: usize = 512 << 10;

/// Characters between `{{` and `}}` or `{%` and `%}`, without texts in quotes and white space.
/// Published templates have some 300 at most; compiling twice as many as this takes less than the
/// 2 MiB stack of a thread.
const MAX_TAG_CHARACTERS: usize = 4096;

/// `elif` tags, of which each is compiled inside the one before.
const MAX_ELIFS: usize = 500;

/// The template as the engine takes it.
///
/// # Errors
/// When it is too complex to be compiled safely.
pub(super) fn prepare(source: &str) -> Result<Cow<'_, str>, TemplateError> {
    let too_complex =
        |line, what: &'static str, limit| TemplateError::TooComplex { line, what, limit };
    if source.len() > MAX_BYTES {
        return Err(too_complex(1, "bytes", MAX_BYTES));
    }
    let mut elifs = 0;
    let mut at = 0;
    while let Some(tag) = next_tag(source, at) {
        let line = || 1 + source[..tag.start].matches('\n').count();
        if tag.characters > MAX_TAG_CHARACTERS {
            return Err(too_complex(
                line(),
                "characters in one tag",
                MAX_TAG_CHARACTERS,
            ));
        }
        let inside = source[tag.start + 2..tag.end].trim_start_matches(['-', '+']);
        elifs += usize::from(inside.trim_start().starts_with("elif"));
        if elifs > MAX_ELIFS {
            return Err(too_complex(line(), "`elif` tags", MAX_ELIFS));
        }
        at = tag.end;
    }
    Ok(without_generation_tags(source))
}

struct Tag {
    start: usize,
    end: usize,
    /// Of its expression, without texts in quotes and white space.
    characters: usize,
}

/// The first tag at or behind byte `from`. Comments count as tags without characters.
fn next_tag(source: &str, from: usize) -> Option<Tag> {
    let bytes = source.as_bytes();
    let opens =
        |at: &usize| bytes[*at] == b'{' && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#'));
    let start = (from..bytes.len()).find(opens)?;
    let kind = bytes[start + 1];
    if kind == b'#' {
        let end = source[start..]
            .find("#}")
            .map_or(source.len(), |at| start + at + 2);
        return Some(Tag {
            start,
            end,
            characters: 0,
        });
    }
    let mut characters = 0;
    let mut braces = 0_usize;
    let mut quote = None;
    let mut at = start + 2;
    while at < bytes.len() {
        let byte = bytes[at];
        match quote {
            Some(_) if byte == b'\\' => at += 1,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None => {
                let closes = bytes.get(at + 1) == Some(&b'}')
                    && match kind {
                        b'%' => byte == b'%',
                        _ => byte == b'}' && braces == 0,
                    };
                if closes {
                    at += 2;
                    break;
                }
                match byte {
                    b'\'' | b'"' => quote = Some(byte),
                    b'{' => braces += 1,
                    b'}' => braces = braces.saturating_sub(1),
                    _ => {}
                }
                characters += usize::from(!byte.is_ascii_whitespace());
            }
        }
        at += 1;
    }
    Some(Tag {
        start,
        // Stepping over an escaped character can lead beyond the end.
        end: at.min(bytes.len()),
        characters,
    })
}

/// Drops `{% generation %}` and its end: the reference's training marks the assistant's text with
/// them, and they print nothing.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let tag = regex::Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
        .expect("the pattern is valid");
    tag.replace_all(source, |found: &regex::Captures<'_>| {
        let kind = if found.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{{%{} {kind} {}%}}", &found[1], &found[3])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_and_measured() {
        let check = |source: &str, want: &[(&str, usize)]| {
            let mut found = Vec::new();
            let mut at = 0;
            while let Some(tag) = next_tag(source, at) {
                found.push((&source[tag.start..tag.end], tag.characters));
                at = tag.end;
            }
            assert_eq!(found, want);
        };
        check("a { b } c", &[]);
        check(
            "{{ a }}x{% if b %}{# {{ #}",
            &[("{{ a }}", 1), ("{% if b %}", 3), ("{# {{ #}", 0)],
        );
        check(
            r#"{{ "}}'" ~ 'é\'}}' }}"#,
            &[(r#"{{ "}}'" ~ 'é\'}}' }}"#, 3)],
        );
        check("{{ {'a': {}} }}!", &[("{{ {'a': {}} }}", 6)]);
        check("{{ open", &[("{{ open", 4)]);
        check("{{ 'open\\", &[("{{ 'open\\", 1)]);
        check("{{ '\\é", &[("{{ '\\é", 1)]);
        check("{%", &[("{%", 0)]);
    }

    #[test]
    fn complexity_is_bounded() {
        let check = |source: String, is_fine| assert_eq!(prepare(&source).is_ok(), is_fine);
        check(format!("{{{{ 1{} }}}}", " + 1".repeat(2000)), true);
        check(format!("{{{{ 1{} }}}}", " + 1".repeat(3000)), false);
        check(
            format!("{{{{ {{'}}}}': 1}}{} }}}}", ".x".repeat(3000)),
            false,
        );
        check(format!("{{{{ '{}' }}}}", "long text ".repeat(3000)), true);
        check("{%- elif x %}".repeat(501), false);
        check("x".repeat(600 << 10), false);
    }
}
