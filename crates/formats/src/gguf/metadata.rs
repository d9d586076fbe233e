//! The key-value part of a GGUF file, and typed questions to it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::{GgufError, Problem};
use super::value::{Array, StringArray, Value};

/// Keys and values in the order of the file.
///
/// ```
/// # use tidemill_formats::gguf::Builder;
/// # let mut builder = Builder::new();
/// # builder.set("qwen35moe.block_count", 40u16).set("general.architecture", "qwen35moe");
/// # let metadata = builder.metadata();
/// let layers: u32 = metadata.get("qwen35moe.block_count")?;
/// let architecture: &str = metadata.get("general.architecture")?;
/// let mtp_layers = metadata.find::<u32>("qwen35moe.nextn_predict_layers")?.unwrap_or(0);
/// # assert_eq!((layers, architecture, mtp_layers), (40, "qwen35moe", 0));
/// # Ok::<(), tidemill_formats::gguf::GgufError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Named in errors.
    file: PathBuf,
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            ..Self::default()
        }
    }

    /// Adds or replaces a value; says whether the key was new.
    pub(super) fn insert(&mut self, key: String, value: Value) -> bool {
        match self.index.get(&key) {
            Some(&at) => {
                self.entries[at].1 = value;
                false
            }
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
                true
            }
        }
    }

    /// Removes a value and keeps the order of the others.
    pub(super) fn remove(&mut self, key: &str) {
        if self.index.contains_key(key) {
            self.entries.retain(|(other, _)| other != key);
            let keys = self.entries.iter().map(|(key, _)| key.clone());
            self.index = keys.zip(0..).collect();
        }
    }

    /// The keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value as it is stored.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// The value as `T`, if the key is there. Integers of any width are accepted if they fit.
    ///
    /// # Errors
    /// The value has another type or does not fit.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(Problem::WrongType {
                key: key.to_owned(),
                expected: T::EXPECTED,
                found: value.describe(),
            })),
        }
    }

    /// The value as `T`.
    ///
    /// # Errors
    /// The key is missing, or as for [`Metadata::find`].
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.find(key)?.ok_or_else(|| {
            self.error(Problem::MissingKey {
                key: key.to_owned(),
                expected: T::EXPECTED,
            })
        })
    }

    /// A value for each of `count` layers: an array of this length, or one value for all.
    ///
    /// # Errors
    /// The array has another length, or as for [`Metadata::find`].
    pub fn find_per_layer<'a, T>(
        &'a self,
        key: &str,
        count: usize,
    ) -> Result<Option<Vec<T>>, GgufError>
    where
        T: FromValue<'a> + Clone,
        Vec<T>: FromValue<'a>,
    {
        if !matches!(self.value(key), Some(Value::Array(_))) {
            return Ok(self.find::<T>(key)?.map(|value| vec![value; count]));
        }
        let values: Vec<T> = self.get(key)?;
        if values.len() != count {
            return Err(self.error(Problem::WrongLength {
                key: key.to_owned(),
                expected: count,
                found: values.len(),
            }));
        }
        Ok(Some(values))
    }

    fn error(&self, problem: Problem) -> GgufError {
        GgufError::new(&self.file, problem)
    }
}

