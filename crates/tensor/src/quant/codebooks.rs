//! The fixed sets of values that codes point into: 4-bit tables, sign patterns and the lattice
//! points of the IQ types.
//!
//! All of them are facts of the file formats, shared by the decoders here and by kernels that work
//! on blocks directly.

mod packed;

/// The values of IQ4_NL and IQ4_XS codes.
pub static IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of 4-bit floats (E2M1: sign, two exponent bits, one mantissa bit), so that they
/// are integers. From the OCP microscaling formats specification, version 1.0.
pub static E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Eight sign bits for each 7-bit code: the eighth makes the number of minus signs even.
pub static SIGNS: [u8; 128] = {
    let mut table = [0; 128];
    let mut code = 0;
    while code < 128 {
        let parity = (code as u8).count_ones() as u8 & 1;
        table[code] = code as u8 | parity << 7;
        code += 1;
    }
    table
};

/// Lattice points of IQ1_S and IQ1_M.
pub static IQ1: [[i8; 8]; 2048] = expand(&packed::IQ1, 2, &[-1, 0, 1]);
/// Lattice points of IQ2_XXS; signs are stored apart, as for all that follow.
pub static IQ2_XXS: [[i8; 8]; 256] = expand(&packed::IQ2_XXS, 2, &[8, 25, 43]);
/// Lattice points of IQ2_XS.
pub static IQ2_XS: [[i8; 8]; 512] = expand(&packed::IQ2_XS, 2, &[8, 25, 43]);
/// Lattice points of IQ2_S.
pub static IQ2_S: [[i8; 8]; 1024] = expand(&packed::IQ2_S, 2, &[8, 25, 43]);
/// Lattice points of IQ3_XXS.
pub static IQ3_XXS: [[i8; 4]; 256] = expand(&packed::IQ3_XXS, 4, &[4, 12, 20, 28, 36, 44, 52, 62]);
/// Lattice points of IQ3_S.
pub static IQ3_S: [[i8; 4]; 512] = expand(&packed::IQ3_S, 4, &[1, 3, 5, 7, 9, 11, 13, 15]);

const fn expand<const LEN: usize, const POINTS: usize>(
    packed: &[u16; POINTS],
    bits: u32,
    levels: &[i8],
) -> [[i8; LEN]; POINTS] {
    let mut points = [[0; LEN]; POINTS];
    let mut p = 0;
    while p < POINTS {
        let mut i = 0;
        while i < LEN {
            let code = packed[p] >> (bits * i as u32) & ((1 << bits) - 1);
            points[p][i] = levels[code as usize];
            i += 1;
        }
        p += 1;
    }
    points
}
