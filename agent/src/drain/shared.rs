//! The memory of an array map, mapped into this process: read without a system call, while programs write it.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
};

use aya::maps::{Map, MapData};
use procscope_agent_common::KernelRecord;

use super::DrainError;

/// An array map in this process's memory, read while programs write it.
pub(super) struct Shared<T> {
    start: NonNull<T>,
    len: u32,
    bytes: usize,
    // Keeps the map alive for as long as its memory is read.
    _map: MapData,
}

// SAFETY: the memory is only read, and may be read from any thread.
unsafe impl<T: KernelRecord> Send for Shared<T> {}

impl<T: KernelRecord> Shared<T> {
    pub(super) fn map(map: Map, name: &'static str, len: u32) -> Result<Self, DrainError> {
        let Map::Array(map) = map else {
            return Err(DrainError::NoMap(name));
        };
        let bytes = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .saturating_mul(size_of::<T>())
            .next_multiple_of(4096);
        let fd: BorrowedFd<'_> = map.fd().as_fd();
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else uses it.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                rustix::mm::ProtFlags::READ,
                rustix::mm::MapFlags::SHARED,
                fd,
                0,
            )
        }
        .map_err(|error| DrainError::Mmap {
            map: name,
            source: error.into(),
        })?;
        let start = NonNull::new(start.cast()).ok_or(DrainError::NoMap(name))?;
        Ok(Self {
            start,
            len,
            bytes,
            _map: map,
        })
    }

    /// A copy of one element; words of it may be of different moments.
    pub(super) fn get(&self, index: u32) -> Option<T> {
        let index = (index < self.len).then(|| usize::try_from(index).ok())??;
        // SAFETY: within the mapping, which lives as long as `self`, and aligned as the kernel laid it out.
        let element = unsafe { self.start.add(index) };
        // SAFETY: as above; any bytes are a value, and the read is volatile because programs write it.
        Some(unsafe { element.as_ptr().read_volatile() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, `bytes` long, and nobody reads it after this.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "could not unmap a map");
        }
    }
}
