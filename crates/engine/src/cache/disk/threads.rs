//! The two threads beside the engine: one writes, one reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::DiskError;
use super::hit::Hit;
use super::index::Found;
use super::store::Store;
use super::writer::{WriteJob, write_all};
use crate::cache::{Load, Loaded};

/// How long a step waits for what is being read, so that an engine with nothing else to do does
/// not ask thousands of times.
const PATIENCE: Duration = Duration::from_millis(2);

/// Results that nobody fetched: their requests were cancelled.
const MOST_UNFETCHED: usize = 4;

enum ToWriter {
    Write(Box<WriteJob>),
    /// Answer when everything before is done.
    Flush(SyncSender<()>),
}

/// The writer. Dropping it waits until everything queued is written.
pub(super) struct Writer {
    jobs: Option<Sender<ToWriter>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: &Arc<Store>) -> Result<Self, DiskError> {
        let (jobs, queue) = channel();
        let store = Arc::clone(store);
        let thread = Builder::new()
            .name("cache writer".to_owned())
            .spawn(move || {
                for job in queue {
                    match job {
                        ToWriter::Write(job) => write_all(&store, *job),
                        ToWriter::Flush(done) => {
                            // Nobody may be waiting any more.
                            done.send(()).ok();
                        }
                    }
                }
            })
            .map_err(DiskError::Thread)?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    pub(super) fn write(&self, job: WriteJob) {
        self.send(ToWriter::Write(Box::new(job)));
    }

    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.send(ToWriter::Flush(done));
        // An error means that the writer is gone, and with it all that could be waited for.
        wait.recv().ok();
    }

    fn send(&self, job: ToWriter) {
        if let Some(jobs) = &self.jobs {
            // It fails only if the writer panicked, which was reported then.
            jobs.send(job).ok();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            thread.join().ok();
        }
    }
}

/// The reader, and what becomes of what it was asked for.
pub(super) struct Reader {
    jobs: Sender<(u64, Found)>,
    results: Receiver<(u64, Option<Box<Loaded>>)>,
    /// Found, and not asked for yet.
    found: HashMap<u64, Found>,
    /// Asked for; `Some` when the answer is there.
    asked: HashMap<u64, Option<Load>>,
    /// What those are.
    reading: HashMap<u64, Found>,
    next_id: u64,
}

impl Reader {
    pub(super) fn start(store: &Arc<Store>) -> Result<Self, DiskError> {
        let (jobs, queue) = channel::<(u64, Found)>();
        let (answers, results) = channel();
        let store = Arc::clone(store);
        // It ends with the tier, which drops the sender: nothing waits for it.
        Builder::new()
            .name("cache reader".to_owned())
            .spawn(move || {
                for (id, found) in queue {
                    let loaded = Hit::new(&store, found).read().ok().map(Box::new);
                    if answers.send((id, loaded)).is_err() {
                        return;
                    }
                }
            })
            .map_err(DiskError::Thread)?;
        Ok(Self {
            jobs,
            results,
            found: HashMap::new(),
            asked: HashMap::new(),
            reading: HashMap::new(),
            next_id: 0,
        })
    }

    /// Keeps what was found until it is asked for. Who waits for it finds it again in each step:
    /// it is read once.
    pub(super) fn keep(&mut self, found: Found) -> u64 {
        let same = |(&id, other): (&u64, &Found)| (*other == found).then_some(id);
        if let Some(id) = self.reading.iter().chain(&self.found).find_map(same) {
            return id;
        }
        let id = self.next_id;
        self.next_id += 1;
        // Whoever finds asks soon, or never.
        self.found.retain(|&other, _| other + 64 > id);
        self.found.insert(id, found);
        id
    }

    /// How reading goes; the first time, begins it.
    pub(super) fn load(&mut self, id: u64) -> Load {
        if let Some(found) = self.found.remove(&id) {
            self.forget_unfetched();
            self.asked.insert(id, None);
            self.reading.insert(id, found.clone());
            if self.jobs.send((id, found)).is_err() {
                return Load::Gone;
            }
        }
        while let Ok((done, loaded)) = self.results.try_recv() {
            self.note(done, loaded);
        }
        if self.asked.get(&id) == Some(&None) {
            match self.results.recv_timeout(PATIENCE) {
                Ok((done, loaded)) => self.note(done, loaded),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Load::Gone,
            }
        }
        match self.asked.remove(&id) {
            Some(Some(load)) => {
                self.reading.remove(&id);
                load
            }
            Some(None) => {
                self.asked.insert(id, None);
                Load::Pending
            }
            None => Load::Gone,
        }
    }

    fn note(&mut self, id: u64, loaded: Option<Box<Loaded>>) {
        if let Some(answer) = self.asked.get_mut(&id) {
            *answer = Some(loaded.map_or(Load::Gone, Load::Ready));
        }
    }

    fn forget_unfetched(&mut self) {
        let mut done: Vec<u64> = self
            .asked
            .iter()
            .filter_map(|(&id, answer)| answer.as_ref().map(|_| id))
            .collect();
        done.sort_unstable();
        for id in done.iter().rev().skip(MOST_UNFETCHED) {
            self.asked.remove(id);
            self.reading.remove(id);
        }
    }
}
