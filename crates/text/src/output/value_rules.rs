//! What may stand in a parameter of an XML tool call, up to and with its closing tag.

use serde_json::{Value, json};

use super::tool_grammar::{inline, quoted};

/// Makes the rules of one tool's values.
pub(super) struct ValueRules<'p> {
    /// The tool's whole schema, which references point into.
    parameters: &'p Value,
}

/// What a schema allows, as far as the form of the text is concerned.
#[derive(Debug, Default, PartialEq)]
struct Forms {
    /// Any text.
    raw: bool,
    /// One of these texts.
    texts: Vec<String>,
    /// JSON that one of these schemas allows.
    json: Vec<Value>,
    /// True or false.
    boolean: bool,
    /// Nothing.
    null: bool,
}

/// References and alternatives are followed so far; what lies deeper is any text.
const DEPTH: usize = 16;

impl<'p> ValueRules<'p> {
    pub(super) fn new(parameters: &'p Value) -> Self {
        Self { parameters }
    }

    /// The body of the rule for a parameter with this schema.
    pub(super) fn rule(&mut self, schema: &Value) -> String {
        let mut forms = Forms::default();
        self.add(schema, DEPTH, &mut forms);
        if forms.raw {
            return "raw".to_owned();
        }
        let mut choices: Vec<String> = forms.texts.iter().map(|text| quoted(text)).collect();
        // The templates print these as Python does, and models write what they have seen.
        if forms.boolean {
            choices.extend(["true", "false", "True", "False"].map(quoted));
        }
        if forms.null {
            choices.extend(["null", "None"].map(quoted));
        }
        choices.extend(forms.json.iter().map(|schema| self.json(schema)));
        format!("({}) \"\\n</parameter>\"", choices.join(" | "))
    }

    /// Values of JSON types with the definitions that they refer to.
    fn json(&self, schema: &Value) -> String {
        let mut schema = schema.clone();
        for key in ["$defs", "definitions"] {
            if let (Some(schema), Some(definitions)) =
                (schema.as_object_mut(), self.parameters.get(key))
            {
                schema.entry(key).or_insert_with(|| definitions.clone());
            }
        }
        inline(&schema)
    }

    fn add(&self, schema: &Value, depth: usize, forms: &mut Forms) {
        let Some(depth) = depth.checked_sub(1) else {
            forms.raw = true;
            return;
        };
        if let Some(target) = schema["$ref"].as_str() {
            match self.resolved(target) {
                Some(schema) => self.add(schema, depth, forms),
                None => forms.raw = true,
            }
            return;
        }
        if let Some(value) = schema.get("const") {
            forms.add_value(value);
            return;
        }
        if let Some(values) = schema["enum"].as_array() {
            values.iter().for_each(|value| forms.add_value(value));
            return;
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema[key].as_array() {
                for alternative in alternatives {
                    self.add(alternative, depth, forms);
                }
                forms.raw |= alternatives.is_empty();
                return;
            }
        }
        match &schema["type"] {
            Value::String(name) => forms.add_type(name, schema),
            Value::Array(names) if !names.is_empty() => {
                for name in names {
                    forms.add_type(name.as_str().unwrap_or_default(), schema);
                }
            }
            // Objects and arrays are often described without being named.
            _ if schema.get("properties").is_some() => forms.add_type("object", schema),
            _ if schema.get("items").is_some() => forms.add_type("array", schema),
            _ => forms.raw = true,
        }
    }

    /// The schema at `#/$defs/NAME` and the like.
    fn resolved(&self, target: &str) -> Option<&'p Value> {
        self.parameters.pointer(target.strip_prefix('#')?)
    }
}

impl Forms {
    fn add_value(&mut self, value: &Value) {
        match value {
            Value::String(text) if is_plain(text) => self.texts.push(text.clone()),
            Value::String(_) => self.raw = true,
            Value::Bool(true) => self.texts.extend(["true", "True"].map(str::to_owned)),
            Value::Bool(false) => self.texts.extend(["false", "False"].map(str::to_owned)),
            Value::Null => self.null = true,
            _ => self.json.push(json!({"const": value})),
        }
    }

    fn add_type(&mut self, name: &str, schema: &Value) {
        match name {
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "integer" | "number" | "object" | "array" => {
                let mut one = schema.clone();
                one["type"] = Value::from(name);
                self.json.push(one);
            }
            // "string", and types that nobody knows.
            _ => self.raw = true,
        }
    }
}

/// Whether a text comes back as it is when it is written between the tags.
fn is_plain(text: &str) -> bool {
    !text.contains("</parameter>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_say_how_values_are_written() {
        let root = json!({"$defs": {"n": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}}});
        let check = |schema: Value, want: &str| {
            assert_eq!(ValueRules::new(&root).rule(&schema), want, "{schema}");
        };
        check(json!({"type": "string"}), "raw");
        check(json!({}), "raw");
        check(json!({"$ref": "#/$defs/none"}), "raw");
        check(json!({"$ref": "#/$defs/loop"}), "raw");
        check(json!({"type": ["integer", "string"]}), "raw");
        check(
            json!({"enum": ["a", "b\""]}),
            r#"("a" | "b\"") "\n</parameter>""#,
        );
        check(
            json!({"type": "boolean"}),
            r#"("true" | "false" | "True" | "False") "\n</parameter>""#,
        );
        check(
            json!({"anyOf": [{"const": true}, {"type": "null"}]}),
            r#"("true" | "True" | "null" | "None") "\n</parameter>""#,
        );
        let integer = ValueRules::new(&root).rule(&json!({"$ref": "#/$defs/n"}));
        assert!(
            integer.starts_with(r#"(%json {"type":"integer","#),
            "{integer}"
        );
        assert!(integer.ends_with(r#") "\n</parameter>""#), "{integer}");
    }
}
