//! Which JSON types a tool's parameters may have.

use serde_json::{Map, Value};

/// A set of JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const TEXT: Self = Self(1);
    pub(super) const NULL: Self = Self(2);
    pub(super) const BOOLEAN: Self = Self(4);
    pub(super) const INTEGER: Self = Self(8);
    pub(super) const NUMBER: Self = Self(16);
    pub(super) const OBJECT: Self = Self(32);
    pub(super) const ARRAY: Self = Self(64);
    /// What a schema that says nothing about types allows. Numbers and words stay text then, as
    /// nobody asked for anything else.
    const ANY: Self = Self(Self::TEXT.0 | Self::OBJECT.0 | Self::ARRAY.0);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" | "bool" => Self::BOOLEAN,
            "integer" | "int" => Self::INTEGER,
            "number" | "float" => Self::NUMBER,
            "object" | "dict" => Self::OBJECT,
            "array" | "list" => Self::ARRAY,
            _ => Self::TEXT,
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self::NUMBER,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::TEXT,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }
}

/// The tools of a request, as far as reading calls needs them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolSchemas {
    /// Parameter schemas by the function's name.
    functions: Map<String, Value>,
}

impl ToolSchemas {
    /// Takes descriptions as the wire formats have them: `{"function": {...}}` or bare, with the
    /// schema in `parameters` or `input_schema`. Tools without a name are none to call.
    pub fn new(tools: &[Value]) -> Self {
        let mut functions = Map::new();
        for tool in tools {
            let function = tool.get("function").unwrap_or(tool);
            let schema = ["parameters", "input_schema"]
                .iter()
                .find_map(|key| function.get(key));
            if let Some(name) = function["name"].as_str()
                && !functions.contains_key(name)
            {
                functions.insert(name.to_owned(), schema.cloned().unwrap_or_default());
            }
        }
        Self { functions }
    }

    /// Whether there is a function of this name.
    pub fn has(&self, function: &str) -> bool {
        self.functions.contains_key(function)
    }

    /// Whether the function has this parameter; `None` when its parameters are not described.
    pub(super) fn declares(&self, function: &str, parameter: &str) -> Option<bool> {
        let properties = self.functions.get(function)?.get("properties")?;
        Some(properties.get(parameter).is_some())
    }

    /// The types of a parameter. One that the function does not have is text.
    pub(super) fn types(&self, function: &str, parameter: &str) -> Types {
        let Some(root) = self.functions.get(function) else {
            return Types::TEXT;
        };
        let declared = root.get("properties").and_then(|all| all.get(parameter));
        let others = || root.get("additionalProperties").filter(|s| s.is_object());
        match declared.or_else(others) {
            Some(schema) => Resolver { root, steps: 0 }.types(schema),
            None => Types::TEXT,
        }
    }
}

/// Follows references and alternatives, for so many steps: schemas come from outside.
struct Resolver<'s> {
    root: &'s Value,
    steps: usize,
}

const MAX_STEPS: usize = 200;
/// Schemas in schemas.
const MAX_DEPTH: usize = 32;

impl<'s> Resolver<'s> {
    fn types(&mut self, schema: &Value) -> Types {
        match self.explicit(schema, 0) {
            Types::NONE => Types::ANY,
            types => types,
        }
    }

    /// The types that a schema names, directly or by what it asks for.
    fn explicit(&mut self, schema: &Value, depth: usize) -> Types {
        self.steps += 1;
        if self.steps > MAX_STEPS || depth > MAX_DEPTH {
            return Types::NONE;
        }
        let nullable = if schema["nullable"] == true {
            Types::NULL
        } else {
            Types::NONE
        };
        let types = self.not_nullable(schema, depth);
        if types == Types::NONE {
            types
        } else {
            types.or(nullable)
        }
    }

