//! The parts of a per-CPU counter that only their CPUs know of yet. Only the iterator reads them.
//!
//! A per-CPU pointer is an address to which each CPU's base is added. No program is told the bases; but of a
//! per-CPU map the kernel gives us both the pointer and, for each CPU, the sum.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_map_lookup_percpu_elem},
    macros::map,
    maps::{Array, PerCpuArray},
};

use crate::members::MISSING;

/// CPUs whose parts are read; on a machine with more, resident sets stay off by the bound of docs/metrics.md.
const CPUS_MAX: u32 = 512;

/// Something per CPU whose addresses tell the bases.
#[map]
static HERE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The base of each CPU; the slot after the last one holds what is being worked out.
#[map]
static BASES: Array<u64> = Array::with_max_entries(CPUS_MAX + 1, 0);

/// CPUs that this machine can ever have. The loader sets it.
#[unsafe(no_mangle)]
static CPU_COUNT: Global<u32> = Global::new(0);

/// Where `struct bpf_array` keeps the pointers of a per-CPU array.
#[unsafe(no_mangle)]
static ARRAY_PPTRS: Global<u32> = Global::new(MISSING);

/// Finds the bases, at the first task of each walk until they are known.
#[inline(always)]
pub(crate) fn find_bases() {
    if ARRAY_PPTRS.load() == MISSING || CPU_COUNT.load() > CPUS_MAX {
        return;
    }
    let Some(work) = BASES.get_ptr_mut(CPUS_MAX) else {
        return;
    };
    // SAFETY: our own map; a map's address is written into memory so that it can be read back as a number.
    let known = unsafe { read_volatile(work) };
    if known != 0 {
        return;
    }
    // SAFETY: as above.
    let here = unsafe {
        write_volatile(work.cast::<*const PerCpuArray<u64>>(), &raw const HERE);
        read_volatile(work)
    };
    // SAFETY: the helper checks the address.
    let Ok(pointer) =
        (unsafe { bpf_probe_read_kernel((here + u64::from(ARRAY_PPTRS.load())) as *const u64) })
    else {
        return;
    };
    for cpu in 0..CPUS_MAX {
        if cpu >= CPU_COUNT.load() {
            break;
        }
        let Some(base) = BASES.get_ptr_mut(cpu) else { break };
        let zero = 0_u32;
        // SAFETY: a map of ours and a key of its type.
        unsafe {
            let element = bpf_map_lookup_percpu_elem(
                (&raw const HERE).cast_mut().cast(),
                (&raw const zero).cast(),
                cpu,
            );
            write_volatile(base.cast::<*mut core::ffi::c_void>(), element);
            let sum = read_volatile(base);
            write_volatile(base, if sum == 0 { 0 } else { sum.wrapping_sub(pointer) });
        }
    }
}

/// Adds to each of four counters the parts that `parts` points to.
#[inline(always)]
pub(crate) fn add_parts(counts: &mut [i64; 4], parts: [u64; 4]) {
    let in_a_row = parts[1] == parts[0] + 4 && parts[2] == parts[0] + 8 && parts[3] == parts[0] + 12;
    for cpu in 0..CPUS_MAX {
        if cpu >= CPU_COUNT.load() {
            break;
        }
        let Some(base) = BASES.get_ptr(cpu) else { break };
        // SAFETY: our own map.
        let base = unsafe { read_volatile(base) };
        if base == 0 {
            continue;
        }
        if in_a_row {
            // SAFETY: the helper checks the address.
            let row = unsafe { bpf_probe_read_kernel(parts[0].wrapping_add(base) as *const [i32; 4]) };
            if let Ok(row) = row {
                counts[0] += i64::from(row[0]);
                counts[1] += i64::from(row[1]);
                counts[2] += i64::from(row[2]);
                counts[3] += i64::from(row[3]);
            }
        } else {
            for n in 0..4 {
                // SAFETY: the helper checks the address.
                let part = unsafe { bpf_probe_read_kernel(parts[n].wrapping_add(base) as *const i32) };
                counts[n] += i64::from(part.unwrap_or(0));
            }
        }
    }
}
