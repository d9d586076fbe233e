//! Queries, keys and values in the form in which their products read them.
//!
//! A row of `head_dim` values is padded with zeros to whole tiles of [`TILE`] vectors. Keys lie
//! turned, one per lane; values lie as they are. Both are decoded from the cache's type once for
//! all queries of a task, and scaled where they are to be whole.

use formats::DType;

use super::scales::{RowScales, TOGETHER};
use super::units::{UnitKernel, UnitKind, Units};
use crate::cpu::Cpu;
use crate::dots::float::Stored;
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
    /// Whether it is that of half precision.
    const IS_F16: bool;

    /// What no magnitude of a row exceeds, where its blocks say so: the largest one, if they were made to have it.
    ///
    /// # Safety
    /// As [`Cached::load`].
    #[inline(always)]
    unsafe fn bound(_row: *const u8, _cols: usize) -> Option<f32> {
        None
    }

    /// A vector of a row's values from `at` on; zeros beyond `cols`.
    ///
    /// # Safety
    /// `row` must point to a row of `cols` values, whole blocks if the type has blocks. `at` is a
    /// multiple of the lanes.
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F;

    /// The same where all lanes are below `cols`.
    ///
    /// # Safety
    /// As [`Cached::load`], and the row must have all of them.
    unsafe fn load_within<S: Simd>(s: S, row: *const u8, at: usize) -> S::F;
}

impl<W: Stored> Cached for W {
    const IS_F16: bool = W::IS_F16;

