//! What a device is.

use std::ffi::{CStr, c_char};

use super::api::Api;
use super::check;
use crate::error::GpuError;

/// Facts about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As the driver calls it.
    pub name: String,
    /// Major and minor version of what it can do, such as (9, 0).
    pub capability: (u32, u32),
    /// Its streaming multiprocessors.
    pub multiprocessors: usize,
    /// All of its memory.
    pub memory_bytes: usize,
    /// The CUDA version of the driver, as 1000 * major + 10 * minor.
    pub driver_version: u32,
}

impl Device {
    /// The architecture that kernels are compiled for, such as `sm_90`.
    pub fn arch(&self) -> String {
        format!("sm_{}{}", self.capability.0, self.capability.1)
    }

    /// An error if kernels cannot run on it.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        // From there on there are matrix units for bytes.
        const NEEDED: (u32, u32) = (7, 5);
        if self.capability >= NEEDED {
            return Ok(());
        }
        Err(GpuError::TooOld {
            name: self.name.clone(),
            capability: self.capability,
            needed: NEEDED,
        })
    }

    /// An error if no kernel can be there while those before it run.
    pub(crate) fn check_overlap(&self) -> Result<(), GpuError> {
        if self.capability >= (9, 0) {
            return Ok(());
        }
        Err(GpuError::NoOverlap {
            name: self.name.clone(),
            capability: self.capability,
        })
    }

    /// The driver's number for a device, and what it is.
    pub(super) fn find(api: &Api, ordinal: usize) -> Result<(i32, Self), GpuError> {
        const MULTIPROCESSORS: i32 = 16;
        const CAPABILITY_MAJOR: i32 = 75;
        const CAPABILITY_MINOR: i32 = 76;
        let (mut count, mut number, mut version) = (0, 0, 0);
        let mut name = [0 as c_char; 128];
        let mut memory_bytes = 0;
        // SAFETY: every place that is written outlives its call, and the name's length is its buffer's.
        unsafe {
            check(api, "cuDeviceGetCount", (api.device_count)(&raw mut count))?;
            let count = usize::try_from(count).unwrap_or(0);
            if ordinal >= count {
                return Err(GpuError::NoDevice { ordinal, count });
            }
            check(
                api,
                "cuDriverGetVersion",
                (api.driver_version)(&raw mut version),
            )?;
            check(
                api,
                "cuDeviceGet",
                (api.device)(&raw mut number, ordinal as i32),
            )?;
            let len = name.len() as i32;
            check(
                api,
                "cuDeviceGetName",
                (api.device_name)(name.as_mut_ptr(), len, number),
            )?;
            check(
                api,
                "cuDeviceTotalMem",
                (api.device_memory)(&raw mut memory_bytes, number),
            )?;
        }
        let attribute = |attribute: i32| -> Result<u32, GpuError> {
            let mut value = 0;
            // SAFETY: the device exists, and the place outlives the call.
            let code = unsafe { (api.device_attribute)(&raw mut value, attribute, number) };
            check(api, "cuDeviceGetAttribute", code)?;
            Ok(value.unsigned_abs())
        };
        // SAFETY: the driver ends the name with a zero byte.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        let device = Self {
            name: name.to_string_lossy().into_owned(),
            capability: (attribute(CAPABILITY_MAJOR)?, attribute(CAPABILITY_MINOR)?),
            multiprocessors: attribute(MULTIPROCESSORS)? as usize,
            memory_bytes,
            driver_version: i32::unsigned_abs(version),
        };
        Ok((number, device))
    }
}
