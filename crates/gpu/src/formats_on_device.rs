//! Storage types on the device: their planes, and the header that tells the kernels about them.
//!
//! The books that codes point into are those of `tensor::quant`; the header is written from them, so that
//! they are stated once.

use std::fmt::Write;

use formats::DType;
use tensor::quant::codebooks;

/// How a quantised type lies on the device: the bytes that eight groups of 32 values have in each plane,
/// in the order codes, high bits, scales, scales of blocks (see `kernels/formats.cuh`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planes(pub(crate) [usize; 4]);

const PLANES: [(DType, [usize; 4]); 15] = [
    (DType::Q4_0, [128, 0, 16, 0]),
    (DType::Q8_0, [256, 0, 16, 0]),
    (DType::Q2_K, [64, 0, 16, 4]),
    (DType::Q3_K, [64, 32, 12, 2]),
    (DType::Q4_K, [128, 0, 12, 4]),
    (DType::Q5_K, [128, 32, 12, 4]),
    (DType::Q6_K, [128, 64, 16, 2]),
    (DType::IQ2_XXS, [64, 0, 0, 2]),
    (DType::IQ2_XS, [64, 0, 8, 2]),
    (DType::IQ2_S, [64, 0, 16, 2]),
    (DType::IQ3_XXS, [64, 32, 0, 2]),
    (DType::IQ3_S, [64, 32, 8, 6]),
    (DType::IQ4_NL, [128, 0, 16, 0]),
    (DType::IQ4_XS, [128, 0, 6, 2]),
    (DType::MXFP4, [128, 0, 8, 0]),
];

/// The planes of a type that is kept as codes.
pub(crate) fn planes(dtype: DType) -> Option<Planes> {
    let row = PLANES.iter().find(|(of, _)| *of == dtype);
    row.map(|(_, planes)| Planes(*planes))
}

/// The type that a matrix of this one has on the device: itself, or f32, which holds the values of all
/// others exactly.
pub fn on_device(dtype: DType) -> DType {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => dtype,
        _ if planes(dtype).is_some() => dtype,
        _ => DType::F32,
    }
}

/// The number that kernels know a type by: that of GGUF.
pub(crate) fn number(dtype: DType) -> u32 {
    dtype.gguf_id().unwrap_or(u32::MAX)
}

/// The header `codebooks.h`: sizes of planes, and books.
pub(crate) fn header() -> String {
    let mut text = String::from("#pragma once\n#include \"compat.cuh\"\n");
    for (dtype, [codes, high, scales, blocks]) in PLANES {
        line(
            &mut text,
            format_args!("#define PLANES_{dtype} {codes}, {high}, {scales}, {blocks}"),
        );
    }
    table(
        &mut text,
        "IQ4_WORDS[4]",
        codebooks::IQ4.as_chunks::<4>().0,
        1,
    );
    table(
        &mut text,
        "E2M1_WORDS[4]",
        codebooks::E2M1_DOUBLED.as_chunks::<4>().0,
        1,
    );
    eights(
        &mut text,
        "IQ2_XXS_POINTS[256][2]",
        codebooks::IQ2_XXS.as_flattened(),
    );
    eights(
        &mut text,
        "IQ2_XS_POINTS[512][2]",
        codebooks::IQ2_XS.as_flattened(),
    );
    eights(
        &mut text,
        "IQ2_S_POINTS[1024][2]",
        codebooks::IQ2_S.as_flattened(),
    );
    table(&mut text, "IQ3_XXS_POINTS[256]", &codebooks::IQ3_XXS, 1);
    table(&mut text, "IQ3_S_POINTS[512]", &codebooks::IQ3_S, 1);
    text
}

fn eights(text: &mut String, declaration: &str, values: &[i8]) {
    table(text, declaration, values.as_chunks::<4>().0, 2);
}

/// A table of words of four values, `per_entry` of them to an entry.
fn table(text: &mut String, declaration: &str, values: &[[i8; 4]], per_entry: usize) {
    line(text, format_args!("TABLE u32 {declaration} = {{"));
    for entry in values.chunks(per_entry) {
        let words = entry
            .iter()
            .map(|word| format!("{:#010x}u", u32::from_le_bytes(word.map(|v| v as u8))));
        let words = words.collect::<Vec<_>>().join(", ");
        match per_entry {
            1 => line(text, format_args!("{words},")),
            _ => line(text, format_args!("{{{words}}},")),
        }
    }
    text.push_str("};\n");
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_take_the_bytes_of_the_blocks() {
        for (dtype, planes) in PLANES {
            assert_eq!(Some(planes.iter().sum()), dtype.row_bytes(256), "{dtype}");
        }
    }
}
