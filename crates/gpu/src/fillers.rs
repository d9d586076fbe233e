//! Several threads that fill memory for the device: a core copies some 10 GB/s, and a link carries more.
//!
//! The threads only fill. Everything that is asked of the driver is asked by who brings something, in the
//! order of the jobs, and who brings something fills too where it would only wait. Threads live as long as the
//! call: starting them takes tens of microseconds, of the milliseconds for which it pays, and nothing has to be
//! ended or waited for when a device is dropped.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Threads beside the caller: what PCIe 5 carries, where there are as many cores.
const MOST: usize = 4;
/// Bytes for which threads are started.
const LEAST_BYTES: usize = 8 << 20;

/// How many threads should fill so many bytes beside the caller.
pub(crate) fn helpers_for(bytes: usize) -> usize {
    if bytes < LEAST_BYTES {
        return 0;
    }
    /// The mask and the quota of this process count, and asking for them reads files.
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from));
    (cores - 1).min(MOST)
}

/// Where jobs come from and go to: the caller's side, in order.
pub(crate) trait Source {
    /// Something to be filled.
    type Job: Send;
    /// Why there is no more.
    type Error;

    /// The next job; `None` if there is none for now or, where it is to `wait` for one, none at all.
    fn next(&mut self, wait: bool) -> Result<Option<Self::Job>, Self::Error>;

    /// Takes a job that was filled, after all before it.
    fn take(&mut self, job: Self::Job) -> Result<(), Self::Error>;
}

/// Has all jobs of a source filled, by the caller and up to so many threads.
///
/// Where threads cannot be started or end early, the caller fills what they would have.
///
/// # Errors
/// Those of the source, after which nothing is filled any more.
pub(crate) fn fill_all<S: Source>(
    source: &mut S,
    helpers: usize,
    fill: impl Fn(&mut S::Job) + Sync,
) -> Result<(), S::Error> {
    let desk = Desk::new();
    thread::scope(|scope| {
        let _closed_at_the_end = Closing(&desk);
        let start = |_: &usize| {
            let named = thread::Builder::new().name("fill".into());
            named.spawn_scoped(scope, || desk.help(&fill)).is_ok()
        };
        let helpers = (0..helpers).take_while(start).count();
        let (mut taken, mut given) = (0, 0);
        loop {
            if let Some((mut job, is_filled)) = desk.filled(taken) {
                if !is_filled {
                    fill(&mut job);
                }
                taken += 1;
                source.take(job)?;
                continue;
            }
            // As much as keeps all of them busy.
            let outstanding = given - taken;
            if outstanding <= 2 * helpers {
                let is_all_taken = outstanding == 0;
                if let Some(job) = source.next(is_all_taken)? {
                    desk.give(given, job);
                    given += 1;
                    continue;
                }
                if is_all_taken {
                    return Ok(());
                }
            }
            match desk.begin() {
                Some((number, mut job)) => {
                    fill(&mut job);
                    desk.end(number, job, true);
                }
                None => desk.wait_for(taken),
            }
        }
    })
}

/// Where jobs lie between the caller and the threads.
struct Desk<J> {
    jobs: Mutex<Jobs<J>>,
    /// There is something to begin, or nothing will come any more.
    given: Condvar,
    ended: Condvar,
}

struct Jobs<J> {
    /// Not begun.
    waiting: VecDeque<(usize, J)>,
    /// Ended, and whether they are filled.
    ended: Vec<(usize, J, bool)>,
    is_closed: bool,
}

