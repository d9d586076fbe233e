//! Metadata values: numbers, strings and typed arrays of them.

use super::cursor::Cursor;
use super::error::Problem;

/// How deep arrays may be nested. No known file nests at all; the format allows it.
const MAX_DEPTH: usize = 4;

/// A metadata value, in the type in which the file has it.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's type names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are the format's type names")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one buffer: a vocabulary costs two allocations, not one per token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<usize>,
}

impl StringArray {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end];
            start = end;
            string
        })
    }

    /// Adds a string at the end.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut array = Self::default();
        for string in strings {
            array.push(string.as_ref());
        }
        array
    }
}

/// The names and ids of value types, in the order of the format's numbering.
pub(super) const TYPE_NAMES: [&str; 13] = [
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
];

impl Value {
    /// The format's number of this type.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// The type's name, such as `u32` or `array of string`.
    pub fn type_name(&self) -> String {
        match self {
            Self::Array(array) => format!("array of {}", TYPE_NAMES[array.type_id() as usize]),
            other => TYPE_NAMES[other.type_id() as usize].to_owned(),
        }
    }

    /// Type and value in few words, for messages.
    pub(super) fn describe(&self) -> String {
        let name = self.type_name();
        match self {
            Self::U8(v) => format!("{name} {v}"),
            Self::I8(v) => format!("{name} {v}"),
            Self::U16(v) => format!("{name} {v}"),
            Self::I16(v) => format!("{name} {v}"),
            Self::U32(v) => format!("{name} {v}"),
            Self::I32(v) => format!("{name} {v}"),
            Self::U64(v) => format!("{name} {v}"),
            Self::I64(v) => format!("{name} {v}"),
            Self::F32(v) => format!("{name} {v}"),
            Self::F64(v) => format!("{name} {v}"),
            Self::Bool(v) => format!("{name} {v}"),
            Self::String(v) => {
                let start: String = v.chars().take(40).collect();
                format!("{name} {start:?}")
            }
            Self::Array(v) => format!("{name} with {} values", v.len()),
        }
    }

    /// Reads a value of the type with this number.
    pub(super) fn read(cursor: &mut Cursor<'_>, type_id: u32) -> Result<Self, Problem> {
        const WHAT: &str = "metadata value";
        Ok(match type_id {
            0 => Self::U8(u8::from_le_bytes(cursor.array(WHAT)?)),
            1 => Self::I8(i8::from_le_bytes(cursor.array(WHAT)?)),
            2 => Self::U16(u16::from_le_bytes(cursor.array(WHAT)?)),
            3 => Self::I16(i16::from_le_bytes(cursor.array(WHAT)?)),
            4 => Self::U32(u32::from_le_bytes(cursor.array(WHAT)?)),
            5 => Self::I32(i32::from_le_bytes(cursor.array(WHAT)?)),
            6 => Self::F32(f32::from_le_bytes(cursor.array(WHAT)?)),
            7 => Self::Bool(read_bool(cursor)?),
            8 => Self::String(cursor.string(WHAT)?.to_owned()),
            9 => Self::Array(Array::read(cursor, 1)?),
            10 => Self::U64(u64::from_le_bytes(cursor.array(WHAT)?)),
            11 => Self::I64(i64::from_le_bytes(cursor.array(WHAT)?)),
            12 => Self::F64(f64::from_le_bytes(cursor.array(WHAT)?)),
            id => {
                let offset = cursor.offset().saturating_sub(4);
                return Err(Problem::UnknownValueType { id, offset });
            }
        })
    }

    /// Appends the value as the format stores it, without its type number.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.extend(v.to_le_bytes()),
            Self::I8(v) => out.extend(v.to_le_bytes()),
            Self::U16(v) => out.extend(v.to_le_bytes()),
            Self::I16(v) => out.extend(v.to_le_bytes()),
            Self::U32(v) => out.extend(v.to_le_bytes()),
            Self::I32(v) => out.extend(v.to_le_bytes()),
            Self::F32(v) => out.extend(v.to_le_bytes()),
            Self::U64(v) => out.extend(v.to_le_bytes()),
            Self::I64(v) => out.extend(v.to_le_bytes()),
            Self::F64(v) => out.extend(v.to_le_bytes()),
            Self::Bool(v) => out.push(u8::from(*v)),
            Self::String(v) => write_string(out, v),
            Self::Array(v) => v.write(out),
        }
    }
}

pub(super) fn write_string(out: &mut Vec<u8>, string: &str) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string.as_bytes());
}

fn read_bool(cursor: &mut Cursor<'_>) -> Result<bool, Problem> {
    let offset = cursor.offset();
    match cursor.array("boolean")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [value] => Err(Problem::BadBool { value, offset }),
    }
}

/// Reads `count` numbers of `N` bytes each; `count` was checked against the bytes left.
fn read_numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    from_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>, Problem> {
    let count = cursor.count(N as u64, "array length")?;
    let bytes = cursor.take((count * N) as u64, "array")?;
    let (numbers, _) = bytes.as_chunks::<N>();
    Ok(numbers.iter().map(|&number| from_bytes(number)).collect())
}

