//! Launches that the driver knows as one piece of work.

use std::ffi::c_void;

use super::api::{Api, Dependent, Edge, KernelNode};
use super::queue::{Launch, Run};
use super::{Handle, check};
use crate::error::GpuError;

/// A run of launches, ready to be asked for as one.
///
/// It holds addresses, not memory, and what it holds is compared with the run that is asked for each time.
/// Who drops it gives it back first ([`Graph::give_back`]).
pub(super) struct Graph {
    recorded: Handle,
    ready: Handle,
    nodes: Vec<Handle>,
    /// What the driver has of it.
    run: Run,
}

impl Graph {
    /// Makes a graph of a run, whose kernels wait by themselves for each other if there is a `dependent`.
    pub(super) fn new(
        api: &Api,
        dependent: Option<&Dependent>,
        run: Run,
    ) -> Result<Self, GpuError> {
        let mut graph = Self {
            recorded: Handle::NONE,
            ready: Handle::NONE,
            nodes: Vec::with_capacity(run.launches.len()),
            run,
        };
        let made = graph.make(api, dependent);
        if made.is_err() {
            graph.give_back(api);
        }
        made.map(|()| graph)
    }

    fn make(&mut self, api: &Api, dependent: Option<&Dependent>) -> Result<(), GpuError> {
        // SAFETY: the place outlives the call.
        check(api, "cuGraphCreate", unsafe {
            (api.create_graph)(&raw mut self.recorded.0, 0)
        })?;
        for launch in &self.run.launches {
            let mut node = Handle::NONE;
            let before = self.nodes.last().map_or(Handle::NONE, |before| *before);
            let is_first = self.nodes.is_empty();
            let count = usize::from(!is_first && dependent.is_none());
            // SAFETY: the graph and the node before are its own; the driver copies what it is shown.
            let add = |params: *const KernelNode| unsafe {
                (api.add_kernel_node)(
                    &raw mut node.0,
                    self.recorded.0,
                    &raw const before.0,
                    count,
                    params,
                )
            };
            check(
                api,
                "cuGraphAddKernelNode",
                with_params(&self.run, launch, add),
            )?;
            if let Some(dependent) = dependent.filter(|_| !is_first) {
                // SAFETY: both nodes are of this graph, and the edge outlives the call.
                let code = unsafe {
                    (dependent.add_dependencies)(
                        self.recorded.0,
                        &raw const before.0,
                        &raw const node.0,
                        std::ptr::from_ref(&Edge::WAITS_BY_ITSELF),
                        1,
                    )
                };
                check(api, "cuGraphAddDependencies", code)?;
            }
            self.nodes.push(node);
        }
        // SAFETY: the graph is whole; the place outlives the call.
        check(api, "cuGraphInstantiate", unsafe {
            (api.instantiate_graph)(&raw mut self.ready.0, self.recorded.0, 0)
        })
    }

    /// How many launches of `run`, a run of the same kernels, differ from what the driver has.
    pub(super) fn differences(&self, run: &Run) -> usize {
        let both = self.run.launches.iter().zip(&run.launches);
        both.filter(|(known, launch)| self.differs((known, run), launch))
            .count()
    }

    fn differs(&self, (known, run): (&Launch, &Run), launch: &Launch) -> bool {
        known.grid != launch.grid || self.run.args_of(known) != run.args_of(launch)
    }

    /// Asks for `run`, a run of the same kernels: tells the driver which launches differ from those before
    /// and returns how many did. What `run` is then is of no use.
    ///
    /// # Errors
    /// If the driver fails; then the graph is of no use any more.
    ///
    /// # Safety
    /// As [`super::Driver::launch`], for each of the run's launches.
    pub(super) unsafe fn launch(
        &mut self,
        api: &Api,
        stream: Handle,
        run: &mut Run,
    ) -> Result<usize, GpuError> {
        let mut changed = 0;
        for (index, launch) in run.launches.iter().enumerate() {
            if !self.differs((&self.run.launches[index], run), launch) {
                continue;
            }
            // SAFETY: the node is of the graph that `ready` was made of. Work that was asked for keeps
            // what it was asked for with.
            let set = |params: *const KernelNode| unsafe {
                (api.set_kernel_node)(self.ready.0, self.nodes[index].0, params)
            };
            check(
                api,
                "cuGraphExecKernelNodeSetParams",
                with_params(run, launch, set),
            )?;
            changed += 1;
        }
        std::mem::swap(&mut self.run, run);
        // SAFETY: the graph is ready; the caller keeps the memory.
        check(api, "cuGraphLaunch", unsafe {
            (api.launch_graph)(self.ready.0, stream.0)
        })?;
        Ok(changed)
    }

    /// Gives it back to the driver, which keeps it until it has run.
    pub(super) fn give_back(&self, api: &Api) {
        // SAFETY: both were made by this driver and are given back once. Errors have nobody to go to.
        unsafe {
            if self.ready != Handle::NONE {
                let _ = (api.destroy_ready_graph)(self.ready.0);
            }
            if self.recorded != Handle::NONE {
                let _ = (api.destroy_graph)(self.recorded.0);
            }
        }
    }
}

/// Shows the driver a launch as it wants to see a graph's.
fn with_params(run: &Run, launch: &Launch, show: impl FnOnce(*const KernelNode) -> i32) -> i32 {
    let args = run.args_of(launch).as_ptr().cast_mut().cast::<c_void>();
    let mut pointers = [args];
    let params = KernelNode {
        function: launch.function.0,
        grid: launch.grid,
        block: [launch.threads, 1, 1],
        shared_bytes: 0,
        args: pointers.as_mut_ptr(),
        extra: std::ptr::null_mut(),
        kernel: std::ptr::null_mut(),
        context: std::ptr::null_mut(),
    };
    show(&raw const params)
}
