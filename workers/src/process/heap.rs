//! The heap of the C library, which also CPython takes larger objects from.
#![expect(unsafe_code, reason = "malloc_trim")]

/// Gives free memory back to the kernel. glibc raises its own limits for that to twice the largest block that was freed.
/// Other C libraries give large blocks back at once.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements. That it found no free memory concerns nobody.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
