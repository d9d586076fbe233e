//! Launches on their way to the driver.
//!
//! To take a launch costs the driver two microseconds or more of the host's time, and a token has hundreds, nearly always
//! the same ones. So launches are gathered, and a run of kernels that has been seen before goes to the driver as a graph, of
//! which only what changed is told anew. Nobody has to say when a run repeats, and none is
//! launched with another's arguments: they are compared. Everything else that is asked of the driver comes
//! after what was gathered ([`Driver::call`]).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use super::api::{Api, Dependent, LaunchAttribute, LaunchConfig};
use super::graph::Graph;
use super::{Driver, Handle, check};
use crate::error::GpuError;

/// Launches that are gathered after anything else was asked for: few, as the device has nothing to do.
const FIRST_RUN: usize = 16;
/// Launches that are gathered while the device works on those before.
const LATER_RUNS: usize = 64;
/// Fewer go one by one.
const LEAST_GRAPH: usize = 4;
/// Of the start of arguments.
const ALIGNMENT: usize = 16;
/// Runs of kernels that are remembered. A model has some for each number of rows in a step.
const MOST_RUNS: usize = 256;
/// Graphs of the same kernels: more than a model has layers.
const MOST_ALIKE: usize = 128;

/// A kernel that is to run.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) function: Handle,
    pub(super) grid: [u32; 3],
    /// Of a block.
    pub(super) threads: u32,
    /// Where its arguments are.
    args: Range<usize>,
}

/// Launches in their order, with their arguments.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) launches: Vec<Launch>,
    args: Vec<u8>,
}

impl Run {
    pub(super) fn args_of(&self, launch: &Launch) -> &[u8] {
        &self.args[launch.args.clone()]
    }

    /// What is the same whenever it comes.
    fn kernels(&self) -> Vec<(Handle, u32)> {
        let launches = self.launches.iter();
        launches
            .map(|launch| (launch.function, launch.threads))
            .collect()
    }

    /// Empties it, with the room that it has.
    fn clear(&mut self) {
        self.launches.clear();
        self.args.clear();
    }
}

/// What is known of a run of kernels, which has come before.
#[derive(Default)]
struct Known {
    /// Of these kernels with arguments that differ in most launches.
    graphs: Vec<Graph>,
    /// The driver makes no graph of them.
    is_refused: bool,
    /// When it came last.
    used: u64,
}

/// What the driver was asked for, to see what graphs save.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Kernels that ran or will.
    pub kernels: u64,
    /// Calls that launched them, one by one or as graphs.
    pub calls: u64,
    /// Launches whose grid or arguments a graph had to be told anew.
    pub changes: u64,
    /// Kernels that may be brought to the device while those before them run.
    pub overlapping: u64,
}

impl Asked {
    /// What was asked for after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            kernels: self.kernels - before.kernels,
            calls: self.calls - before.calls,
            changes: self.changes - before.changes,
            overlapping: self.overlapping - before.overlapping,
        }
    }
}

/// What is gathered, and the graphs.
#[derive(Default)]
pub(super) struct Queue {
    run: Run,
    /// How long the run may become.
    most: usize,
    /// By their kernels.
    known: HashMap<Vec<(Handle, u32)>, Known>,
    runs: u64,
    asked: Asked,
    /// Of work that nobody was there to hear about.
    failure: Option<GpuError>,
    /// Whether each launch goes by itself.
    one_by_one: bool,
    /// Where kernels wait by themselves for those before them.
    dependent: Option<Dependent>,
    /// Whether the last thing that the stream was asked for is a kernel that went by itself.
    follows_kernel: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            most: FIRST_RUN,
            ..Self::default()
        }
    }

    /// Sends what was gathered.
    fn send(&mut self, api: &Api, stream: Handle) {
        if self.run.launches.is_empty() {
            return;
        }
        if self.failure.is_some() {
            // What comes after work that failed does not run either.
            return self.run.clear();
        }
        if let Err(error) = self.send_run(api, stream) {
            self.failure = Some(error);
        }
    }

    fn send_run(&mut self, api: &Api, stream: Handle) -> Result<(), GpuError> {
        if self.one_by_one || self.run.launches.len() < LEAST_GRAPH {
            return self.send_launches(api, stream);
        }
        self.runs += 1;
        let now = self.runs;
        let Some(known) = self.known.get_mut(&self.run.kernels()) else {
            // It may never come again.
            self.known.insert(self.run.kernels(), Known::default());
            self.forget_oldest(api);
            return self.send_launches(api, stream);
        };
        known.used = now;
        if known.is_refused {
            return self.send_launches(api, stream);
        }
        let differences = |graph: &Graph| graph.differences(&self.run);
        let closest = known.graphs.iter().map(differences).enumerate();
        let closest = closest.min_by_key(|(_, differences)| *differences);
        let index = match closest {
            // Layers have the same kernels with other weights: each has a graph of its own.
            Some((_, differences))
                if differences > self.run.launches.len() / 2 && known.graphs.len() < MOST_ALIKE =>
            {
                None
            }
            closest => closest.map(|(index, _)| index),
        };
        let graph = match index {
            Some(index) => &mut known.graphs[index],
            None => {
                let run = Run {
                    launches: self.run.launches.clone(),
                    args: self.run.args.clone(),
                };
                match Graph::new(api, self.dependent.as_ref(), run) {
                    Ok(graph) => {
                        known.graphs.push(graph);
                        known.graphs.last_mut().expect("it was just put there")
                    }
                    Err(_) => {
                        known.is_refused = true;
                        return self.send_launches(api, stream);
                    }
                }
            }
        };
        let launches = self.run.launches.len() as u64;
        // SAFETY: who asked for each launch promised this.
        let changes = unsafe { graph.launch(api, stream, &mut self.run) };
        self.run.clear();
        if changes.is_err() {
            known.give_back(api);
            known.graphs.clear();
            known.is_refused = true;
        }
        // What comes next waits for all of the graph.
        self.follows_kernel = false;
        self.asked.calls += 1;
        self.asked.changes += changes? as u64;
        if self.dependent.is_some() {
            self.asked.overlapping += launches - 1;
        }
        Ok(())
    }

    /// One by one.
    fn send_launches(&mut self, api: &Api, stream: Handle) -> Result<(), GpuError> {
        let mut sent = Ok(());
        for launch in &self.run.launches {
            let overlaps = self.dependent.as_ref().filter(|_| self.follows_kernel);
            // SAFETY: promised by who asked for the launch.
            let code = unsafe { send_launch(api, overlaps, stream, &self.run, launch) };
            self.asked.calls += 1;
            self.asked.overlapping += u64::from(overlaps.is_some());
            sent = check(api, "cuLaunchKernel", code);
            if sent.is_err() {
                break;
            }
            self.follows_kernel = true;
        }
        self.run.clear();
        sent
    }

    /// Forgets the run that was used longest ago, if there are too many.
    fn forget_oldest(&mut self, api: &Api) {
        if self.known.len() <= MOST_RUNS {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
        let oldest = oldest.map(|(kernels, _)| kernels.clone());
        if let Some(known) = oldest.and_then(|oldest| self.known.remove(&oldest)) {
            known.give_back(api);
        }
    }
}

