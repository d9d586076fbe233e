//! Rules to a Lark grammar.

use std::fmt::Write;

use super::GbnfError;
use super::parse::{Node, Rules};

/// What a grammar may grow to when rules are written out.
const MOST: usize = 256 << 10;

/// A regular expression.
#[derive(Debug, Clone)]
struct Regular {
    pattern: String,
    /// Whether it matches the empty text.
    is_nullable: bool,
}

pub(super) fn to_lark(rules: &Rules) -> Result<String, GbnfError> {
    let regular = regular_rules(rules)?;
    let mut lark = Lark {
        regular: &regular,
        terminals: 0,
        text: String::new(),
    };
    let _ = writeln!(lark.text, "start: r{}", rules.root);
    let root = regular[rules.root].is_some();
    for (id, body) in rules.bodies.iter().enumerate() {
        let is_needed = regular[id].is_none() || (root && id == rules.root);
        if is_needed {
            let body = lark.rule(body)?;
            let _ = writeln!(lark.text, "r{id}: {body}");
        }
        if lark.text.len() > MOST {
            return Err(GbnfError::TooLarge { most: MOST });
        }
    }
    Ok(lark.text)
}

/// The rules that are regular expressions: those that only use such rules. Found from the leaves
/// up, so that nothing recurses along chains of rules.
fn regular_rules(rules: &Rules) -> Result<Vec<Option<Regular>>, GbnfError> {
    let count = rules.bodies.len();
    let mut users = vec![Vec::new(); count];
    let mut waiting_for = vec![0usize; count];
    for (id, body) in rules.bodies.iter().enumerate() {
        for_each_rule(body, &mut |used| {
            users[used].push(id);
            waiting_for[id] += 1;
        });
    }
    let mut regular: Vec<Option<Regular>> = vec![None; count];
    let mut ready: Vec<usize> = (0..count).filter(|&id| waiting_for[id] == 0).collect();
    let mut written = 0;
    while let Some(id) = ready.pop() {
        let made = regular_of(&rules.bodies[id], &regular)?;
        written += made.as_ref().map_or(0, |regular| regular.pattern.len());
        if written > MOST {
            return Err(GbnfError::TooLarge { most: MOST });
        }
        regular[id] = made;
        for &user in &users[id] {
            waiting_for[user] -= 1;
            if waiting_for[user] == 0 {
                ready.push(user);
            }
        }
    }
    Ok(regular)
}

fn for_each_rule(node: &Node, visit: &mut impl FnMut(usize)) {
    match node {
        Node::Sequence(parts) | Node::Choice(parts) => {
            for part in parts {
                for_each_rule(part, visit);
            }
        }
        Node::Repeat(part, ..) => for_each_rule(part, visit),
        Node::Rule(id) => visit(*id),
        Node::Literal(_) | Node::Class(..) | Node::Any => {}
    }
}

