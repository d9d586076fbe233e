//! The most likely tokens of rows of logits, found where the logits are.

use tensor::{Likely, MostLikely, OpError};

use crate::args;
use crate::gpu::{Gpu, WARP};
use crate::tensor_on_device::Activations;

const BEST_THREADS: usize = 256;
const PICK_THREADS: usize = 1024;
/// Logits of a group at least, and groups of a row at most: both are looked through.
const LEAST_GROUP: usize = 128;
const MOST_GROUPS: usize = 2048;
/// Tokens that can be listed of a row.
const ROOM: usize = 1024;

impl Gpu {
    pub(super) fn best_of(
        &self,
        logits: &Activations,
        wanted: MostLikely,
    ) -> Result<Option<Vec<Vec<Likely>>>, OpError> {
        let limit = wanted.limit.min(logits.cols);
        let group = limit.div_ceil(MOST_GROUPS).max(LEAST_GROUP);
        let groups = limit.div_ceil(group);
        // Where few groups are wanted of few, all that is in them might be listed.
        if wanted.count == 0 || wanted.count > ROOM / 2 || wanted.count >= groups {
            return Ok(None);
        }
        let largest = self.take(logits.rows * groups * size_of::<u32>())?;
        let row = 1 + 2 * ROOM;
        let found = self.take(logits.rows * row * size_of::<u32>())?;
        let args = args::Best {
            logits: logits.values.address(),
            largest: largest.address(),
            out: found.address(),
            cols: logits.cols as i32,
            limit: limit as i32,
            group: group as i32,
            groups: groups as i32,
            count: wanted.count as i32,
            room: ROOM as i32,
        };
        let blocks = groups.div_ceil(BEST_THREADS / WARP);
        // SAFETY: the logits have as many columns, and there is room for each row's groups and finds.
        unsafe {
            self.launch(
                "group_largest",
                [blocks, logits.rows, 1],
                BEST_THREADS,
                &args,
            )?;
            self.launch("pick_best", [1, logits.rows, 1], PICK_THREADS, &args)?;
        }
        let mut words = vec![0u32; logits.rows * row];
        self.fetch(&found, &mut words)?;
        Ok(words.chunks(row).map(listed).collect())
    }
}

/// A row's finds; `None` if there was not room for all.
fn listed(row: &[u32]) -> Option<Vec<Likely>> {
    let (count, finds) = row.split_first()?;
    let count = *count as usize;
    if count > ROOM {
        return None;
    }
    let (tokens, logits) = finds.split_at(ROOM);
    let finds = tokens.iter().zip(logits).take(count);
    let finds = finds.map(|(&token, &logit)| Likely {
        token,
        logit: f32::from_bits(logit),
    });
    Some(finds.collect())
}
