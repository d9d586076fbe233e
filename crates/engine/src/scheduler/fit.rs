//! Making room in memory.

use std::collections::BTreeMap;

use crate::engine::SequenceId;
use crate::error::EngineError;
use crate::event::Event;

use super::Scheduler;
use super::plan::{Budget, Want, plan};
use super::stream::{Parked, ParkedPages, Place, Stream, StreamId};

/// The rows of the streams that have some in this step.
pub(super) type Rows = BTreeMap<StreamId, usize>;

impl Scheduler {
    /// Who gets how many rows, were there memory for all.
    pub(super) fn share_rows(&mut self) -> Rows {
        let running = self.ranked(|stream| stream.sequence().is_some());
        let wants: Vec<Want> = running.iter().map(|&id| self.want(id)).collect();
        let is_suspect = |stream: &Stream| self.past(stream) < stream.suspect_until;
        let suspect = running.iter().position(|&id| is_suspect(self.stream(id)));
        let budget = Budget {
            rows: self.settings.batch_tokens,
            chunk: self.settings.chunk_tokens.min(self.settings.batch_tokens),
        };
        let Some(suspect) = suspect else {
            let rows = plan(&wants, budget);
            return running
                .into_iter()
                .zip(rows)
                .filter(|&(_, rows)| rows > 0)
                .collect();
        };
        // What fails alone fails for a reason of its own.
        let rows = plan(&wants[suspect..=suspect], budget);
        Rows::from([(running[suspect], rows[0])])
    }

    fn want(&self, id: StreamId) -> Want {
        let stream = self.stream(id);
        let past = self.past(stream);
        let next_cut = stream.cuts.iter().find(|cut| cut.offset > past);
        let rows = stream.tokens.len() - past;
        let until_cut = next_cut.map_or(usize::MAX, |cut| cut.offset - past);
        Want {
            rows,
            until_cut: until_cut.min(self.most_prompt_rows(stream)),
            is_prefill: rows > 1 || stream.generated() == 0,
            waited: self.now - stream.served,
            rank: stream.rank,
        }
    }

    /// Makes room for the rows of a step. Prompts take a smaller part if only that fits; streams
    /// that find no room have no rows. If that leaves nobody, the first stream has some: all
    /// others make room for it.
    pub(super) fn fit(&mut self, rows: &mut Rows) {
        self.fit_all(rows);
        let running = self.ranked(|stream| stream.sequence().is_some());
        if let (true, Some(&first)) = (rows.is_empty(), running.first()) {
            let Want {
                rows: wanted,
                until_cut,
                ..
            } = self.want(first);
            let most = self.settings.chunk_tokens.min(self.settings.batch_tokens);
            rows.insert(first, wanted.min(until_cut).min(most.max(1)));
            self.fit_all(rows);
        }
    }

    /// The first stream first.
    fn fit_all(&mut self, rows: &mut Rows) {
        let mut promised = 0;
        for id in self.ranked(|stream| stream.sequence().is_some()) {
            match self.fit_one(id, rows, &mut promised) {
                Ok(()) => {}
                Err(error) => {
                    rows.remove(&id);
                    self.fail(self.stream(id).request, &error);
                }
            }
        }
        // Failed requests have no sequences any more.
        rows.retain(|id, rows| *rows > 0 && self.streams.contains_key(id));
    }

    fn fit_one(
        &mut self,
        id: StreamId,
        rows: &mut Rows,
        promised: &mut usize,
    ) -> Result<(), EngineError> {
        let Some(stream) = self.streams.get(&id) else {
            return Ok(());
        };
        // It may have made room for one before it.
        let (Some(sequence), Some(&wanted)) = (stream.sequence(), rows.get(&id)) else {
            rows.remove(&id);
            return Ok(());
        };
        loop {
            let free = self.engine.pages().0 - *promised;
            let needed = self.engine.pages_for(sequence, wanted)?;
            if needed <= free {
                *promised += needed;
                return Ok(());
            }
            if self.reclaim()? {
                continue;
            }
            let part = self.rows_that_fit(sequence, wanted, free)?;
            if part > 0 {
                *promised += self.engine.pages_for(sequence, part)?;
                rows.insert(id, part);
                return Ok(());
            }
            let running = self.ranked(|stream| stream.sequence().is_some());
            match running.last() {
                Some(&last) if last != id => self.park(last, true)?,
                _ => {
                    rows.remove(&id);
                    return Ok(());
                }
            }
        }
    }

