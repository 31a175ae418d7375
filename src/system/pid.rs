//! The number of a process.

/// A process, as the kernel numbers it.
///
/// This is not nix's type, because that one can also be asked for the number of the calling process, which the
/// pure modules must not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);
