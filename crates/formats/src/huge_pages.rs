//! What of a mapped model is worth moving into huge pages, and in which order.
//!
//! A file that was cached in small pages is mapped in small pages, and a core that streams through
//! gigabytes of those spends a third of its time on looking up addresses. Copying five gigabytes
//! takes about a second, so it is done while the model is used already.

use std::fs;
use std::ops::Range;

use crate::residence::available_memory;
use crate::{SharedBytes, TensorInfo};

const PAGE: usize = crate::bytes::HUGE_PAGE;
/// Huge pages that are moved at a time: who reads them waits no longer than it takes to exchange
/// these.
const PAGES_AT_ONCE: usize = 16;

/// What a page holds; what is read more often is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    Nothing,
    /// Weights that only some tokens need.
    Experts,
    /// Weights that every token needs.
    Dense,
}

/// Parts of mapped files for [`SharedBytes::move_into_huge_pages`], what every token reads first.
/// None if the system has no huge pages or too little memory, or the files are mapped in huge
/// pages already.
pub(crate) fn parts_to_move<'a>(
    files: impl Iterator<Item = &'a SharedBytes>,
    tensors: &[TensorInfo],
) -> Vec<SharedBytes> {
    let files: Vec<&SharedBytes> = files.collect();
    let bytes = files.iter().map(|file| file.len() as u64).sum::<u64>();
    // The copy, and a fourth for what else is computed with.
    let fits = available_memory().is_some_and(|available| bytes + bytes / 4 <= available);
    if !fits || !are_offered() || 5 * mapped_in_huge_pages(&files) >= 4 * bytes {
        return Vec::new();
    }
    let (mut dense, mut experts) = (Vec::new(), Vec::new());
    for (index, file) in files.iter().enumerate() {
        let first = file.as_ptr().align_offset(PAGE);
        let of_file = tensors.iter().filter(|tensor| tensor.part == index);
        let pages = pages(first, file.len(), of_file);
        let slice =
            |run: Range<usize>| file.slice(first + run.start * PAGE..first + run.end * PAGE);
        let of = |wanted| runs(&pages, wanted).into_iter().filter_map(slice);
        dense.extend(of(Holds::Dense));
        experts.extend(of(Holds::Experts));
    }
    dense.append(&mut experts);
    dense
}

/// What each whole page of a file holds, the first one beginning at byte `first`.
fn pages<'a>(
    first: usize,
    len: usize,
    tensors: impl Iterator<Item = &'a TensorInfo>,
) -> Vec<Holds> {
    let mut pages = vec![Holds::Nothing; len.saturating_sub(first) / PAGE];
    for tensor in tensors {
        let holds = match is_of_experts(tensor) {
            true => Holds::Experts,
            false => Holds::Dense,
        };
        let page = |byte: u64| (byte.saturating_sub(first as u64) / PAGE as u64) as usize;
        let end = page(tensor.end().saturating_sub(1)) + 1;
        let start = page(tensor.offset).min(pages.len());
        let end = end.clamp(start, pages.len());
        pages[start..end]
            .iter_mut()
            .for_each(|page| *page = holds.max(*page));
    }
    pages
}

/// Whether a tensor has weights of routed experts.
fn is_of_experts(tensor: &TensorInfo) -> bool {
    tensor.shape.len() > 2 || tensor.name.contains(".experts.")
}

/// Runs of pages that hold `wanted`, none too long.
fn runs(pages: &[Holds], wanted: Holds) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, _) in pages.iter().enumerate().filter(|page| *page.1 == wanted) {
        match runs.last_mut() {
            Some(run) if run.end == page && run.len() < PAGES_AT_ONCE => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// Whether the system gives huge pages to who asks for them.
fn are_offered() -> bool {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    setting.is_ok_and(|setting| setting.contains("[always]") || setting.contains("[madvise]"))
}

/// How many bytes of these maps are in huge pages.
fn mapped_in_huge_pages(files: &[&SharedBytes]) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let starts: Vec<usize> = files.iter().map(|file| file.as_ptr() as usize).collect();
    huge_bytes(&maps, &starts)
}

/// The bytes in huge pages of the maps that begin at these addresses, from the text of `smaps`.
fn huge_bytes(maps: &str, starts: &[usize]) -> u64 {
    let (mut is_ours, mut kib) = (false, 0);
    for line in maps.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or_default();
        if let Some((start, _)) = word.split_once('-') {
            let start = usize::from_str_radix(start, 16);
            is_ours = start.is_ok_and(|start| starts.contains(&start));
        } else if is_ours && word == "FilePmdMapped:" {
            let number = rest.split_whitespace().next();
            kib += number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    1024 * kib
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, TensorType};

    fn tensor(shape: &[usize], range: Range<usize>) -> TensorInfo {
        TensorInfo {
            name: "t".into(),
            dtype: TensorType::Known(DType::F32),
            shape: shape.to_vec(),
            part: 0,
            offset: range.start as u64,
            byte_len: Some(range.len() as u64),
        }
    }

    #[test]
    fn a_page_that_every_token_needs_in_part_is_needed() {
        use Holds::{Dense, Experts, Nothing};
        let tensors = [
            tensor(&[8, 2, 2], 100..3 * PAGE),
            tensor(&[2, 2], 3 * PAGE..3 * PAGE + 5),
            tensor(&[2], 5 * PAGE + 7..7 * PAGE),
        ];
        // The file's first page begins at its byte 7, and the last one is not whole.
        let pages = pages(7, 7 * PAGE, tensors.iter());
        assert_eq!(pages, [Experts, Experts, Dense, Nothing, Nothing, Dense]);
        assert_eq!(runs(&pages, Dense), [2..3, 5..6]);
        assert_eq!(runs(&pages, Experts), vec![0..2]);
        assert_eq!(runs(&[Dense; 2 * PAGES_AT_ONCE + 1], Dense).len(), 3);
        // A table that lies.
        assert!(super::pages(7, 3, tensors.iter()).is_empty());
    }

    #[test]
    fn huge_pages_of_our_maps_are_counted() {
        let maps = "7f00-7fff r--p 0 fe:00 1 /model\nSize: 8 kB\nFilePmdMapped:   12 kB\n\
                    8f00-8fff r--p 0 fe:00 1 /other\nFilePmdMapped:   4 kB\n";
        assert_eq!(huge_bytes(maps, &[0x7f00]), 12 << 10);
        assert_eq!(huge_bytes(maps, &[0x7f00, 0x8f00]), 16 << 10);
        assert_eq!(huge_bytes(maps, &[0x7fff]), 0);
    }
}
