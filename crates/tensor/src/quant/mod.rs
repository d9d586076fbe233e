//! What the bits of a stored block mean: decoding to f32 and encoding from it.
//!
//! [`decode`] is the scalar reference for every storage type: kernels that compute on blocks
//! directly are tested against it, and types without such a kernel run through it. Each family of
//! types has a file here, with the layout of its blocks in the documentation of its decoders.
//! Decoded values are those of ggml's own reference, bit for bit, and so are the encoded bytes of
//! types whose scales follow from a formula. Types whose scales are searched for (`k`, `iq4`) have
//! our own search, with smaller errors.
//!
//! This module knows neither files nor devices; block sizes are [`DType`]'s.

mod binary;
pub mod codebooks;
mod error;
pub mod float;
mod fp4;
mod iq1;
mod iq2;
mod iq3;
mod iq4;
mod k;
mod plain;
mod rows;
mod simple;
mod ternary;

use formats::DType;

pub use error::QuantError;

/// Whether [`decode`] knows this type.
///
/// All but `U8`: checkpoints use it for packed data whose meaning the type does not tell.
pub fn can_decode(dtype: DType) -> bool {
    decode(dtype, &[], &mut []).is_ok()
}

/// Whether [`encode`] knows this type.
pub fn can_encode(dtype: DType) -> bool {
    encode(dtype, &[], &mut []).is_ok()
}

/// Decodes whole blocks: `bytes` must be exactly the storage of `out.len()` values.
///
/// Never panics; meaningless bytes decode to meaningless numbers, infinities and NaN included.
///
/// ```
/// use formats::DType;
/// use tidemill_tensor::quant;
///
/// let mut values = [0.0; 2];
/// quant::decode(DType::BF16, &[0x80, 0x3f, 0x00, 0xc0], &mut values)?;
/// assert_eq!(values, [1.0, -2.0]);
/// # Ok::<(), quant::QuantError>(())
/// ```
///
/// # Errors
/// [`QuantError::NotDecodable`] and [`QuantError::Size`].
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    check_sizes(dtype, bytes.len(), out.len())?;
    match dtype {
        DType::F32 => plain::decode(bytes, out, f32::from_le_bytes),
        DType::F16 => plain::decode(bytes, out, plain::decode_f16),
        DType::BF16 => plain::decode(bytes, out, plain::decode_bf16),
        DType::F64 => plain::decode(bytes, out, plain::decode_f64),
        DType::F8_E4M3 => plain::decode(bytes, out, plain::decode_f8_e4m3),
        DType::I8 => plain::decode(bytes, out, plain::decode_i8),
        DType::I16 => plain::decode(bytes, out, plain::decode_i16),
        DType::I32 => plain::decode(bytes, out, plain::decode_i32),
        DType::I64 => plain::decode(bytes, out, plain::decode_i64),
        DType::Q4_0 => rows::decode(bytes, out, simple::decode_q4_0),
        DType::Q4_1 => rows::decode(bytes, out, simple::decode_q4_1),
        DType::Q5_0 => rows::decode(bytes, out, simple::decode_q5_0),
        DType::Q5_1 => rows::decode(bytes, out, simple::decode_q5_1),
        DType::Q8_0 => rows::decode(bytes, out, simple::decode_q8_0),
        DType::Q8_1 => rows::decode(bytes, out, simple::decode_q8_1),
        DType::Q2_K => rows::decode(bytes, out, k::decode_q2_k),
        DType::Q3_K => rows::decode(bytes, out, k::decode_q3_k),
        DType::Q4_K => rows::decode(bytes, out, k::decode_q4_k),
        DType::Q5_K => rows::decode(bytes, out, k::decode_q5_k),
        DType::Q6_K => rows::decode(bytes, out, k::decode_q6_k),
        DType::Q8_K => rows::decode(bytes, out, k::decode_q8_k),
        DType::IQ1_S => rows::decode(bytes, out, iq1::decode_iq1_s),
        DType::IQ1_M => rows::decode(bytes, out, iq1::decode_iq1_m),
        DType::IQ2_XXS => rows::decode(bytes, out, iq2::decode_iq2_xxs),
        DType::IQ2_XS => rows::decode(bytes, out, iq2::decode_iq2_xs),
        DType::IQ2_S => rows::decode(bytes, out, iq2::decode_iq2_s),
        DType::IQ3_XXS => rows::decode(bytes, out, iq3::decode_iq3_xxs),
        DType::IQ3_S => rows::decode(bytes, out, iq3::decode_iq3_s),
        DType::IQ4_NL => rows::decode(bytes, out, iq4::decode_iq4_nl),
        DType::IQ4_XS => rows::decode(bytes, out, iq4::decode_iq4_xs),
        DType::TQ1_0 => rows::decode(bytes, out, ternary::decode_tq1_0),
        DType::TQ2_0 => rows::decode(bytes, out, ternary::decode_tq2_0),
        DType::MXFP4 => rows::decode(bytes, out, fp4::decode_mxfp4),
        DType::NVFP4 => rows::decode(bytes, out, fp4::decode_nvfp4),
        DType::Q1_0 => rows::decode(bytes, out, binary::decode_q1_0),
        DType::U8 => return Err(QuantError::NotDecodable(dtype)),
    }
    Ok(())
}