impl Array {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, copied out.
    pub fn get(&self, index: usize) -> Option<Value> {
        Some(match self {
            Self::U8(v) => Value::U8(*v.get(index)?),
            Self::I8(v) => Value::I8(*v.get(index)?),
            Self::U16(v) => Value::U16(*v.get(index)?),
            Self::I16(v) => Value::I16(*v.get(index)?),
            Self::U32(v) => Value::U32(*v.get(index)?),
            Self::I32(v) => Value::I32(*v.get(index)?),
            Self::F32(v) => Value::F32(*v.get(index)?),
            Self::Bool(v) => Value::Bool(*v.get(index)?),
            Self::String(v) => Value::String(v.get(index)?.to_owned()),
            Self::Array(v) => Value::Array(v.get(index)?.clone()),
            Self::U64(v) => Value::U64(*v.get(index)?),
            Self::I64(v) => Value::I64(*v.get(index)?),
            Self::F64(v) => Value::F64(*v.get(index)?),
        })
    }

    /// The format's number of the elements' type.
    pub(super) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Problem> {
        let offset = cursor.offset();
        if depth > MAX_DEPTH {
            return Err(Problem::NestedTooDeep {
                offset,
                limit: MAX_DEPTH,
            });
        }
        Ok(match cursor.u32("array type")? {
            0 => Self::U8(read_numbers(cursor, u8::from_le_bytes)?),
            1 => Self::I8(read_numbers(cursor, i8::from_le_bytes)?),
            2 => Self::U16(read_numbers(cursor, u16::from_le_bytes)?),
            3 => Self::I16(read_numbers(cursor, i16::from_le_bytes)?),
            4 => Self::U32(read_numbers(cursor, u32::from_le_bytes)?),
            5 => Self::I32(read_numbers(cursor, i32::from_le_bytes)?),
            6 => Self::F32(read_numbers(cursor, f32::from_le_bytes)?),
            7 => {
                let count = cursor.count(1, "array length")?;
                Self::Bool(
                    (0..count)
                        .map(|_| read_bool(cursor))
                        .collect::<Result<_, _>>()?,
                )
            }
            8 => {
                let count = cursor.count(8, "array length")?;
                let mut strings = StringArray::default();
                strings.ends.reserve_exact(count);
                for _ in 0..count {
                    strings.push(cursor.string("string in an array")?);
                }
                Self::String(strings)
            }
            9 => {
                // The least array is a type and a length.
                let count = cursor.count(12, "array length")?;
                let arrays = (0..count).map(|_| Self::read(cursor, depth + 1));
                Self::Array(arrays.collect::<Result<_, _>>()?)
            }
            10 => Self::U64(read_numbers(cursor, u64::from_le_bytes)?),
            11 => Self::I64(read_numbers(cursor, i64::from_le_bytes)?),
            12 => Self::F64(read_numbers(cursor, f64::from_le_bytes)?),
            id => return Err(Problem::UnknownValueType { id, offset }),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.type_id().to_le_bytes());
        out.extend((self.len() as u64).to_le_bytes());
        match self {
            Self::U8(v) => out.extend(v),
            Self::I8(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::U16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::I16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::U32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::U64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::F64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Self::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
            Self::String(v) => v.iter().for_each(|string| write_string(out, string)),
            Self::Array(v) => v.iter().for_each(|array| array.write(out)),
        }
    }
}

/// `From` for the Rust types that correspond to a variant, alone and as a `Vec`.
macro_rules! from_rust {
    ($($variant:ident $rust:ty),*) => { $(
        impl From<$rust> for Value {
            fn from(value: $rust) -> Self {
                Self::$variant(value)
            }
        }
        impl From<Vec<$rust>> for Value {
            fn from(values: Vec<$rust>) -> Self {
                Self::Array(Array::$variant(values))
            }
        }
    )* };
}

from_rust!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, F32 f32, Bool bool, U64 u64, I64 i64,
    F64 f64);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<StringArray> for Value {
    fn from(value: StringArray) -> Self {
        Self::Array(Array::String(value))
    }
}

impl From<Array> for Value {
    fn from(value: Array) -> Self {
        Self::Array(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let nested = Array::Array(vec![
            Array::Array(vec![Array::U16(vec![7]), Array::Bool(vec![])]),
            Array::String(["", "ü", "three"].into_iter().collect()),
        ]);
        let values: Vec<Value> = vec![
            1u8.into(),
            (-1i8).into(),
            2u16.into(),
            (-2i16).into(),
            3u32.into(),
            (-3i32).into(),
            4u64.into(),
            (-4i64).into(),
            0.5f32.into(),
            (-0.5f64).into(),
            true.into(),
            "text".into(),
            vec![1u64, u64::MAX].into(),
            vec![true, false].into(),
            vec![1.5f32].into(),
            Vec::<i8>::new().into(),
            nested.into(),
        ];
        for value in values {
            let mut bytes = Vec::new();
            value.write(&mut bytes);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(Value::read(&mut cursor, value.type_id()).unwrap(), value);
            assert_eq!(cursor.left(), 0);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut array = Array::U8(vec![1]);
        for _ in 0..MAX_DEPTH {
            array = Array::Array(vec![array]);
        }
        let mut bytes = Vec::new();
        array.write(&mut bytes);
        let error = Value::read(&mut Cursor::new(&bytes), 9).unwrap_err();
        assert!(matches!(error, Problem::NestedTooDeep { .. }), "{error}");
    }

    #[test]
    fn strings_of_an_array_are_found_by_index() {
        let array: StringArray = ["a", "", "bcd"].into_iter().collect();
        assert_eq!(array.iter().collect::<Vec<_>>(), ["a", "", "bcd"]);
        assert_eq!(array.get(2), Some("bcd"));
        assert_eq!(array.get(3), None);
    }
}
