//! Resident threads for the short parallel regions of a forward pass.
//!
//! A step runs hundreds of regions of a few microseconds to milliseconds. So workers stay, spin
//! for a bounded time after each region and then sleep; tasks are claimed from a shared counter,
//! several at first and one by one in the end, which balances cores of unequal speed and lets each
//! read memory in long runs; and the caller works too. A worker that the
//! system has not scheduled in time simply misses the region: the caller never waits for a thread
//! that holds no task.
//!
//! This module does not choose how many threads there are; see [`crate::default_threads`].

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LockResult, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::parts::Parts;

/// How often a worker looks for the next region before it sleeps: some tens of microseconds,
/// longer than the serial parts between regions and too short to hurt other programs.
const SPINS: u32 = 2_000;

/// The most tasks that are claimed at once. Neighbouring tasks read neighbouring memory, which the
/// processor fetches ahead of a thread that goes on from one to the next. But whoever loses its
/// core keeps the others waiting for what it has claimed.
pub(crate) const MOST_AT_ONCE: usize = 16;

/// The gate's bits: below 16 the workers inside the region, bit 16 whether it is open to more,
/// above it the region's number.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const ONE_REGION: u64 = 1 << 17;

thread_local! {
    /// Whether this thread is inside a region, where another one would wait for itself.
    static IN_REGION: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of threads that run regions of numbered tasks. Make one per process and share it.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let pool = tidemill_cpu::Pool::new(2);
/// let sum = AtomicUsize::new(0);
/// pool.run(10, |task| {
///     sum.fetch_add(task, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 45);
/// ```
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a region: callers on different threads take turns.
    turn: Mutex<()>,
}

/// On its own cache line, since every thread writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

