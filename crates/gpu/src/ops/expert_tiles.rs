//! Tiles of pairs of one expert, in lists by their size: which there may be, and which kernels take them.

use crate::matrix::Layout;

const TILE_LISTS: usize = 4;
/// Pairs of a tile that is multiplied by dots.
const DOT_PAIRS: usize = 8;
/// Threads of the kernels that multiply tiles, inner values of a block of theirs, and outputs of one.
const MATMUL_THREADS: usize = 128;
const MATMUL_INNER: usize = 32;
const MATMUL_ROWS: usize = 64;

/// A kernel and its blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    pub(super) threads: usize,
    /// Weight rows of a block: of gate and up, inner values.
    pub(super) rows: usize,
}

/// The kernels of a size of tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// The most pairs of a tile.
    pub(super) pairs: usize,
    pub(super) gate_up: Kernel,
    pub(super) down: Kernel,
}

/// Those that multiply by dots, whatever the types of gate and up, then those that multiply tiles.
pub(super) const SIZES: [Size; TILE_LISTS] = [
    Size {
        pairs: DOT_PAIRS,
        gate_up: Kernel {
            name: "gate_up_8",
            threads: 256,
            rows: 32,
        },
        down: Kernel {
            name: "down",
            threads: 128,
            rows: 16,
        },
    },
    of_tiles(16, "gate_up_16", "down_16"),
    of_tiles(32, "gate_up_32", "down_32"),
    of_tiles(64, "gate_up_64", "down_64"),
];

const fn of_tiles(pairs: usize, gate_up: &'static str, down: &'static str) -> Size {
    Size {
        pairs,
        gate_up: Kernel {
            name: gate_up,
            threads: MATMUL_THREADS,
            rows: MATMUL_INNER,
        },
        down: Kernel {
            name: down,
            threads: MATMUL_THREADS,
            rows: MATMUL_ROWS,
        },
    }
}

/// Whether tiles can take an expert of these matrices: they multiply gate and up at once.
pub(super) fn are_tiled([gate, up, _]: [&Layout; 3]) -> bool {
    gate.dtype == up.dtype
}

/// Gate and up of the one expert that all of `rows` tokens use.
pub(super) fn size_for(rows: usize, is_tiled: bool) -> &'static Size {
    let fits = |size: &&Size| size.pairs >= rows;
    let largest = &SIZES[TILE_LISTS - 1];
    match is_tiled && rows > DOT_PAIRS {
        true => SIZES[1..].iter().find(fits).unwrap_or(largest),
        false => &SIZES[0],
    }
}

/// Where each list of tiles begins, the last number being the end: there is room for the most that may be.
///
/// `rows` tokens have `pairs` with experts, of which `dotted` are multiplied by dots and `tiled` in
/// tiles. A token has no two pairs with one expert.
pub(super) fn first_tiles(
    rows: usize,
    pairs: usize,
    dotted: usize,
    tiled: usize,
) -> [usize; TILE_LISTS + 1] {
    // An expert's pairs are cut into 64 at a time; what is left makes one tile of the size that it needs.
    let most = [
        (pairs / DOT_PAIRS + dotted).min(pairs * dotted.min(1)),
        tiled.min(pairs),
        if rows > 16 { tiled.min(pairs / 17) } else { 0 },
        if rows > 32 {
            pairs / 33 * tiled.min(1)
        } else {
            0
        },
    ];
    let mut first = [0; TILE_LISTS + 1];
    for (list, tiles) in most.into_iter().enumerate() {
        first[list + 1] = first[list] + tiles;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tiles of each list, as the device makes them.
    fn tiles_of(pairs_of_experts: &[usize], is_dotted: bool) -> [usize; TILE_LISTS] {
        let mut tiles = [0; TILE_LISTS];
        for pairs in pairs_of_experts {
            let mut left = *pairs;
            while left > 0 {
                let size = match left {
                    _ if is_dotted => 0,
                    1..=16 => 1,
                    17..=32 => 2,
                    _ => 3,
                };
                tiles[size] += 1;
                left -= left.min(if is_dotted { DOT_PAIRS } else { 64 });
            }
        }
        tiles
    }

    #[test]
    fn there_is_room_for_all_tiles() {
        for rows in [9usize, 16, 17, 32, 33, 64, 100, 300] {
            for slots in 1..5 {
                // All tokens with the same experts, one with each, and between.
                for step in 1..=rows {
                    let experts = slots * rows.div_ceil(step);
                    let counts: Vec<usize> = (0..experts)
                        .map(|e| step.min(rows - e / slots * step))
                        .collect();
                    let pairs = counts.iter().sum();
                    assert_eq!(pairs, rows * slots);
                    for is_dotted in [false, true] {
                        let (dotted, tiled) = if is_dotted {
                            (experts, 0)
                        } else {
                            (0, experts)
                        };
                        let first = first_tiles(rows, pairs, dotted, tiled);
                        for (list, tiles) in tiles_of(&counts, is_dotted).into_iter().enumerate() {
                            let room = first[list + 1] - first[list];
                            assert!(tiles <= room, "{tiles} of {room}: {list} {rows} {counts:?}");
                        }
                    }
                }
            }
        }
    }
}