/// Asks for a kernel, which waits by itself for the one before it if there is an `overlaps`.
///
/// # Safety
/// As [`Driver::launch`].
unsafe fn send_launch(
    api: &Api,
    overlaps: Option<&Dependent>,
    stream: Handle,
    run: &Run,
    launch: &Launch,
) -> i32 {
    let args = run.args_of(launch).as_ptr().cast_mut();
    let mut pointers = [args.cast()];
    let none = std::ptr::null_mut();
    if let Some(dependent) = overlaps {
        let config = LaunchConfig {
            grid: launch.grid,
            block: [launch.threads, 1, 1],
            shared_bytes: 0,
            stream: stream.0,
            attributes: std::ptr::from_ref(&LaunchAttribute::WAITS_BY_ITSELF),
            attribute_count: 1,
        };
        // SAFETY: the driver copies the argument and the attribute before it returns.
        return unsafe {
            (dependent.launch)(
                &raw const config,
                launch.function.0,
                pointers.as_mut_ptr(),
                none,
            )
        };
    }
    let ([x, y, z], threads) = (launch.grid, launch.threads);
    let function = launch.function.0;
    // SAFETY: as above.
    unsafe {
        (api.launch)(
            function,
            x,
            y,
            z,
            threads,
            1,
            1,
            0,
            stream.0,
            pointers.as_mut_ptr(),
            none,
        )
    }
}

impl Known {
    fn give_back(&self, api: &Api) {
        self.graphs.iter().for_each(|graph| graph.give_back(api));
    }
}

impl Driver {
    /// Asks for a kernel to run, in blocks of `threads`, after all work that was asked for before.
    ///
    /// # Errors
    /// Of this work or of work before it.
    ///
    /// # Safety
    /// `write` fills zeroed bytes with what the kernel takes, every address in it is of memory that lives
    /// until the kernel has run, and is as large as the kernel takes it to be.
    pub(crate) unsafe fn launch(
        &self,
        function: Handle,
        grid: [u32; 3],
        threads: u32,
        args_bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), GpuError> {
        let mut queue = self.queue();
        let start = queue.run.args.len();
        // Aligned as the kernels' structs are.
        let end = start + args_bytes.next_multiple_of(ALIGNMENT);
        queue.run.args.resize(end, 0);
        write(&mut queue.run.args[start..start + args_bytes]);
        queue.run.launches.push(Launch {
            function,
            grid,
            threads,
            args: start..end,
        });
        queue.asked.kernels += 1;
        if queue.one_by_one || queue.run.launches.len() >= queue.most {
            self.enter()?;
            queue.send(&self.api, self.stream);
            queue.most = LATER_RUNS;
            return queue.failure.take().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Has every launch go by itself from now on, to see what graphs are good for.
    pub fn launch_one_by_one(&self) {
        self.send_gathered();
        self.queue().one_by_one = true;
    }

    /// Has kernels wait by themselves for those before them from now on, so that they can be brought to the device
    /// while these run. They must be compiled to do so.
    ///
    /// # Errors
    /// If the device is before 9.0, or the driver before CUDA 12.3: then nothing is changed.
    pub(crate) fn launch_dependently(&self) -> Result<(), GpuError> {
        self.device().check_overlap()?;
        let dependent = Dependent::open(self.library.as_deref())?;
        self.send_gathered();
        self.queue().dependent = Some(dependent);
        Ok(())
    }

    /// Sends what was gathered, before anything else is asked for. What fails is kept for
    /// [`Driver::failure`].
    pub(super) fn send_gathered(&self) {
        let mut queue = self.queue();
        queue.send(&self.api, self.stream);
        queue.most = FIRST_RUN;
        // Whatever comes now, the next kernel waits for all of it.
        queue.follows_kernel = false;
    }

    /// What failed since it was asked.
    pub(super) fn failure(&self) -> Result<(), GpuError> {
        self.queue().failure.take().map_or(Ok(()), Err)
    }

    /// What the driver was asked for so far.
    pub fn asked(&self) -> Asked {
        self.queue().asked
    }

    /// Gives all graphs back.
    pub(super) fn forget_graphs(&self) {
        let mut queue = self.queue();
        for (_, known) in queue.known.drain() {
            known.give_back(&self.api);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A run is whole at any time.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