/// The expression of a node; `None` if it uses a rule that has none.
fn regular_of(node: &Node, rules: &[Option<Regular>]) -> Result<Option<Regular>, GbnfError> {
    let all = |parts: &[Node]| -> Result<Option<Vec<Regular>>, GbnfError> {
        let mut size = 0;
        let mut made = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(part) = regular_of(part, rules)? else {
                return Ok(None);
            };
            size += part.pattern.len();
            if size > MOST {
                return Err(GbnfError::TooLarge { most: MOST });
            }
            made.push(part);
        }
        Ok(Some(made))
    };
    let simple = |pattern: String| Regular {
        pattern,
        is_nullable: false,
    };
    Ok(Some(match node {
        Node::Sequence(parts) => {
            let Some(parts) = all(parts)? else {
                return Ok(None);
            };
            Regular {
                pattern: parts.iter().map(|part| part.pattern.as_str()).collect(),
                is_nullable: parts.iter().all(|part| part.is_nullable),
            }
        }
        Node::Choice(parts) => {
            let Some(parts) = all(parts)? else {
                return Ok(None);
            };
            let patterns: Vec<&str> = parts.iter().map(|part| part.pattern.as_str()).collect();
            Regular {
                pattern: format!("(?:{})", patterns.join("|")),
                is_nullable: parts.iter().any(|part| part.is_nullable),
            }
        }
        Node::Repeat(part, low, high) => {
            let Some(part) = regular_of(part, rules)? else {
                return Ok(None);
            };
            Regular {
                pattern: format!("(?:{}){}", part.pattern, times(*low, *high)),
                is_nullable: part.is_nullable || *low == 0,
            }
        }
        Node::Literal(text) => Regular {
            pattern: text.chars().map(escaped).collect(),
            is_nullable: text.is_empty(),
        },
        Node::Class(ranges, is_negated) => {
            let body: String = ranges
                .iter()
                .map(|&(low, high)| format!("{}-{}", escaped(low), escaped(high)))
                .collect();
            match (body.is_empty(), is_negated) {
                (true, true) => simple("(?s:.)".to_owned()),
                // A class of nothing: no text at all.
                (true, false) => simple("[^\\x{0}-\\x{10FFFF}]".to_owned()),
                (false, true) => simple(format!("[^{body}]")),
                (false, false) => simple(format!("[{body}]")),
            }
        }
        Node::Any => simple("(?s:.)".to_owned()),
        Node::Rule(id) => return Ok(rules[*id].clone()),
    }))
}

fn times(low: u32, high: Option<u32>) -> String {
    match (low, high) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (low, None) => format!("{{{low},}}"),
        (low, Some(high)) => format!("{{{low},{high}}}"),
    }
}

/// A character as itself in any place of an expression, also between slashes.
fn escaped(character: char) -> String {
    if character.is_ascii_alphanumeric() {
        character.to_string()
    } else {
        format!("\\x{{{:X}}}", u32::from(character))
    }
}

/// The grammar in the making.
struct Lark<'r> {
    regular: &'r [Option<Regular>],
    terminals: usize,
    text: String,
}

impl Lark<'_> {
    /// A node as a part of a rule. Neighbours that are regular make one terminal together.
    fn rule(&mut self, node: &Node) -> Result<String, GbnfError> {
        if let Some(regular) = regular_of(node, self.regular)? {
            return Ok(self.terminal(&regular));
        }
        Ok(match node {
            Node::Sequence(parts) => {
                let mut written = Vec::new();
                let mut rest = parts.as_slice();
                while let Some((first, behind)) = rest.split_first() {
                    let mut run = 0;
                    while run < rest.len() && regular_of(&rest[run], self.regular)?.is_some() {
                        run += 1;
                    }
                    if run > 0 {
                        written.push(self.rule(&Node::Sequence(rest[..run].to_vec()))?);
                        rest = &rest[run..];
                    } else {
                        written.push(self.rule(first)?);
                        rest = behind;
                    }
                }
                written.join(" ")
            }
            Node::Choice(parts) => {
                let parts: Result<Vec<String>, _> = parts.iter().map(|p| self.rule(p)).collect();
                format!("({})", parts?.join(" | "))
            }
            Node::Repeat(part, low, high) => {
                format!("({}){}", self.rule(part)?, times(*low, *high))
            }
            Node::Rule(id) => format!("r{id}"),
            // These are regular.
            Node::Literal(_) | Node::Class(..) | Node::Any => String::new(),
        })
    }

    fn terminal(&mut self, regular: &Regular) -> String {
        if regular.pattern.is_empty() {
            return "\"\"".to_owned();
        }
        let name = format!("T{}", self.terminals);
        self.terminals += 1;
        let pattern = &regular.pattern;
        // A terminal has to match something; the place of it may stay empty.
        if regular.is_nullable {
            let _ = writeln!(self.text, "{name}: /{pattern}/ & /(?s:.+)/");
            format!("({name})?")
        } else {
            let _ = writeln!(self.text, "{name}: /{pattern}/");
            name
        }
    }
}
