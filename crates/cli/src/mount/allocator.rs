//! Settings of the C library's allocator for a process that moves blocks.
//!
//! By default every buffer of 128 KiB or more is mapped and unmapped anew, which for blocks of a
//! MiB means page faults for each page of each block.

/// Buffers up to this size come from the heap, in bytes.
const HEAP_BUFFER_BYTES_MAX: libc::c_int = 4 << 20;

/// Free memory at the heap's end that is not given back at once, in bytes.
const KEPT_BYTES: libc::c_int = 64 << 20;

/// Heaps that threads share; each keeps some memory of its own.
const HEAPS_MAX: libc::c_int = 4;

/// Call before threads are started.
#[cfg(target_env = "gnu")]
pub(super) fn tune() {
    let settings = [
        (libc::M_MMAP_THRESHOLD, HEAP_BUFFER_BYTES_MAX),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_ARENA_MAX, HEAPS_MAX),
    ];
    for (parameter, value) in settings {
        // SAFETY: mallopt takes two integers and touches nothing but the allocator's settings.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            tracing::debug!(parameter, value, "the allocator refused a setting");
        }
    }
}

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub(super) fn tune() {}