    /// The most rows, fewer than `wanted`, that need no more than `free` pages.
    fn rows_that_fit(
        &self,
        sequence: SequenceId,
        wanted: usize,
        free: usize,
    ) -> Result<usize, EngineError> {
        // More rows never need fewer pages.
        let (mut fits, mut too_many) = (0, wanted);
        while fits + 1 < too_many {
            let middle = fits.midpoint(too_many);
            if self.engine.pages_for(sequence, middle)? <= free {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        Ok(fits)
    }

    /// Takes pages from what does not run. `false` if there is nothing to take from.
    fn reclaim(&mut self) -> Result<bool, EngineError> {
        if self.cache.evict_for_pages(&mut self.engine)? {
            return Ok(true);
        }
        let on_device = |stream: &Stream| {
            matches!(&stream.place, Place::Parked(parked)
                if matches!(parked.pages, ParkedPages::Device(_)))
        };
        let Some(&last) = self.ranked(on_device).last() else {
            return Ok(false);
        };
        self.copy_out(last)?;
        Ok(true)
    }

    /// Makes `needed` pages free without stopping anyone. `false` if that is not possible.
    pub(super) fn make_room(&mut self, needed: usize) -> Result<bool, EngineError> {
        while self.engine.pages().0 < needed {
            if !self.reclaim()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a stream that needs this many pages should start: those that run must have room to
    /// end their prompts, and nobody starts only to be stopped again.
    pub(super) fn has_room(&self, id: StreamId, needed: usize) -> bool {
        let running = self.ranked(|stream| stream.sequence().is_some());
        let priority = self.stream(id).priority;
        if running
            .iter()
            .all(|&other| self.stream(other).priority < priority)
        {
            // Nobody runs, or all who do make room.
            return true;
        }
        let reserved: usize = running
            .iter()
            .map(|&other| {
                let stream = self.stream(other);
                self.pages_to_grow(stream, self.past(stream))
            })
            .sum();
        self.engine.pages().0 + self.cache.evictable_pages(&self.engine) >= needed + reserved
    }

    /// The pages that a stream with `past` tokens in memory needs until it has answered a token.
    pub(super) fn pages_to_grow(&self, stream: &Stream, past: usize) -> usize {
        let rows = stream.tokens.len() + 1 - past;
        match stream.sequence() {
            Some(sequence) => self.engine.pages_for(sequence, rows).unwrap_or(0),
            None => {
                let page = self.engine.page_tokens();
                // The last page may have to be copied.
                (past + rows).div_ceil(page) - past / page
            }
        }
    }

    /// The last stream that runs and is of a lower priority than this one.
    pub(super) fn last_below(&self, id: StreamId) -> Option<StreamId> {
        let priority = self.stream(id).priority;
        let lower = |stream: &Stream| stream.sequence().is_some() && stream.priority < priority;
        self.ranked(lower).last().copied()
    }

    /// Stops a stream; its state goes to RAM, and its pages too if `copy_out`.
    pub(super) fn park(&mut self, id: StreamId, copy_out: bool) -> Result<(), EngineError> {
        let Some(sequence) = self.stream(id).sequence() else {
            return Ok(());
        };
        let hidden = self.settle_drafter(id)?;
        let point = self.engine.checkpoint(sequence)?;
        self.end_sequence(sequence)?;
        let parked = Parked {
            past: point.tokens(),
            state: std::sync::Arc::clone(point.state()),
            pages: ParkedPages::Device(point.into_pages()),
            hidden,
        };
        self.keep_parked(id, parked);
        if copy_out {
            self.copy_out(id)?;
        }
        let stream = self.stream_mut(id);
        stream.is_paused = true;
        let (request, choice) = (stream.request, stream.choice);
        self.events.push(Event::Paused { request, choice });
        self.metrics.paused += 1;
        Ok(())
    }

    /// Makes a stream a parked one, unless the RAM for those is used up.
    pub(super) fn keep_parked(&mut self, id: StreamId, parked: Parked) {
        if self.parked_bytes() + parked.bytes() <= self.settings.parked_bytes {
            self.stream_mut(id).place = Place::Parked(parked);
            return;
        }
        self.metrics.dropped += 1;
        self.stream_mut(id).place = Place::Waiting;
        if let ParkedPages::Device(pages) = parked.pages {
            self.engine.release(pages);
        }
    }

    /// Moves a parked stream's pages to RAM.
    fn copy_out(&mut self, id: StreamId) -> Result<(), EngineError> {
        let place = std::mem::replace(&mut self.stream_mut(id).place, Place::Waiting);
        let Place::Parked(Parked {
            past,
            state,
            pages: ParkedPages::Device(held),
            hidden,
        }) = place
        else {
            self.stream_mut(id).place = place;
            return Ok(());
        };
        let bytes = held.ids().len() * self.engine.page_bytes() + state.bytes();
        if self.parked_bytes() + bytes > self.settings.parked_bytes {
            self.metrics.dropped += 1;
            self.engine.release(held);
            return Ok(());
        }
        let contents: Result<Vec<Vec<u8>>, EngineError> = held
            .ids()
            .iter()
            .map(|&page| self.engine.read_page(page))
            .collect();
        self.engine.release(held);
        let pages = ParkedPages::Host(contents?);
        self.stream_mut(id).place = Place::Parked(Parked {
            past,
            state,
            pages,
            hidden,
        });
        Ok(())
    }

    /// The RAM that parked streams take.
    pub(super) fn parked_bytes(&self) -> usize {
        let bytes = |stream: &Stream| match &stream.place {
            Place::Parked(parked) => parked.bytes(),
            Place::Waiting | Place::Running(_) => 0,
        };
        self.streams.values().map(bytes).sum()
    }
}