    #[inline(always)]
    unsafe fn load_within<S: Simd>(s: S, row: *const u8, at: usize) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { W::load(s, row.add(at * W::BYTES)) }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        // SAFETY: the row has the values up to `cols`.
        unsafe {
            if at + S::LANES <= cols {
                Self::load_within(s, row, at)
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

/// The largest magnitude of the scales that so many blocks begin with.
///
/// # Safety
/// `row` must point to the blocks.
#[inline(always)]
unsafe fn largest_scale(row: *const u8, blocks: usize, block_bytes: usize) -> f32 {
    // Magnitudes come in the order of their bits.
    let mut largest = 0;
    for block in 0..blocks {
        // SAFETY: as the caller promises.
        let bits = unsafe { row.add(block * block_bytes).cast::<u16>().read_unaligned() };
        let magnitude = u16::from_le(bits) & 0x7fff;
        largest = if magnitude > largest {
            magnitude
        } else {
            largest
        };
    }
    half::f16::from_bits(largest).to_f32()
}

impl Cached for Q8 {
    const IS_F16: bool = false;

    #[inline(always)]
    unsafe fn bound(row: *const u8, cols: usize) -> Option<f32> {
        // SAFETY: as the caller promises.
        Some(128.0 * unsafe { largest_scale(row, cols.div_ceil(32), 34) })
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        if at >= cols {
            return s.splat(0.0);
        }
        // SAFETY: the block exists, and lanes divide it.
        unsafe { Self::load_within(s, row, at) }
    }

    #[inline(always)]
    unsafe fn load_within<S: Simd>(s: S, row: *const u8, at: usize) -> S::F {
        // SAFETY: the block exists, and lanes divide it.
        unsafe {
            let block = row.add(at / 32 * 34);
            s.mul(scale(s, block), s.load_i8(block.add(2 + at % 32).cast()))
        }
    }
}

impl Cached for Q4 {
    const IS_F16: bool = false;

    #[inline(always)]
    unsafe fn bound(row: *const u8, cols: usize) -> Option<f32> {
        // SAFETY: as the caller promises.
        Some(8.0 * unsafe { largest_scale(row, cols.div_ceil(32), 18) })
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, row: *const u8, at: usize, cols: usize) -> S::F {
        if at >= cols {
            return s.splat(0.0);
        }
        // SAFETY: the block exists, and lanes divide it.
        unsafe { Self::load_within(s, row, at) }
    }

    #[inline(always)]
    unsafe fn load_within<S: Simd>(s: S, row: *const u8, at: usize) -> S::F {
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

/// Evaluates an expression with the [`Cached`] of a type that [`is_packable`].
macro_rules! with_cached {
    ($dtype:expr, $cached:ident => $body:expr) => {
        with_cached!(@ $dtype, $cached => $body;
            F32: $crate::dots::float::F32,
            F16: $crate::dots::float::F16,
            BF16: $crate::dots::float::Bf16,
            Q8_0: $crate::ops::attention::pack::Q8,
            Q4_0: $crate::ops::attention::pack::Q4)
    };
    (@ $dtype:expr, $cached:ident => $body:expr; $($name:ident: $of:path),*) => {
        match $dtype {
            $(::formats::DType::$name => {
                let $cached = $of;
                $body
            })*
            _ => unreachable!("rows of other types come decoded"),
        }
    };
}
pub(super) use with_cached;

/// Packs queries: per row `[padded / VALUES]` units.
pub(super) struct PackQueries<'a> {
    pub(super) cols: usize,
    pub(super) padded: usize,
    /// Where each row of f32 begins; `None` for a row of zeros.
    pub(super) rows: &'a [Option<*const f32>],
    pub(super) units: &'a mut [f32],
    /// Gets what each row's numbers are multiplied with, where they are whole.
    pub(super) scales: &'a mut [f32],
}

impl UnitKernel for PackQueries<'_> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let s = u.simd();
        let units = self.padded / U::VALUES;
        assert!(self.units.len() >= self.rows.len() * units);
        assert!(self.scales.len() >= self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            let to = self.units[index * units..].as_mut_ptr();
            match row {
                // SAFETY: the row has `cols` values, and `to` room for the padded ones.
                Some(row) => unsafe {
                    self.scales[index] = u.pack_query(*row, self.cols, self.padded, to);
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

/// Packs keys: per tile of [`TILE`] vectors of keys `[padded / VALUES, TILE * LANES]` units. The
/// last tile's missing keys are zeros. `scratch` holds a vector of rows; `scales` gets what each key's
/// numbers are multiplied with, where they are whole.
pub(super) fn pack_keys(
    kind: UnitKind,
    cpu: &Cpu,
    rows: CachedRows<'_>,
    padded: usize,
    scratch: &mut [f32],
    (packed, scales): (&mut [f32], &mut [f32]),
) {
    with_cached!(rows.dtype, cached => {
        let pack = PackKeys {
            _cached: cached,
            rows,
            padded,
            scratch,
            packed,
            scales,
        };
        kind.run(cpu, pack);
    });
}

struct PackKeys<'a, C> {
    _cached: C,
    rows: CachedRows<'a>,
    padded: usize,
    scratch: &'a mut [f32],
    packed: &'a mut [f32],
    scales: &'a mut [f32],
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
        assert!(!U::WHOLE || self.scales.len() >= groups * lanes);
        let scratch = self.scratch.as_mut_ptr();
        for group in 0..groups {
            let first = group * lanes;
            let mut scales = RowScales::NONE;
            if U::WHOLE && first < rows.len() {
                let rows = &rows[first..rows.len().min(first + lanes)];
                // SAFETY: cached rows are of `cols` values.
                scales = unsafe { u.scales_of_keys::<C>(rows, cols) };
                self.scales[first..first + lanes].copy_from_slice(&scales.scales[..lanes]);
            }
            for lane in 0..lanes {
                self.rows.prefetch(first + lane);
                // SAFETY: the scratch space has a row of units for each lane; cached rows are of
                // `cols` values.
                unsafe {
                    let to = scratch.add(lane * units);
                    if first + lane < rows.len() {
                        let (row, factor) = (rows[first + lane], scales.factors[lane]);
                        for at in (0..self.padded).step_by(2 * lanes) {
                            u.pack_key::<C>(row, at, cols, factor, to.add(at / U::VALUES));
                        }
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
/// `strip_len` apart. If the keys are not whole units, zeros follow. `scales` as with keys.
pub(super) fn pack_values(
    kind: UnitKind,
    cpu: &Cpu,
    rows: CachedRows<'_>,
    padded: usize,
    strip_len: usize,
    (packed, scales): (&mut [f32], &mut [f32]),
) {
    with_cached!(rows.dtype, cached => {
        let pack = PackValues {
            _cached: cached,
            rows,
            padded,
            strip_len,
            packed,
            scales,
        };
        kind.run(cpu, pack);
    });
}

struct PackValues<'a, C> {
    _cached: C,
    rows: CachedRows<'a>,
    padded: usize,
    strip_len: usize,
    packed: &'a mut [f32],
    scales: &'a mut [f32],
}

impl<C: Cached> UnitKernel for PackValues<'_, C> {
    #[inline(always)]
    fn run<U: Units>(self, u: U) {
        let lanes = U::S::LANES;
        let Self {
            padded, strip_len, ..
        } = self;
        let CachedRows { rows, cols, .. } = self.rows;
        let width = TILE * lanes;
        assert!(strip_len >= rows.len().next_multiple_of(2) / U::VALUES * width);
        assert!(self.packed.len() >= padded / width * strip_len);
        assert!(!U::WHOLE || self.scales.len() >= rows.len().next_multiple_of(TOGETHER));
        let mut scales = RowScales::NONE;
        for (pair, rows) in rows.chunks(2).enumerate() {
            self.rows.prefetch(2 * pair);
            self.rows.prefetch(2 * pair + 1);
            let first = 2 * pair;
            let lane = first % TOGETHER;
            if U::WHOLE && lane == 0 {
                let group = first..self.rows.rows.len().min(first + TOGETHER);
                // SAFETY: cached rows are of `cols` values.
                scales = unsafe { u.scales_of_values::<C>(&self.rows.rows[group], cols) };
                self.scales[first..first + TOGETHER].copy_from_slice(&scales.scales);
            }
            // The last one may be its own neighbour, with no weight.
            let both = [rows[0], rows[rows.len() - 1]];
            let factors = [scales.factors[lane], scales.factors[lane + rows.len() - 1]];
            for at in (0..padded).step_by(2 * lanes) {
                let to = at / width * strip_len + at % width + first / U::VALUES * width;
                // SAFETY: the rows are of `cols` values; the assertions leave room for all.
                unsafe {
                    let to = self.packed.as_mut_ptr().add(to);
                    u.pack_values::<C>(both, at, cols, factors, (to, width));
                }
            }
        }
    }
}
