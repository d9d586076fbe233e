//! Threads beside the forward pass.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The grammar library recurses along a grammar's depth.
pub(super) const STACK: usize = 64 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that run jobs in the order they come. Ends with its last owner.
pub(super) struct Workers {
    /// `None` only while it is being dropped.
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts threads; where the system has none left, jobs run on the caller's.
    pub(super) fn start(count: usize) -> Self {
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let threads = (0..count)
            .map_while(|index| {
                let jobs = Arc::clone(&jobs);
                Builder::new()
                    .name(format!("grammar-{index}"))
                    .stack_size(STACK)
                    .spawn(move || work(&jobs))
                    .ok()
            })
            .collect();
        Self {
            queue: Some(queue),
            threads,
        }
    }

    /// Runs a job soon. It must not panic.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        match &self.queue {
            Some(queue) if !self.threads.is_empty() => {
                if let Err(refused) = queue.send(Box::new(job)) {
                    (refused.0)();
                }
            }
            _ => job(),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, and given up before the job runs.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            // A constraint's last job may own the workers; a thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}