/// Rust types that a metadata value can be asked for as.
pub trait FromValue<'a>: Sized {
    /// What the value must be, for messages.
    const EXPECTED: &'static str;

    /// The value as this type; `None` if it is of another type or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integer_from_value {
    ($($rust:ty: $one:literal $many:literal),*) => { $(
        impl FromValue<'_> for $rust {
            const EXPECTED: &'static str = $one;

            fn from_value(value: &Value) -> Option<Self> {
                match *value {
                    Value::U8(v) => v.try_into().ok(),
                    Value::I8(v) => v.try_into().ok(),
                    Value::U16(v) => v.try_into().ok(),
                    Value::I16(v) => v.try_into().ok(),
                    Value::U32(v) => v.try_into().ok(),
                    Value::I32(v) => v.try_into().ok(),
                    Value::U64(v) => v.try_into().ok(),
                    Value::I64(v) => v.try_into().ok(),
                    _ => None,
                }
            }
        }

        impl FromValue<'_> for Vec<$rust> {
            const EXPECTED: &'static str = $many;

            fn from_value(value: &Value) -> Option<Self> {
                let Value::Array(array) = value else { return None };
                match array {
                    Array::U8(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::I8(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::U16(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::I16(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::U32(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::I32(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::U64(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    Array::I64(v) => v.iter().map(|&x| x.try_into().ok()).collect(),
                    _ => None,
                }
            }
        }
    )* };
}

integer_from_value!(
    u8: "an integer from 0 to 255" "an array of integers from 0 to 255",
    u16: "an integer from 0 to 65535" "an array of integers from 0 to 65535",
    u32: "an integer of 32 bits, not negative" "an array of integers of 32 bits, not negative",
    u64: "an integer, not negative" "an array of integers, not negative",
    usize: "an integer, not negative" "an array of integers, not negative",
    i32: "an integer of 32 bits" "an array of integers of 32 bits",
    i64: "an integer" "an array of integers"
);

macro_rules! from_value {
    ($rust:ty, $expected:literal, $($pattern:pat => $value:expr),+) => {
        impl<'a> FromValue<'a> for $rust {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $($pattern => Some($value),)+
                    _ => None,
                }
            }
        }
    };
}

from_value!(f32, "a floating-point number", Value::F32(v) => *v, Value::F64(v) => *v as f32);
from_value!(f64, "a floating-point number", Value::F32(v) => (*v).into(), Value::F64(v) => *v);
from_value!(bool, "a boolean", Value::Bool(v) => *v);
from_value!(&'a str, "a string", Value::String(v) => v);
from_value!(String, "a string", Value::String(v) => v.clone());
from_value!(&'a Array, "an array", Value::Array(v) => v);
from_value!(&'a StringArray, "an array of strings", Value::Array(Array::String(v)) => v);
from_value!(Vec<bool>, "an array of booleans", Value::Array(Array::Bool(v)) => v.clone());
from_value!(
    Vec<f32>,
    "an array of floating-point numbers",
    Value::Array(Array::F32(v)) => v.clone(),
    Value::Array(Array::F64(v)) => v.iter().map(|&x| x as f32).collect()
);

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        metadata.insert("small".into(), 3u8.into());
        metadata.insert("large".into(), 5_000_000_000u64.into());
        metadata.insert("negative".into(), (-1i16).into());
        metadata.insert("list".into(), vec![1i32, 2, 3].into());
        metadata.insert("name".into(), "x".into());
        metadata.insert("eps".into(), 0.5f64.into());
        metadata
    }

    #[test]
    fn integers_of_any_width_are_accepted_if_they_fit() {
        let metadata = metadata();
        assert_eq!(metadata.get::<u32>("small").unwrap(), 3);
        assert_eq!(metadata.get::<i64>("small").unwrap(), 3);
        assert_eq!(metadata.get::<u64>("large").unwrap(), 5_000_000_000);
        assert_eq!(metadata.get::<i32>("negative").unwrap(), -1);
        assert_eq!(metadata.get::<Vec<u32>>("list").unwrap(), [1, 2, 3]);
        assert_eq!(metadata.get::<f32>("eps").unwrap(), 0.5);
        assert_eq!(metadata.find::<bool>("absent").unwrap(), None);
    }

    #[test]
    fn errors_name_key_expected_and_found() {
        let metadata = metadata();
        let message = |error: GgufError| error.to_string();
        assert_eq!(
            message(metadata.get::<u32>("large").unwrap_err()),
            "m.gguf: metadata key \"large\" is u64 5000000000, expected an integer of 32 bits, not negative"
        );
        assert_eq!(
            message(metadata.get::<bool>("list").unwrap_err()),
            "m.gguf: metadata key \"list\" is array of i32 with 3 values, expected a boolean"
        );
        assert_eq!(
            message(metadata.get::<&str>("absent").unwrap_err()),
            "m.gguf: metadata has no \"absent\", expected a string"
        );
    }

    #[test]
    fn values_per_layer_may_be_one_for_all() {
        let metadata = metadata();
        let per_layer = |key, count| metadata.find_per_layer::<u32>(key, count);
        assert_eq!(per_layer("small", 2).unwrap(), Some(vec![3, 3]));
        assert_eq!(per_layer("list", 3).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(per_layer("absent", 3).unwrap(), None);
        assert!(per_layer("list", 2).is_err());
        assert!(per_layer("name", 2).is_err());
    }

    #[test]
    fn removing_keeps_the_order() {
        let mut metadata = metadata();
        metadata.remove("large");
        let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["small", "negative", "list", "name", "eps"]);
        assert_eq!(metadata.get::<&str>("name").unwrap(), "x");
    }
}
