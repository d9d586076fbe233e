//! A batch on the device: uploaded once a step, though every layer asks for it.

use std::sync::{Arc, Mutex, PoisonError};

use tensor::{Batch, OpError};

use crate::args;
use crate::driver::Address;
use crate::gpu::Gpu;
use crate::pool::Buffer;

/// The last batch, and what the device has of it.
#[derive(Default)]
pub(crate) struct BatchCache(Mutex<Option<(Batch, Arc<DeviceBatch>)>>);

/// A batch's lists on the device.
pub(crate) struct DeviceBatch {
    buffer: Buffer,
    /// Offsets of the lists after the first, in bytes.
    row_spans: usize,
    pages: usize,
    positions: usize,
    /// The most rows of a span.
    pub(crate) most_rows: usize,
    /// The most tokens that a row sees.
    pub(crate) most_visible: usize,
}

impl DeviceBatch {
    /// Of the spans.
    pub(crate) fn spans(&self) -> Address {
        self.buffer.address()
    }

    /// Of each row's span.
    pub(crate) fn row_spans(&self) -> Address {
        self.buffer.address() + self.row_spans as u64
    }

    /// Of all spans' pages.
    pub(crate) fn pages(&self) -> Address {
        self.buffer.address() + self.pages as u64
    }

    /// Of each row's three positions.
    pub(crate) fn positions(&self) -> Address {
        self.buffer.address() + self.positions as u64
    }
}

impl Gpu {
    /// The batch on the device. It was checked before.
    pub(crate) fn device_batch(&self, batch: &Batch) -> Result<Arc<DeviceBatch>, OpError> {
        let mut last = self
            .batches
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, device)) = &*last
            && known == batch
        {
            return Ok(Arc::clone(device));
        }
        // The last one's memory is the next one's, so that launches that read it stay the same.
        *last = None;
        let device = Arc::new(self.upload_batch(batch)?);
        *last = Some((batch.clone(), Arc::clone(&device)));
        Ok(device)
    }

    fn upload_batch(&self, batch: &Batch) -> Result<DeviceBatch, OpError> {
        let mut bytes = Vec::new();
        let mut pages: Vec<u32> = Vec::new();
        for span in &batch.spans {
            let args = args::Span {
                first_row: span.rows.start as i32,
                rows: span.rows.len() as i32,
                past: span.past as i32,
                first_page: pages.len() as i32,
                state: u64::from(span.state.0),
                replay: span.replay as i32,
                hold: i32::from(span.hold),
            };
            pages.extend(span.pages.iter().map(|page| page.0));
            for word in [args.first_row, args.rows, args.past, args.first_page] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(args.state.to_le_bytes());
            bytes.extend(args.replay.to_le_bytes());
            bytes.extend(args.hold.to_le_bytes());
        }
        let numbers = |bytes: &mut Vec<u8>, numbers: &mut dyn Iterator<Item = u32>| {
            let start = bytes.len();
            numbers.for_each(|number| bytes.extend(number.to_le_bytes()));
            start
        };
        let spans = batch.spans.iter().enumerate();
        let mut row_spans =
            spans.flat_map(|(index, span)| span.rows.clone().map(move |_| index as u32));
        let row_spans = numbers(&mut bytes, &mut row_spans);
        let pages = numbers(&mut bytes, &mut pages.into_iter());
        let positions = numbers(&mut bytes, &mut batch.positions.iter().flatten().copied());
        let buffer = self.upload_bytes(&bytes)?;
        let spans = || batch.spans.iter();
        Ok(DeviceBatch {
            buffer,
            row_spans,
            pages,
            positions,
            most_rows: spans().map(|span| span.rows.len()).max().unwrap_or(0),
            most_visible: spans()
                .map(|span| span.past + span.rows.len())
                .max()
                .unwrap_or(0),
        })
    }
}
