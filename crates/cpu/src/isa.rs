//! Which instruction set the kernels use: found once at start, or forced.

use std::fmt;
use std::str::FromStr;

/// An instruction set that kernels are written for, from plain to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Portable loops, vectorised by the compiler as far as the build target allows.
    Scalar,
    /// 64-bit ARM with NEON and its dot products of bytes.
    Neon,
    /// The same with products of pairs of rows of bytes (FEAT_I8MM).
    NeonI8mm,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    Avx512,
}

impl Isa {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Scalar,
        Self::Neon,
        Self::NeonI8mm,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
    ];

    /// The widest one this machine has.
    pub fn detect() -> Self {
        let supported = Self::ALL.into_iter().rfind(|isa| isa.is_supported());
        supported.unwrap_or(Self::Scalar)
    }

    /// Whether this machine can run it.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => {
                Self::Neon.is_supported() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon | Self::NeonI8mm => false,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_supported() && has_dots_of_256_bits(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::AvxVnni | Self::Avx512 => false,
        }
    }
}

/// Machines with AVX-512 have had the same instruction in another encoding for longer, and often not
/// this one. So that these kernels are tested on them, tests are compiled to the other.
#[cfg(target_arch = "x86_64")]
fn has_dots_of_256_bits() -> bool {
    if cfg!(test) {
        is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512vnni")
    } else {
        is_x86_feature_detected!("avxvnni")
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::NeonI8mm => "neon-i8mm",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.to_string() == name)
            .ok_or_else(|| {
                format!(
                    "{name:?} is no instruction set; use scalar, neon, neon-i8mm, avx2, avxvnni or avx512"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert!("sse9".parse::<Isa>().is_err());
        assert!(Isa::detect().is_supported());
    }
}