/// Encodes whole blocks: `out` must be exactly the storage of `values.len()` values.
///
/// Plain floats round to nearest even and keep infinities and NaN. Blocked types take finite
/// values only; a block of zeros decodes to zeros.
///
/// ```
/// use formats::DType;
/// use tidemill_tensor::quant;
///
/// let values: Vec<f32> = (0..32).map(|i| i as f32 - 4.0).collect();
/// let mut block = [0; 34];
/// quant::encode(DType::Q8_0, &values, &mut block)?;
///
/// let mut decoded = [0.0; 32];
/// quant::decode(DType::Q8_0, &block, &mut decoded)?;
/// assert!((decoded[31] - 27.0).abs() < 27.0 / 254.0);
/// # Ok::<(), quant::QuantError>(())
/// ```
///
/// # Errors
/// [`QuantError::NotEncodable`], [`QuantError::Size`], [`QuantError::NotFinite`] and
/// [`QuantError::TooLarge`].
pub fn encode(dtype: DType, values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    check_sizes(dtype, out.len(), values.len())?;
    match dtype {
        DType::F32 => plain::encode(values, out, f32::to_le_bytes),
        DType::F16 => plain::encode(values, out, plain::encode_f16),
        DType::BF16 => plain::encode(values, out, plain::encode_bf16),
        DType::Q4_0 => rows::encode(dtype, values, out, simple::encode_q4_0)?,
        DType::Q4_1 => rows::encode(dtype, values, out, simple::encode_q4_1)?,
        DType::Q5_0 => rows::encode(dtype, values, out, simple::encode_q5_0)?,
        DType::Q5_1 => rows::encode(dtype, values, out, simple::encode_q5_1)?,
        DType::Q8_0 => rows::encode(dtype, values, out, simple::encode_q8_0)?,
        DType::Q8_1 => rows::encode(dtype, values, out, simple::encode_q8_1)?,
        DType::Q2_K => rows::encode(dtype, values, out, k::encode_q2_k)?,
        DType::Q3_K => rows::encode(dtype, values, out, k::encode_q3_k)?,
        DType::Q4_K => rows::encode(dtype, values, out, k::encode_q4_k)?,
        DType::Q5_K => rows::encode(dtype, values, out, k::encode_q5_k)?,
        DType::Q6_K => rows::encode(dtype, values, out, k::encode_q6_k)?,
        DType::Q8_K => rows::encode(dtype, values, out, k::encode_q8_k)?,
        DType::IQ4_NL => rows::encode(dtype, values, out, iq4::encode_iq4_nl)?,
        DType::TQ1_0 => rows::encode(dtype, values, out, ternary::encode_tq1_0)?,
        DType::TQ2_0 => rows::encode(dtype, values, out, ternary::encode_tq2_0)?,
        DType::MXFP4 => rows::encode(dtype, values, out, fp4::encode_mxfp4)?,
        DType::NVFP4 => rows::encode(dtype, values, out, fp4::encode_nvfp4)?,
        DType::Q1_0 => rows::encode(dtype, values, out, binary::encode_q1_0)?,
        _ => return Err(QuantError::NotEncodable(dtype)),
    }
    Ok(())
}

fn check_sizes(dtype: DType, bytes: usize, values: usize) -> Result<(), QuantError> {
    if dtype.row_bytes(values) == Some(bytes) {
        Ok(())
    } else {
        Err(QuantError::Size {
            dtype,
            bytes,
            values,
        })
    }
}
