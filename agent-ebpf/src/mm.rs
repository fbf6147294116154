//! The one file that reads `mm_struct`. Kernels it knows: 6.1 and later.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_probe_read_user},
};
use procscope_agent_common::ARGUMENTS_LEN;

use crate::{
    members::{MISSING, member, members, offsets},
    percpu,
};

offsets! {
    MM_HIWATER_RSS MM_TOTAL_VM MM_ARG_START MM_ARG_END MM_RSS_FILE MM_RSS_ANON MM_RSS_SHMEM MM_RSS_SWAP
    MM_RSS_FILE_PARTS MM_RSS_ANON_PARTS MM_RSS_SWAP_PARTS MM_RSS_SHMEM_PARTS
}

/// A `mm_struct`. Its page counters are off by what CPUs have not yet put together (docs/metrics.md), but for
/// `exact_pages`.
#[derive(Clone, Copy)]
pub(crate) struct Mm(*const u8);

impl Mm {
    /// A pointer that the kernel typed.
    #[inline(always)]
    pub(crate) const fn from_ptr(mm: *const u8) -> Self {
        Self(mm)
    }

    /// Whether both are the same address space.
    #[inline(always)]
    pub(crate) fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    members! {
        hiwater_pages: u64 = MM_HIWATER_RSS,
        virtual_pages: u64 = MM_TOTAL_VM,
        arguments_start: u64 = MM_ARG_START,
        arguments_end: u64 = MM_ARG_END,
    }

    /// One of the page counters. Before Linux 6.2, where no CPU keeps parts, they are an array of `atomic_long_t`,
    /// which the verifier does not look into: there a helper reads it.
    #[inline(always)]
    fn count(self, offset: &Global<u32>) -> i64 {
        if MM_RSS_FILE_PARTS.load() != MISSING {
            // SAFETY: see `members!`.
            return unsafe { member(self.0, offset) };
        }
        let address = self.0 as u64 + u64::from(offset.load());
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(address as *const i64) }.unwrap_or(0)
    }

    /// File, anonymous, swapped and shared pages, with what each CPU has not yet put together where the kernel
    /// keeps that apart.
    #[inline(always)]
    pub(crate) fn exact_pages(self) -> [u64; 4] {
        let mut counts = [
            self.count(&MM_RSS_FILE),
            self.count(&MM_RSS_ANON),
            self.count(&MM_RSS_SWAP),
            self.count(&MM_RSS_SHMEM),
        ];
        if MM_RSS_FILE_PARTS.load() != MISSING {
            // SAFETY: see `members!`.
            let parts: [u64; 4] = unsafe {
                [
                    member(self.0, &MM_RSS_FILE_PARTS),
                    member(self.0, &MM_RSS_ANON_PARTS),
                    member(self.0, &MM_RSS_SWAP_PARTS),
                    member(self.0, &MM_RSS_SHMEM_PARTS),
                ]
            };
            percpu::add_parts(&mut counts, parts);
        }
        counts.map(positive)
    }

    /// Resident pages of all kinds, off by what CPUs have not yet put together.
    #[inline(always)]
    pub(crate) fn rss_pages(self) -> u64 {
        positive(self.count(&MM_RSS_FILE))
            + positive(self.count(&MM_RSS_ANON))
            + positive(self.count(&MM_RSS_SHMEM))
    }

    /// Writes the first arguments of the current process and says how many bytes of them.
    ///
    /// # Safety
    /// `to` may be written for `ARGUMENTS_LEN` bytes and is known as such to the verifier; the address space is
    /// that of the current thread.
    #[inline(always)]
    pub(crate) unsafe fn write_arguments(self, to: *mut u8) -> u32 {
        let start = self.arguments_start();
        let mut len = self.arguments_end().wrapping_sub(start);
        if len > ARGUMENTS_LEN as u64 {
            len = ARGUMENTS_LEN as u64;
        }
        let len = len as u32;
        // SAFETY: as promised by the caller; a page that is not there makes the helper fail, not fault.
        let failed = unsafe { bpf_probe_read_user(to.cast(), len, start as *const _) };
        if failed == 0 { len } else { 0 }
    }
}

/// A counter that CPUs have not yet put together can be below zero for a moment.
#[inline(always)]
pub(crate) fn positive(count: i64) -> u64 {
    if count > 0 { count.unsigned_abs() } else { 0 }
}
