//! Queries, keys and values in the form in which their products read them.
//!
//! A row of `head_dim` values is padded with zeros to whole tiles of [`TILE`] vectors. Keys lie
//! turned, one per lane; values lie as they are. Both are decoded from the cache's type once for
//! all queries of a task.

use formats::DType;

use super::units::{UnitKernel, UnitKind, Units};
use crate::cpu::Cpu;
use crate::dots::float::{Bf16, F16, F32, Stored};
use crate::dots::words::{Rows, Words as _};
use crate::prefetch::{self, LINE};
use crate::simd::Simd;

/// Vectors side by side in a tile of keys, or of a value's columns.
pub(super) const TILE: usize = 4;

/// Encoded rows of one head in a cache.
#[derive(Clone, Copy)]
pub(super) struct CachedRows<'a> {
    pub(super) dtype: DType,
    pub(super) cols: usize,
    pub(super) row_bytes: usize,
    /// Where each row begins.
    pub(super) rows: &'a [*const u8],
}

impl CachedRows<'_> {
    /// Asks for the row that will be wanted some rows after row `index`. Rows are short streams,
    /// which the processor's own prefetching finds too late.
    #[inline(always)]
    fn prefetch(&self, index: usize) {
        const AHEAD: usize = 16;
        if let Some(row) = self.rows.get(index + AHEAD) {
            for line in (0..self.row_bytes).step_by(LINE) {
                prefetch::into_first(row.wrapping_add(line));
            }
        }
    }
}

/// A type of cached values.
pub(super) trait Cached: Copy {
    /// A vector of a row's values from `at` on; zeros beyond `cols`.
    ///
    /// # Safety
    /// `row` must point to a row of `cols` values, whole blocks if the type has blocks. `at` is a
    /// multiple of the lanes.
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F;
}

impl<W: Stored> Cached for W {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        // SAFETY: the row has the values up to `cols`.
        unsafe {
            if at + S::LANES <= cols {
                W::load(s, row.add(at * W::BYTES))
            } else if at < cols {
                W::load_first(s, row.add(at * W::BYTES), cols - at)
            } else {
                s.splat(0.0)
            }
        }
    }
}

/// Blocks of 32: a half-precision scale and 32 signed bytes.
#[derive(Clone, Copy)]
pub(super) struct Q8;
/// Blocks of 32: a half-precision scale and 16 bytes, value i in the low half of byte i and value
/// i + 16 in the high half, 8 above what it means.
#[derive(Clone, Copy)]
pub(super) struct Q4;

/// The scale at the beginning of a block, in all lanes.
///
/// # Safety
/// `block` must point to a block.
#[inline(always)]
unsafe fn scale<S: Simd>(s: S, block: *const u8) -> S::F {
    // SAFETY: as the caller promises.
    let bits = u16::from_le(unsafe { block.cast::<u16>().read_unaligned() });
    s.half_to_float(s.splat_words(u32::from(bits)))
}

impl Cached for Q8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        if at >= cols {
            return s.splat(0.0);
        }
        // SAFETY: the block exists, and lanes divide it.
        unsafe {
            let block = row.add(at / 32 * 34);
            s.mul(scale(s, block), s.load_i8(block.add(2 + at % 32).cast()))
        }
    }
}

impl Cached for Q4 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        if at >= cols {
            return s.splat(0.0);
        }
        // SAFETY: the block exists, and lanes divide its halves.
        unsafe {
            let block = row.add(at / 32 * 18);
            let bytes = block.add(2 + at % 16);
            let nibbles = if at % 32 < 16 {
                s.load_nibbles::<false>(bytes)
            } else {
                s.load_nibbles::<true>(bytes)
            };
            s.mul(scale(s, block), s.sub(nibbles, s.splat(8.0)))
        }
    }
}

/// Whether rows of a type can be packed as they are.
pub(super) fn is_packable(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 | DType::Q4_0
    )
}

/// Runs a kernel made of the type of cached rows and some fields.
macro_rules! run_for {
    ($kind:ident, $cpu:ident, $dtype:expr, $kernel:ident { $($field:ident),* }) => {
        match $dtype {
            DType::F32 => $kind.run($cpu, $kernel { cached: F32, $($field),* }),
            DType::F16 => $kind.run($cpu, $kernel { cached: F16, $($field),* }),
            DType::BF16 => $kind.run($cpu, $kernel { cached: Bf16, $($field),* }),
            DType::Q8_0 => $kind.run($cpu, $kernel { cached: Q8, $($field),* }),
            DType::Q4_0 => $kind.run($cpu, $kernel { cached: Q4, $($field),* }),
            _ => unreachable!("asked is_packable first"),
        }
    };
}

/// Packs queries: per row `[padded / VALUES]` units.
pub(super) struct PackQueries<'a> {
    pub(super) cols: usize,
    pub(super) padded: usize,
    /// Where each row of f32 begins; `None` for a row of zeros.
    pub(super) rows: &'a [Option<*const f32>],
    pub(super) units: &'a mut [f32],
}

impl UnitKernel for PackQueries<'_> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let s = u.simd();
        let units = self.padded / U::VALUES;
        assert!(self.units.len() >= self.rows.len() * units);
        for (index, row) in self.rows.iter().enumerate() {
            let to = self.units[index * units..].as_mut_ptr();
            match row {
                // SAFETY: the row has `cols` values, and `to` room for the padded ones.
                Some(row) => unsafe {
                    pack_row(u, F32, row.cast(), (self.cols, self.padded), to);
                },
                None => {
                    for at in (0..units).step_by(U::S::LANES) {
                        // SAFETY: whole vectors fit in the padded row.
                        unsafe { s.store(to.add(at), s.splat(0.0)) };
                    }
                }
            }
        }
    }
}

