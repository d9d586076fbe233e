//! The language of tool calls, as rules that masks can be made from.
//!
//! A call in the family's XML form names its parameters in any order, each at most once and all
//! required ones. A text parameter is raw text up to its closing tag, others are JSON of their
//! type. In the JSON form of the family's predecessors the tools' schemas say it all.
//!
//! The rules are in the form that the grammar library reads (Lark's, with `%json`, `%if` and
//! `<token>`), as text: nothing here depends on the library.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::value_rules::ValueRules;

/// How a model writes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolForm {
    /// `<function=NAME>` with `<parameter=KEY>` tags: Qwen3.5 and Qwen3-Coder.
    Xml,
    /// `{"name": ..., "arguments": {...}}`: Qwen3 and before.
    Json,
}

/// Which calls an answer may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolGrammar<'t> {
    /// The tools that may be called, as clients describe them.
    pub tools: &'t [Value],
    /// How the model writes calls.
    pub form: ToolForm,
    /// Whether several calls may follow one another.
    pub is_parallel: bool,
    /// Whether the first `<tool_call>` was said already: the rules begin behind it.
    pub is_opened: bool,
}

/// Why there are no rules for some tools.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolGrammarError {
    /// There is nothing to call.
    #[error("there are no tools to call")]
    NoTools,
    /// A description without a name.
    #[error("tool {index} has no name")]
    NoName {
        /// From 0.
        index: usize,
    },
    /// A name that the form cannot write.
    #[error("{name:?} cannot be written in a tool call: it holds a line end or \">\"")]
    BadName {
        /// Of the tool or parameter.
        name: String,
    },
}

impl ToolForm {
    /// The form that a chat template teaches its model.
    pub fn of_template(source: &str) -> Self {
        if source.contains("<function=") || !source.contains("<tool_call>") {
            Self::Xml
        } else {
            Self::Json
        }
    }
}

impl ToolGrammar<'_> {
    /// The rules.
    ///
    /// # Errors
    /// When there is no tool, or one cannot be written.
    pub fn rules(&self) -> Result<String, ToolGrammarError> {
        if self.tools.is_empty() {
            return Err(ToolGrammarError::NoTools);
        }
        let mut rules = String::new();
        let first = if self.is_opened { "" } else { "<tool_call> " };
        let more = if self.is_parallel {
            " (\"\\n\" <tool_call> call)*"
        } else {
            ""
        };
        put(&mut rules, &format!("start: {first}call{more}"));
        match self.form {
            ToolForm::Xml => self.xml(&mut rules)?,
            ToolForm::Json => self.json(&mut rules)?,
        }
        Ok(rules)
    }

    fn json(&self, rules: &mut String) -> Result<(), ToolGrammarError> {
        let mut calls = Vec::new();
        for (index, tool) in self.tools.iter().enumerate() {
            let (name, parameters) = parts_of(tool, index)?;
            let (parameters, definitions) = without_definitions(parameters);
            let mut call = json!({
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": false,
            });
            if let (Some(call), Some((key, definitions))) = (call.as_object_mut(), definitions) {
                call.insert(key, definitions);
            }
            put(rules, &format!("call{index}: {}", inline(&call)));
            calls.push(format!("call{index}"));
        }
        let calls = calls.join(" | ");
        put(
            rules,
            &format!("call: \"\\n\" ({calls}) \"\\n\" </tool_call>"),
        );
        Ok(())
    }

    fn xml(&self, rules: &mut String) -> Result<(), ToolGrammarError> {
        let mut calls = Vec::new();
        for (index, tool) in self.tools.iter().enumerate() {
            let (name, parameters) = parts_of(tool, index)?;
            let open = quoted(&format!("<function={}>\n", writable(name)?));
            calls.push(format!("{open} f{index}"));
            xml_function(rules, index, &parameters)?;
        }
        let calls = calls.join(" | ");
        put(
            rules,
            &format!("call: \"\\n\" ({calls}) \"\\n\" </tool_call>"),
        );
        // As short as possible: a value cannot hold its own closing tag. Nor can it quote calls,
        // whose tags would be counted when the answer is read.
        put(rules, "raw[lazy]: RAW");
        put(
            rules,
            "RAW: /(?s:.*)<\\/parameter>/ & ~/(?s:.*)<function=(?s:.*)/",
        );
        put(rules, "key[lazy]: /[^>\\n]+>/");
        Ok(())
    }
}

/// How many parameters can come in any order: the rules keep a bit for each.
const ANY_ORDER: usize = 64;