impl<J> Desk<J> {
    fn new() -> Self {
        Self {
            jobs: Mutex::new(Jobs {
                waiting: VecDeque::new(),
                ended: Vec::new(),
                is_closed: false,
            }),
            given: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs<J>> {
        // Nothing panics between changes that belong together.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, number: usize, job: J) {
        self.lock().waiting.push_back((number, job));
        self.given.notify_one();
    }

    /// The job that waits longest, if one does.
    fn begin(&self) -> Option<(usize, J)> {
        self.lock().waiting.pop_front()
    }

    fn end(&self, number: usize, job: J, is_filled: bool) {
        self.lock().ended.push((number, job, is_filled));
        self.ended.notify_one();
    }

    /// A job, once it has ended, and whether it is filled.
    fn filled(&self, number: usize) -> Option<(J, bool)> {
        let mut jobs = self.lock();
        let index = jobs.ended.iter().position(|job| job.0 == number)?;
        let (_, job, is_filled) = jobs.ended.swap_remove(index);
        Some((job, is_filled))
    }

    /// Waits for a job that a thread has begun.
    fn wait_for(&self, number: usize) {
        let has_not_ended = |jobs: &mut Jobs<J>| jobs.ended.iter().all(|job| job.0 != number);
        let jobs = self.ended.wait_while(self.lock(), has_not_ended);
        drop(jobs.unwrap_or_else(PoisonError::into_inner));
    }

    /// What a thread does until nothing will come any more.
    fn help(&self, fill: &impl Fn(&mut J)) {
        loop {
            let has_nothing = |jobs: &mut Jobs<J>| jobs.waiting.is_empty() && !jobs.is_closed;
            let jobs = self.given.wait_while(self.lock(), has_nothing);
            let mut jobs = jobs.unwrap_or_else(PoisonError::into_inner);
            if jobs.is_closed {
                return;
            }
            let Some((number, mut job)) = jobs.waiting.pop_front() else {
                continue;
            };
            drop(jobs);
            // The caller waits for the job, whatever becomes of this thread.
            let is_filled = catch_unwind(AssertUnwindSafe(|| fill(&mut job))).is_ok();
            self.end(number, job, is_filled);
            if !is_filled {
                return;
            }
        }
    }
}

/// Sends the threads away, also where the caller fails or panics.
struct Closing<'d, J>(&'d Desk<J>);

impl<J> Drop for Closing<'_, J> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.given.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers, of which as many as there are slots may be under way.
    struct Numbers {
        next: usize,
        count: usize,
        free: usize,
        taken: Vec<(usize, bool)>,
        refused: Option<usize>,
    }

    impl Source for Numbers {
        type Job = (usize, bool);
        type Error = usize;

        fn next(&mut self, wait: bool) -> Result<Option<Self::Job>, usize> {
            if self.next == self.count {
                return Ok(None);
            }
            if self.free == 0 {
                assert!(!wait, "all were taken, so one is free");
                return Ok(None);
            }
            self.free -= 1;
            self.next += 1;
            Ok(Some((self.next - 1, false)))
        }

        fn take(&mut self, job: Self::Job) -> Result<(), usize> {
            self.free += 1;
            self.taken.push(job);
            match self.refused {
                Some(number) if number == job.0 => Err(number),
                _ => Ok(()),
            }
        }
    }

    fn numbers(count: usize, free: usize) -> Numbers {
        Numbers {
            next: 0,
            count,
            free,
            taken: Vec::new(),
            refused: None,
        }
    }

    fn is_helper() -> bool {
        thread::current().name() == Some("fill")
    }

    #[test]
    fn all_are_filled_and_taken_in_order() {
        for helpers in [0, 1, 2, 7] {
            for (count, free) in [(0, 1), (1, 1), (2, 1), (100, 1), (100, 3), (1000, 16)] {
                let mut source = numbers(count, free);
                fill_all(&mut source, helpers, |job| job.1 = true).unwrap();
                let expected: Vec<_> = (0..count).map(|number| (number, true)).collect();
                assert_eq!(
                    source.taken, expected,
                    "{helpers} helpers, {free} at a time"
                );
                assert_eq!(source.free, free);
            }
        }
    }

    #[test]
    fn slow_and_failing_threads_are_made_up_for() {
        for slow in [true, false] {
            let mut source = numbers(60, 5);
            fill_all(&mut source, 3, |job| {
                if slow && job.0 % 7 == 0 {
                    thread::sleep(std::time::Duration::from_millis(2));
                }
                assert!(slow || !is_helper(), "a fault made on purpose");
                job.1 = true;
            })
            .unwrap();
            assert_eq!(source.taken.len(), 60);
            assert!(source.taken.iter().all(|job| job.1));
        }
    }

    #[test]
    fn an_error_ends_it() {
        for refused in [0, 1, 30, 99] {
            let mut source = numbers(100, 8);
            source.refused = Some(refused);
            let found = fill_all(&mut source, 3, |job| job.1 = true);
            assert_eq!(found, Err(refused));
            assert_eq!(source.taken.len(), refused + 1);
        }
    }

    #[test]
    fn a_panic_of_the_caller_sends_threads_away() {
        let panicked = catch_unwind(|| {
            let mut source = numbers(100, 8);
            fill_all(&mut source, 3, |job| {
                assert!(job.0 != 50, "a fault made on purpose");
            })
        });
        assert!(panicked.is_err());
    }

    #[test]
    fn little_is_filled_by_the_caller() {
        assert_eq!(helpers_for(LEAST_BYTES - 1), 0);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(helpers_for(LEAST_BYTES), MOST.min(cores - 1));
    }
}