    fn not_nullable(&mut self, schema: &Value, depth: usize) -> Types {
        match &schema["type"] {
            Value::String(name) => return Types::named(name),
            Value::Array(names) if !names.is_empty() => {
                let names = names.iter().filter_map(Value::as_str);
                return names.fold(Types::NONE, |all, name| all.or(Types::named(name)));
            }
            _ => {}
        }
        if let Some(target) = self.target(schema) {
            return self.explicit(target, depth + 1);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema[key].as_array() {
                let mut all = Types::NONE;
                for alternative in alternatives {
                    let types = match self.explicit(alternative, depth + 1) {
                        Types::NONE => Types::ANY,
                        types => types,
                    };
                    all = all.or(types);
                }
                return all;
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut types = parts.iter().map(|part| self.explicit(part, depth + 1));
            let found = types.find(|types| *types != Types::NONE);
            return found.unwrap_or(Types::NONE);
        }
        let values = match (&schema["enum"], schema.get("const")) {
            (Value::Array(values), _) => values.as_slice(),
            (_, Some(value)) => std::slice::from_ref(value),
            _ => &[],
        };
        let of_values = values
            .iter()
            .fold(Types::NONE, |all, value| all.or(Types::of(value)));
        match of_values {
            Types::NONE if schema.get("properties").is_some() => Types::OBJECT,
            Types::NONE if schema.get("items").is_some() => Types::ARRAY,
            types => types,
        }
    }

    /// What a `$ref` inside the same schema points to.
    fn target(&self, schema: &Value) -> Option<&'s Value> {
        self.root
            .pointer(schema["$ref"].as_str()?.strip_prefix('#')?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, want: &[Types]) {
        let parameters = json!({
            "properties": {"p": schema},
            "$defs": {
                "Count": {"type": "integer"},
                "Maybe": {"anyOf": [{"$ref": "#/$defs/Count"}, {"type": "null"}]},
                "Loop": {"$ref": "#/$defs/Loop"},
            },
        });
        let tools = ToolSchemas::new(&[json!({"name": "f", "input_schema": parameters})]);
        let want = want.iter().fold(Types::NONE, |all, &one| all.or(one));
        assert_eq!(tools.types("f", "p"), want);
    }

    #[test]
    fn schemas_say_types_in_many_ways() {
        check(json!({"type": "string"}), &[Types::TEXT]);
        check(
            json!({"type": ["integer", "null"]}),
            &[Types::INTEGER, Types::NULL],
        );
        check(
            json!({"type": "string", "nullable": true}),
            &[Types::TEXT, Types::NULL],
        );
        check(
            json!({"$ref": "#/$defs/Maybe"}),
            &[Types::INTEGER, Types::NULL],
        );
        check(
            json!({"allOf": [{"description": "d"}, {"type": "object"}]}),
            &[Types::OBJECT],
        );
        check(
            json!({"oneOf": [{"const": 1}, {"enum": ["a"]}]}),
            &[Types::INTEGER, Types::TEXT],
        );
        check(json!({"items": {}}), &[Types::ARRAY]);
        // A type beside alternatives limits them.
        check(
            json!({"type": "string", "anyOf": [{"type": "null"}]}),
            &[Types::TEXT],
        );
        for unlimited in [
            json!({}),
            json!(true),
            json!({"$ref": "#/$defs/Loop"}),
            json!(3),
        ] {
            check(unlimited, &[Types::ANY]);
        }
        let mut wide = json!({"type": "null"});
        for _ in 0..12 {
            wide = json!({"anyOf": [wide.clone(), wide]});
        }
        check(wide, &[Types::NULL, Types::ANY]);
    }

    #[test]
    fn what_is_not_described_is_text() {
        let open = json!({"properties": {}, "additionalProperties": {"type": "integer"}});
        let tools = ToolSchemas::new(&[
            json!({"type": "function", "function": {"name": "f", "parameters": open}}),
            json!({"name": "bare"}),
            json!({"type": "web_search"}),
        ]);
        assert_eq!(tools.types("f", "p"), Types::INTEGER);
        assert_eq!(tools.types("bare", "p"), Types::TEXT);
        assert_eq!(tools.types("none", "p"), Types::TEXT);
        assert_eq!(tools.declares("f", "p"), Some(false));
        assert_eq!(tools.declares("bare", "p"), None);
        assert!(tools.has("bare") && !tools.has("none"));
    }
}
