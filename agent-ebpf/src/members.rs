//! Members of kernel structs: where they are, and how one is loaded. Which ones are read, and what they mean, is the
//! business of `task.rs` and `mm.rs` alone.
//!
//! Offsets are looked up in the kernel's BTF by the agent (`agent/src/offsets.rs`, same names) and put into
//! read-only memory before loading, so the verifier sees constants. `MISSING` marks a member that this kernel
//! lacks; the verifier then removes the branch that would read it.

use aya_ebpf::Global;

/// The offset of a member that this kernel lacks.
pub(crate) const MISSING: u32 = u32::MAX;

/// Read-only globals, one for each offset.
macro_rules! offsets {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            static $name: aya_ebpf::Global<u32> = aya_ebpf::Global::new(crate::members::MISSING);
        )*
    };
}

/// Loads the member at `offset` of what `base` points to.
///
/// # Safety
/// `base` is a pointer that the verifier knows the type of, and `offset` that of a member of type `T` in it.
#[inline(always)]
pub(crate) unsafe fn member<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
    // SAFETY: as promised by the caller; the verifier refuses the program otherwise, and a load through a
    // pointer that has gone bad gives zero.
    unsafe { core::ptr::read_volatile(base.add(offset.load() as usize).cast::<T>()) }
}

/// Members of one kernel struct, as functions. Safe because each offset comes from this kernel's BTF for just
/// that member, and the verifier checks every load.
macro_rules! members {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name(self) -> $type {
                // SAFETY: `self.0` has the type that this wrapper stands for, `$offset` is of this member.
                unsafe { member(self.0, &$offset) }
            }
        )*
    };
}

pub(crate) use {members, offsets};
