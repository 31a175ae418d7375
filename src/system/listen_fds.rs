//! Sockets that a service manager bound for this process: LISTEN_FDS and LISTEN_PID of sd_listen_fds(3).

use std::os::fd::RawFd;

use crate::system::environment::Environment;

/// The variables of this protocol. They are meant for one process only, so they are removed from the environment of
/// every process that it starts.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The first inherited descriptor (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// The variables are meant for this process and are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("LISTEN_FDS='{text}': expected a whole number from 0 to 1024 (sd_listen_fds(3))")]
pub struct BadListenFds {
    /// The value of LISTEN_FDS.
    pub text: String,
}

/// Returns the descriptors that the service manager passed to the process `pid`. There are none if the variables are
/// absent, or are meant for another process: a parent that forgot to remove them must not pass on its own sockets.
///
/// Errors: [`BadListenFds`].
pub fn inherited(environment: &Environment, pid: u32) -> Result<Vec<RawFd>, BadListenFds> {
    let listen_pid = environment.text("LISTEN_PID");
    let (Some(listen_pid), Some(text)) = (listen_pid, environment.text("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    if listen_pid.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    match text.parse::<u16>() {
        Ok(count @ 0..=1024) => Ok((FIRST..FIRST + RawFd::from(count)).collect()),
        Ok(_) | Err(_) => Err(BadListenFds { text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> Result<Vec<RawFd>, BadListenFds> {
        inherited(&variables.iter().copied().collect(), 42)
    }

    #[test]
    fn descriptors_count_from_three() {
        assert_eq!(given(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2")]), Ok(vec![3, 4]));
    }

    #[test]
    fn variables_with_another_pid_are_for_another_process() {
        assert_eq!(given(&[("LISTEN_PID", "41"), ("LISTEN_FDS", "2")]), Ok(vec![]));
        assert_eq!(given(&[("LISTEN_FDS", "2")]), Ok(vec![]));
        assert_eq!(given(&[("LISTEN_PID", "42")]), Ok(vec![]));
    }

    #[test]
    fn a_count_that_is_not_a_number_is_an_error() {
        let error = given(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "two")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "LISTEN_FDS='two': expected a whole number from 0 to 1024 (sd_listen_fds(3))"
        );
    }
}
