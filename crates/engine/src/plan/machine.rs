//! What there is of memory and of speed.

/// A GPU. Rates are peaks, per second.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// What it is called.
    pub name: String,
    /// Bytes of memory.
    pub total: u64,
    /// Bytes of it that can be had.
    pub free: u64,
    /// Bytes read.
    pub bandwidth: f64,
    /// int8 multiplications of its vector units (dp4a).
    pub macs: f64,
    /// int8 multiplications of its matrix units, without sparsity.
    pub matrix_macs: f64,
    /// Bytes over its link to the CPU, in one direction.
    pub pcie: f64,
}

/// The CPU and its memory. Rates are peaks, per second.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// What it is called.
    pub name: String,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes of RAM; at most what this process may have.
    pub total: u64,
    /// Bytes of it that can be had, what is cached of files included.
    pub free: u64,
    /// Bytes read, by all threads.
    pub bandwidth: f64,
    /// int8 multiplications, by all threads.
    pub macs: f64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its GPUs.
    pub gpus: Vec<Gpu>,
    /// Its CPU.
    pub host: Host,
}
