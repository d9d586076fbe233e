//! The ways a tensor's values can be stored, with their block sizes.
//!
//! Numbers and sizes are ggml's (`ggml_type`, as in the GGUF specification); safetensors types
//! that GGUF lacks have no GGUF id. What the bits of a block mean is in `tensor::quant`.

/// A storage type. Blocked types store `block_len` consecutive values of a row in `block_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "the field's names: Q4_K, IQ2_XXS")]
#[expect(
    missing_docs,
    reason = "the names are the field's own; the table below has the facts"
)]
pub enum DType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    /// 8-bit float (4 exponent, 3 mantissa bits, no infinities), as in FP8 checkpoints.
    F8_E4M3,
    /// Unsigned bytes, only in safetensors.
    U8,
}

struct Facts {
    dtype: DType,
    name: &'static str,
    gguf_id: Option<u32>,
    block_len: usize,
    block_bytes: usize,
}

const fn facts(
    dtype: DType,
    name: &'static str,
    gguf_id: Option<u32>,
    block_len: usize,
    block_bytes: usize,
) -> Facts {
    Facts {
        dtype,
        name,
        gguf_id,
        block_len,
        block_bytes,
    }
}

/// In the order of the enum, so that a type's row is found by its discriminant.
const TABLE: [Facts; 36] = [
    facts(DType::F32, "F32", Some(0), 1, 4),
    facts(DType::F16, "F16", Some(1), 1, 2),
    facts(DType::BF16, "BF16", Some(30), 1, 2),
    facts(DType::F64, "F64", Some(28), 1, 8),
    facts(DType::I8, "I8", Some(24), 1, 1),
    facts(DType::I16, "I16", Some(25), 1, 2),
    facts(DType::I32, "I32", Some(26), 1, 4),
    facts(DType::I64, "I64", Some(27), 1, 8),
    facts(DType::Q4_0, "Q4_0", Some(2), 32, 18),
    facts(DType::Q4_1, "Q4_1", Some(3), 32, 20),
    facts(DType::Q5_0, "Q5_0", Some(6), 32, 22),
    facts(DType::Q5_1, "Q5_1", Some(7), 32, 24),
    facts(DType::Q8_0, "Q8_0", Some(8), 32, 34),
    facts(DType::Q8_1, "Q8_1", Some(9), 32, 36),
    facts(DType::Q2_K, "Q2_K", Some(10), 256, 84),
    facts(DType::Q3_K, "Q3_K", Some(11), 256, 110),
    facts(DType::Q4_K, "Q4_K", Some(12), 256, 144),
    facts(DType::Q5_K, "Q5_K", Some(13), 256, 176),
    facts(DType::Q6_K, "Q6_K", Some(14), 256, 210),
    facts(DType::Q8_K, "Q8_K", Some(15), 256, 292),
    facts(DType::IQ1_S, "IQ1_S", Some(19), 256, 50),
    facts(DType::IQ1_M, "IQ1_M", Some(29), 256, 56),
    facts(DType::IQ2_XXS, "IQ2_XXS", Some(16), 256, 66),
    facts(DType::IQ2_XS, "IQ2_XS", Some(17), 256, 74),
    facts(DType::IQ2_S, "IQ2_S", Some(22), 256, 82),
    facts(DType::IQ3_XXS, "IQ3_XXS", Some(18), 256, 98),
    facts(DType::IQ3_S, "IQ3_S", Some(21), 256, 110),
    facts(DType::IQ4_NL, "IQ4_NL", Some(20), 32, 18),
    facts(DType::IQ4_XS, "IQ4_XS", Some(23), 256, 136),
    facts(DType::TQ1_0, "TQ1_0", Some(34), 256, 54),
    facts(DType::TQ2_0, "TQ2_0", Some(35), 256, 66),
    facts(DType::MXFP4, "MXFP4", Some(39), 32, 17),
    facts(DType::NVFP4, "NVFP4", Some(40), 64, 36),
    facts(DType::Q1_0, "Q1_0", Some(41), 128, 18),
    facts(DType::F8_E4M3, "F8_E4M3", None, 1, 1),
    facts(DType::U8, "U8", None, 1, 1),
];

impl DType {
    /// Every type, in the order of their definition.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.dtype)
    }

    fn facts(self) -> &'static Facts {
        &TABLE[self as usize]
    }

    /// The type with this GGUF id (`ggml_type`), if we know it.
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.gguf_id == Some(id))
            .map(|row| row.dtype)
    }

    /// The type's id in GGUF files; `None` for those that only safetensors has.
    pub fn gguf_id(self) -> Option<u32> {
        self.facts().gguf_id
    }

    /// The field's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(name))
            .map(|row| row.dtype)
    }

    /// How many values of a row one block holds.
    pub fn block_len(self) -> usize {
        self.facts().block_len
    }

    /// The bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// The bytes of a row of `cols` values; `None` if `cols` is no multiple of the block or the
    /// size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The bytes of a tensor with this shape (innermost dimension last); `None` as for
    /// [`DType::row_bytes`].
    pub fn bytes_for(self, shape: &[usize]) -> Option<usize> {
        let (cols, outer) = match shape.split_last() {
            Some((cols, outer)) => (*cols, outer),
            None => (1, shape),
        };
        let rows = outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        self.row_bytes(cols)?.checked_mul(rows)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.dtype as usize, index, "{}", row.name);
            assert_eq!(DType::from_name(row.name), Some(row.dtype));
            assert_eq!(
                row.gguf_id.and_then(DType::from_gguf_id),
                row.gguf_id.map(|_| row.dtype)
            );
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(DType::Q4_K.row_bytes(500), None);
        assert_eq!(DType::F32.bytes_for(&[]), Some(4));
        assert_eq!(DType::F32.bytes_for(&[usize::MAX, 2]), None);
        assert_eq!(DType::Q8_0.bytes_for(&[3, 64]), Some(204));
    }
}
