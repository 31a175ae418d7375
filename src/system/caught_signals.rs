//! Whether another process catches a signal: one that it does not catch might end it.

use std::fs;

use crate::system::pid::Pid;

/// Whether a process has a handler for a signal. If the kernel does not tell, it has none.
///
/// Source: `SigCgt` in proc_pid_status(5), a mask in hexadecimal digits.
pub fn catches(pid: Pid, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.0));
    status.is_ok_and(|status| is_caught(&status, signal))
}

fn is_caught(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_has_one_bit_for_each_signal() {
        let status = "Name:\tarctos\nSigIgn:\tffffffffffffffff\nSigCgt:\t8000000000000002\n";
        for (signal, expected) in [(1, false), (2, true), (3, false), (63, false), (64, true)] {
            assert_eq!(is_caught(status, signal), expected, "{signal}");
        }
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_caught() {
        for status in ["", "SigCgt:\t\n", "SigCgt:\tx\n"] {
            assert!(!is_caught(status, 2), "{status}");
        }
        assert!(!is_caught("SigCgt:\tffffffffffffffff\n", 0));
        assert!(!is_caught("SigCgt:\tffffffffffffffff\n", 65));
        assert!(!catches(Pid(i32::MAX), 2));
    }

    #[test]
    fn this_process_has_the_handlers_of_the_runtime_of_rust() {
        let this = Pid(std::process::id() as i32);
        assert!(catches(this, nix::libc::SIGSEGV));
        assert!(!catches(this, nix::libc::SIGRTMAX()));
    }
}