#[derive(Debug)]
struct Shared {
    gate: Line<AtomicU64>,
    /// The next task nobody has claimed.
    next: Line<AtomicUsize>,
    job: UnsafeCell<Job>,
    /// A task of this region panicked.
    panicked: AtomicBool,
    threads: usize,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    /// What the first task to panic said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the caller only while the gate is closed and nobody is inside, and
// read by workers only while they are inside; the gate's acquire and release order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointers in `job` are used only during a region, whose caller keeps their target
// alive and has promised that it may be shared.
unsafe impl Send for Shared {}

/// A closure whose type and lifetime were erased, and how often to call it.
#[derive(Debug, Clone, Copy)]
struct Job {
    body: *const (),
    call: unsafe fn(*const (), usize),
    tasks: usize,
}

/// # Safety
/// `body` must point to an `F` that lives and may be shared with this thread.
unsafe fn call<F: Fn(usize) + Sync>(body: *const (), task: usize) {
    // SAFETY: promised by the caller.
    let body = unsafe { &*body.cast::<F>() };
    body(task);
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them.
    ///
    /// # Panics
    /// If the system refuses to start a thread.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            gate: Line::default(),
            next: Line::default(),
            job: UnsafeCell::new(Job {
                body: std::ptr::null(),
                call: call::<fn(usize)>,
                tasks: 0,
            }),
            panicked: AtomicBool::new(false),
            threads: threads.max(1),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.min(INSIDE as usize))
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("tidemill-{index}"))
                    .spawn(move || shared.work())
                    .expect("the system can start a thread")
            })
            .collect();
        Self {
            shared,
            workers,
            turn: Mutex::new(()),
        }
    }

    /// The number of threads that work in a region, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body` once for each of `0..tasks` on any thread; returns when all calls have.
    /// Allocates nothing. Called from inside a region, it runs all tasks on the calling thread.
    ///
    /// A thread calls in the order of numbers, and no number is left unclaimed below one that is.
    /// So a task may wait for what tasks of lower numbers compute: the lowest that is not done
    /// waits for nothing.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; tasks not begun by then are skipped.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, body: F) {
        if tasks <= 1 || self.workers.is_empty() || IN_REGION.get() {
            (0..tasks).for_each(body);
            return;
        }
        let turn = ignore_poison(self.turn.lock());
        let shared = &*self.shared;
        // SAFETY: the gate is closed and nobody is inside: the previous region ended so.
        unsafe {
            *shared.job.get() = Job {
                body: (&raw const body).cast(),
                call: call::<F>,
                tasks,
            };
        }
        shared.open();
        IN_REGION.set(true);
        shared.claim_tasks();
        IN_REGION.set(false);
        // From here nobody enters; once nobody is inside, `body` is no longer used.
        shared.close();
        let panic = ignore_poison(shared.panic.lock()).take();
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Calls `body` for each chunk of `len` values (the last may be shorter) with its number.
    ///
    /// # Panics
    /// As [`Pool::run`], and if `len` is 0.
    pub fn run_chunks<T: Send>(
        &self,
        values: &mut [T],
        len: usize,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let total = values.len();
        let parts = Parts::new(values);
        self.run(total.div_ceil(len), |task| {
            let start = task * len;
            // SAFETY: each task takes its own chunk.
            let chunk = unsafe { parts.part(start..total.min(start + len)) };
            body(task, chunk);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake_all();
        for worker in self.workers.drain(..) {
            // Tasks' panics are caught; there is no other.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn open(&self) {
        self.next.0.store(0, Ordering::Relaxed);
        self.panicked.store(false, Ordering::Relaxed);
        let closed = self.gate.0.load(Ordering::Relaxed);
        // Sequentially consistent with `sleepers`: either the worker sees this region before it
        // sleeps, or we see the sleeper.
        self.gate
            .0
            .store(closed + ONE_REGION + OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        // With the lock held nobody is between its last look and its sleep.
        let _guard = ignore_poison(self.sleep.lock());
        self.wake.notify_all();
    }

    fn close(&self) {
        let mut gate = self.gate.0.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while gate & INSIDE != 0 {
            // Someone is in its last task. It may have lost its core, so do not spin for ever.
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            gate = self.gate.0.load(Ordering::Acquire);
        }
    }

    /// Runs tasks until all are claimed. The gate must be open or the caller inside.
    fn claim_tasks(&self) {
        // SAFETY: the job was published before the gate opened and stays until nobody is inside.
        let job = unsafe { *self.job.get() };
        let result = catch_unwind(AssertUnwindSafe(|| {
            while let Some(tasks) = self.claim(job.tasks) {
                for task in tasks {
                    if self.panicked.load(Ordering::Relaxed) {
                        return;
                    }
                    // SAFETY: `body` is the closure of the caller of `run`, which is waiting; its
                    // type is that of `call`, and it is Sync.
                    unsafe { (job.call)(job.body, task) };
                }
            }
        }));
        if let Err(payload) = result {
            self.panicked.store(true, Ordering::Relaxed);
            ignore_poison(self.panic.lock()).get_or_insert(payload);
        }
    }

    /// The next tasks nobody has claimed: a small share of what is left, so that all end together.
    fn claim(&self, tasks: usize) -> Option<Range<usize>> {
        let share = |next: usize| {
            let left = tasks.checked_sub(next).filter(|left| *left > 0)?;
            Some(next + (left / (4 * self.threads)).clamp(1, MOST_AT_ONCE))
        };
        let next = &self.next.0;
        let start = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, share);
        let start = start.ok()?;
        share(start).map(|end| start..end)
    }

    /// A worker's life.
    fn work(&self) {
        IN_REGION.set(true);
        let mut seen = 0;
        while let Some(region) = self.wait_for_region(seen) {
            seen = region;
            if self.enter(region) {
                self.claim_tasks();
                self.gate.0.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// The number of the current region once it is not `seen`; `None` when the pool is dropped.
    fn wait_for_region(&self, seen: u64) -> Option<u64> {
        let look = || {
            if self.stop.load(Ordering::SeqCst) {
                return Some(None);
            }
            let region = self.gate.0.load(Ordering::SeqCst) / ONE_REGION;
            (region != seen).then_some(Some(region))
        };
        for _ in 0..SPINS {
            if let Some(found) = look() {
                return found;
            }
            std::hint::spin_loop();
        }
        let mut guard = ignore_poison(self.sleep.lock());
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if let Some(found) = look() {
                break found;
            }
            guard = ignore_poison(self.wake.wait(guard));
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Enters a region if it is still open.
    fn enter(&self, region: u64) -> bool {
        let is_open =
            |gate: u64| (gate / ONE_REGION == region && gate & OPEN != 0).then_some(gate + 1);
        self.gate
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, is_open)
            .is_ok()
    }
}

/// Nothing in this module is left half-done by a panic.
fn ignore_poison<T>(lock: LockResult<T>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_each_task_runs_once(pool: &Pool, tasks: usize) {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, |task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(
            counts
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 1)
        );
    }

    #[test]
    fn each_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for tasks in [0, 1, 2, 7, 100] {
                check_each_task_runs_once(&pool, tasks);
            }
        }
    }

    #[test]
    fn many_short_regions_neither_hang_nor_mix() {
        let pool = Pool::new(4);
        for region in 0..20_000 {
            check_each_task_runs_once(&pool, region % 9);
            if region % 4_000 == 0 {
                // Long enough for the workers to fall asleep.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for tasks in 0..500 {
                        check_each_task_runs_once(&pool, tasks % 20);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            for bad in [0, 17, 99] {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    pool.run(100, |task| assert!(task != bad, "task {task} fails"));
                }));
                let payload = result.expect_err("the panic is passed on");
                let message = payload.downcast_ref::<String>().map(String::as_str);
                assert_eq!(message, Some(format!("task {bad} fails").as_str()));
                check_each_task_runs_once(&pool, 50);
            }
        }
    }

    #[test]
    fn a_region_inside_a_region_runs_inline() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        pool.run(5, |_| {
            let here = std::thread::current().id();
            pool.run(7, |_| {
                assert_eq!(std::thread::current().id(), here);
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 35);
    }

    #[test]
    fn chunks_cover_the_slice() {
        let pool = Pool::new(2);
        let mut values = vec![0; 10];
        pool.run_chunks(&mut values, 4, |index, chunk| chunk.fill(index));
        assert_eq!(values, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    }
}