/// The rules of a function's parameters, behind its opening tag.
fn xml_function(
    rules: &mut String,
    index: usize,
    parameters: &Value,
) -> Result<(), ToolGrammarError> {
    let none = Map::new();
    let properties = parameters["properties"].as_object().unwrap_or(&none);
    let is_required = |name: &str| {
        let names = parameters["required"].as_array();
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    // Required ones first, so that their bits are beside each other.
    let mut sorted: Vec<(&String, &Value)> = properties.iter().collect();
    sorted.sort_by_key(|(name, _)| !is_required(name));
    let required = sorted.iter().filter(|(name, _)| is_required(name)).count();

    let mut values = ValueRules::new(parameters);
    let mut choices = Vec::new();
    for (bit, (name, schema)) in sorted.iter().enumerate() {
        let open = quoted(&format!("<parameter={}>\n", writable(name)?));
        let value = format!("f{index}_p{bit}");
        put(rules, &format!("{value}: {}", values.rule(schema)));
        choices.push(format!("{open} {value} \"\\n\""));
    }
    if takes_others(parameters) {
        put(
            rules,
            &format!("f{index}_other: \"<parameter=\" key \"\\n\" raw \"\\n\""),
        );
    }
    let other = takes_others(parameters);
    if sorted.len() > ANY_ORDER {
        let in_order: Vec<String> = choices
            .iter()
            .enumerate()
            .map(|(bit, choice)| {
                let mark = if bit < required { "" } else { "?" };
                format!("({choice}){mark}")
            })
            .collect();
        let rest = if other {
            format!(" f{index}_other*")
        } else {
            String::new()
        };
        let in_order = in_order.join(" ");
        put(
            rules,
            &format!("f{index}: {in_order}{rest} \"</function>\""),
        );
        return Ok(());
    }
    if choices.is_empty() {
        let others = if other {
            format!("f{index}_other* ")
        } else {
            String::new()
        };
        put(rules, &format!("f{index}: {others}\"</function>\""));
        return Ok(());
    }
    put(rules, &format!("f{index}: f{index}_rest::0x0"));
    let mut rest = format!("f{index}_rest::_: \"</function>\"");
    if required > 0 {
        let _ = write!(rest, " %if is_ones([0:{required}])");
    }
    for (bit, choice) in choices.iter().enumerate() {
        let _ = write!(
            rest,
            "\n  | {choice} f{index}_rest::set_bit({bit}) %if bit_clear({bit})"
        );
    }
    if other {
        let _ = write!(rest, "\n  | f{index}_other f{index}_rest::_");
    }
    put(rules, &rest);
    Ok(())
}

/// Whether a function takes parameters that its schema does not name: it says so, or names none.
fn takes_others(parameters: &Value) -> bool {
    match &parameters["additionalProperties"] {
        Value::Bool(allowed) => *allowed,
        Value::Object(_) => true,
        _ => parameters.is_object() && parameters.get("properties").is_none(),
    }
}

fn put(rules: &mut String, rule: &str) {
    rules.push_str(rule);
    rules.push('\n');
}

/// A tool's name and the schema of its parameters. Tools come wrapped (`{"function": ...}`) or
/// bare.
fn parts_of(tool: &Value, index: usize) -> Result<(&str, Value), ToolGrammarError> {
    let function = tool.get("function").unwrap_or(tool);
    let name = function["name"].as_str().filter(|name| !name.is_empty());
    let parameters = match function.get("parameters") {
        Some(Value::Object(parameters)) => Value::Object(parameters.clone()),
        // Without a description there are no parameters.
        _ => json!({"type": "object", "properties": {}, "additionalProperties": false}),
    };
    Ok((name.ok_or(ToolGrammarError::NoName { index })?, parameters))
}

/// References point to the root of a schema, so definitions move up when it is put into another.
fn without_definitions(mut parameters: Value) -> (Value, Option<(String, Value)>) {
    let found = parameters.as_object_mut().and_then(|parameters| {
        ["$defs", "definitions"]
            .iter()
            .find_map(|key| parameters.shift_remove_entry(*key))
    });
    (parameters, found)
}

fn writable(name: &str) -> Result<&str, ToolGrammarError> {
    if name.contains(['>', '\n', '\r']) {
        return Err(ToolGrammarError::BadName {
            name: name.to_owned(),
        });
    }
    Ok(name)
}

/// A text as a string of the rules.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7F}', "\\u007f")
}

/// A schema within the rules. What cannot be enforced is left to the caller's own check: tools of
/// the wild use every keyword there is.
pub(super) fn inline(schema: &Value) -> String {
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        let options = json!({
            "lenient": true,
            "coerce_one_of": true,
            "whitespace_pattern": "[ \\t\\r\\n]{1,128}",
        });
        schema.insert("x-guidance".to_owned(), options);
    }
    format!("%json {schema}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(tool: Value, form: ToolForm) -> Result<String, ToolGrammarError> {
        ToolGrammar {
            tools: &[tool],
            form,
            is_parallel: false,
            is_opened: false,
        }
        .rules()
    }

    #[test]
    fn required_parameters_come_first_in_the_bits() {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
            "required": ["b"],
        }}});
        let rules = rules(tool, ToolForm::Xml).unwrap();
        assert!(rules.starts_with("start: <tool_call> call\n"), "{rules}");
        assert!(rules.contains("%if is_ones([0:1])"), "{rules}");
        let b = rules.find("<parameter=b>").unwrap();
        assert!(b < rules.find("<parameter=a>").unwrap(), "{rules}");
        assert!(!rules.contains("f0_other"), "{rules}");
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let check = |tool, error| {
            assert_eq!(rules(tool, ToolForm::Xml), Err(error));
        };
        check(json!({}), ToolGrammarError::NoName { index: 0 });
        let name = "a>b".to_owned();
        check(json!({"name": name}), ToolGrammarError::BadName { name });
        let none = ToolGrammar {
            tools: &[],
            form: ToolForm::Json,
            is_parallel: true,
            is_opened: true,
        };
        assert_eq!(none.rules(), Err(ToolGrammarError::NoTools));
    }

    #[test]
    fn templates_tell_the_form() {
        assert_eq!(
            ToolForm::of_template("<tool_call>\n<function=f>"),
            ToolForm::Xml
        );
        assert_eq!(
            ToolForm::of_template("<tool_call>\n{\"name\""),
            ToolForm::Json
        );
        assert_eq!(ToolForm::of_template("plain"), ToolForm::Xml);
    }
}
