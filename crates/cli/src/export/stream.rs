//! Writes a tensor row by row: rows are made in parallel, and while some are written the next
//! are made. No more of a tensor is in memory than that.

use std::io::Write;

use rayon::prelude::*;

use super::file::{Report, Stopped};

/// Bytes made at a time: many rows for many threads, little beside any model.
const CHUNK_BYTES: usize = 8 << 20;

/// Writes `rows` rows of `row_bytes` bytes; `make` fills the row of a number.
pub(crate) fn write_rows<E: Into<Stopped> + Send>(
    rows: usize,
    row_bytes: usize,
    out: &mut dyn Write,
    report: &Report,
    make: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<(), Stopped> {
    let chunk = (CHUNK_BYTES / row_bytes.max(1)).clamp(1, rows.max(1));
    let fill = |first: usize, bytes: &mut Vec<u8>| {
        bytes.resize(chunk.min(rows - first) * row_bytes, 0);
        bytes
            .par_chunks_mut(row_bytes)
            .enumerate()
            .try_for_each(|(index, row)| make(first + index, row))
    };
    let (mut ready, mut next) = (Vec::new(), Vec::new());
    fill(0, &mut ready).map_err(Into::into)?;
    for first in (0..rows).step_by(chunk) {
        let after = first + chunk;
        let mut made = Ok(());
        let written = rayon::in_place_scope(|scope| {
            if after < rows {
                scope.spawn(|_| made = fill(after, &mut next));
            }
            out.write_all(&ready)
        });
        written?;
        made.map_err(Into::into)?;
        report.wrote(ready.len())?;
        std::mem::swap(&mut ready, &mut next);
    }
    Ok(())
}
