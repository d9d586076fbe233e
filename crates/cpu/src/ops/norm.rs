//! RMS norms.

use tensor::reference::{check_shape, shape_error};
use tensor::{OpError, Tensor};

use super::is_multiple;
use crate::cpu::Cpu;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd, silu, sum_of_squares};

pub(super) fn add_norm(
    cpu: &Cpu,
    x: &mut Tensor,
    addend: Option<&Tensor>,
    weight: &[f32],
    eps: f32,
) -> Result<Tensor, OpError> {
    let (rows, cols) = (x.rows(), x.cols());
    check_shape("add_norm", "a residual", x, rows, weight.len())?;
    if let Some(addend) = addend {
        check_shape("add_norm", "an addend", addend, rows, cols)?;
    }
    let mut out = Tensor::unspecified(rows, cols);
    let residual = Parts::new(x.data_mut());
    cpu.for_rows(out.data_mut(), cols, 2 * cols, |row, out| {
        // SAFETY: rows do not overlap, and each is worked on once.
        let x = unsafe { residual.part(row * cols..(row + 1) * cols) };
        if let Some(addend) = addend {
            cpu.dispatch.run(Add {
                x,
                addend: addend.row(row),
            });
        }
        cpu.dispatch.run(Scale {
            x,
            weight,
            eps,
            out,
        });
    });
    Ok(out)
}

pub(super) fn gated_norm(
    cpu: &Cpu,
    mut x: Tensor,
    gate: &Tensor,
    weight: &[f32],
    eps: f32,
) -> Result<Tensor, OpError> {
    check_shape("gated_norm", "a gate", gate, x.rows(), x.cols())?;
    let (cols, head) = (x.cols(), weight.len());
    if !is_multiple(cols, head) {
        return shape_error("gated_norm", "whole heads", format!("{cols} columns"));
    }
    cpu.for_rows(x.data_mut(), cols, 4 * cols, |row, x| {
        let gates = gate.row(row).chunks(head);
        for (x, gate) in x.chunks_mut(head).zip(gates) {
            cpu.dispatch.run(GatedNorm {
                x,
                gate,
                weight,
                eps,
            });
        }
    });
    Ok(x)
}

/// RMS norm of one row in place: `x * rsqrt(mean(x^2) + eps) * weight`.
pub(super) struct Norm<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
}

struct Add<'a> {
    x: &'a mut [f32],
    addend: &'a [f32],
}

struct Scale<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

struct GatedNorm<'a> {
    x: &'a mut [f32],
    gate: &'a [f32],
    weight: &'a [f32],
    eps: f32,
}

/// `rsqrt(mean(x^2) + eps)`
#[inline(always)]
fn norm_factor<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_squares(s, x) / x.len() as f32 + eps).sqrt()
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(self.x.len(), self.weight.len());
        let factor = s.splat(norm_factor(s, self.x, self.eps));
        for at in (0..self.x.len()).step_by(S::LANES) {
            let rest = self.x.len() - at;
            // SAFETY: `rest` values remain in both.
            unsafe {
                let x = s.load_up_to(self.x.as_ptr().add(at), rest);
                let weight = s.load_up_to(self.weight.as_ptr().add(at), rest);
                let y = s.mul(s.mul(x, factor), weight);
                s.store_up_to(self.x.as_mut_ptr().add(at), y, rest);
            }
        }
    }
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _simd: S) {
        for (x, addend) in self.x.iter_mut().zip(self.addend) {
            *x += addend;
        }
    }
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert!(self.x.len() == self.weight.len() && self.x.len() == self.out.len());
        let factor = s.splat(norm_factor(s, self.x, self.eps));
        for at in (0..self.x.len()).step_by(S::LANES) {
            let rest = self.x.len() - at;
            // SAFETY: `rest` values remain in all three.
            unsafe {
                let x = s.load_up_to(self.x.as_ptr().add(at), rest);
                let weight = s.load_up_to(self.weight.as_ptr().add(at), rest);
                let y = s.mul(s.mul(x, factor), weight);
                s.store_up_to(self.out.as_mut_ptr().add(at), y, rest);
            }
        }
    }
}

impl Kernel for GatedNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.x.len();
        assert!(len == self.weight.len() && len == self.gate.len());
        let factor = s.splat(norm_factor(s, self.x, self.eps));
        for at in (0..len).step_by(S::LANES) {
            // SAFETY: `len - at` values remain in all three.
            unsafe {
                let x = s.load_up_to(self.x.as_ptr().add(at), len - at);
                let weight = s.load_up_to(self.weight.as_ptr().add(at), len - at);
                let gate = s.load_up_to(self.gate.as_ptr().add(at), len - at);
                let y = s.mul(s.mul(s.mul(x, factor), weight), silu(s, gate));
                s.store_up_to(self.x.as_mut_ptr().add(at), y, len - at);
            }
        }
    }
}