/// Writes a row's units.
///
/// # Safety
/// As [`Cached::load`]; `to` must have room for the padded row.
#[inline(always)]
unsafe fn pack_row<U: Units, C: Cached>(
    u: U,
    _cached: C,
    row: *const u8,
    (cols, padded): (usize, usize),
    to: *mut f32,
) {
    let s = u.simd();
    let lanes = U::S::LANES;
    for at in (0..padded).step_by(2 * lanes) {
        // SAFETY: as the caller promises.
        unsafe {
            let first = C::load(s, row, at, cols);
            let second = C::load(s, row, at + lanes, cols);
            u.store_values(to.add(at / U::VALUES), first, second);
        }
    }
}

/// Packs keys: per tile of [`TILE`] vectors of keys `[padded / VALUES, TILE * LANES]` units. The
/// last tile's missing keys are zeros. `scratch` holds a vector of rows.
pub(super) fn pack_keys(
    kind: UnitKind,
    cpu: &Cpu,
    rows: CachedRows<'_>,
    padded: usize,
    scratch: &mut [f32],
    packed: &mut [f32],
) {
    let dtype = rows.dtype;
    run_for!(
        kind,
        cpu,
        dtype,
        PackKeys {
            rows,
            padded,
            scratch,
            packed
        }
    );
}

struct PackKeys<'a, C> {
    cached: C,
    rows: CachedRows<'a>,
    padded: usize,
    scratch: &'a mut [f32],
    packed: &'a mut [f32],
}

impl<C: Cached> UnitKernel for PackKeys<'_, C> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let s = u.simd();
        let lanes = U::S::LANES;
        let units = self.padded / U::VALUES;
        let CachedRows { rows, cols, .. } = self.rows;
        let groups = rows.len().div_ceil(TILE * lanes) * TILE;
        assert!(self.scratch.len() >= lanes * units);
        assert!(self.packed.len() >= groups * lanes * units);
        let scratch = self.scratch.as_mut_ptr();
        for group in 0..groups {
            let first = group * lanes;
            for lane in 0..lanes {
                self.rows.prefetch(first + lane);
                // SAFETY: the scratch space has a row of units for each lane; cached rows are of
                // `cols` values.
                unsafe {
                    let to = scratch.add(lane * units);
                    if first + lane < rows.len() {
                        let row = rows[first + lane];
                        pack_row(u, self.cached, row, (cols, self.padded), to);
                    } else {
                        for at in (0..units).step_by(lanes) {
                            s.store(to.add(at), s.splat(0.0));
                        }
                    }
                }
            }
            // SAFETY: the assertions leave room for all groups; padded rows are multiples of 8
            // units.
            unsafe {
                let tile = group / TILE * TILE * lanes * units;
                let to = self.packed.as_mut_ptr().add(tile + group % TILE * lanes);
                for unit in (0..units).step_by(8) {
                    let words = s.transpose_32(Rows {
                        first: scratch.add(unit).cast_const().cast(),
                        stride: 4 * units,
                    });
                    for (index, word) in words.into_iter().enumerate() {
                        let row = to.add((unit + index) * TILE * lanes);
                        s.store(row, s.as_float(word));
                    }
                }
            }
        }
    }
}

/// Packs values: per strip of [`TILE`] vectors of columns `[keys / VALUES, TILE * LANES]` units,
/// `strip_len` apart. If the keys are not whole units, zeros follow.
pub(super) fn pack_values(
    kind: UnitKind,
    cpu: &Cpu,
    rows: CachedRows<'_>,
    padded: usize,
    strip_len: usize,
    packed: &mut [f32],
) {
    let dtype = rows.dtype;
    run_for!(
        kind,
        cpu,
        dtype,
        PackValues {
            rows,
            padded,
            strip_len,
            packed
        }
    );
}

struct PackValues<'a, C> {
    cached: C,
    rows: CachedRows<'a>,
    padded: usize,
    strip_len: usize,
    packed: &'a mut [f32],
}

impl<C: Cached> UnitKernel for PackValues<'_, C> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let s = u.simd();
        let lanes = U::S::LANES;
        let Self {
            padded, strip_len, ..
        } = self;
        let _ = self.cached;
        let CachedRows { rows, cols, .. } = self.rows;
        let width = TILE * lanes;
        assert!(strip_len >= rows.len().next_multiple_of(2) / U::VALUES * width);
        assert!(self.packed.len() >= padded / width * strip_len);
        for (pair, rows) in rows.chunks(2).enumerate() {
            self.rows.prefetch(2 * pair);
            self.rows.prefetch(2 * pair + 1);
            for at in (0..padded).step_by(lanes) {
                // SAFETY: the rows are of `cols` values; the assertions leave room for all.
                unsafe {
                    let first = C::load(s, rows[0], at, cols);
                    let second = match rows.get(1) {
                        Some(row) => C::load(s, *row, at, cols),
                        None => s.splat(0.0),
                    };
                    let to = at / width * strip_len + at % width + pair * 2 / U::VALUES * width;
                    u.store_rows(self.packed.as_mut_ptr().add(to), width, first, second);
                }
            }
        }
    }
}
