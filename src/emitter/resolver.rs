//! Name lookup in a helper process: getaddrinfo(3) blocks for as long as the name servers take, and only the end of its
//! process stops it.
//!
//! Shape: the helper process writes `=` and addresses, one per line, or `!` and the reason why there are none.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use crate::process::fork::helper::{HelperProcess, run_helper};
use crate::system::pid::Pid;

/// Time limit for a lookup, after which the helper process is killed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of addresses; the rest is cut off.
const MAX_ADDRESSES: usize = 16;

/// A function that finds the addresses of a host and port. It runs in the helper process.
pub(super) type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Asks the resolver of the system.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// A running lookup.
pub(super) struct Lookup {
    /// `None` once it is reaped.
    helper: Option<HelperProcess>,
    output: Vec<u8>,
    state: LookupState,
}

enum LookupState {
    /// The helper process runs.
    Running { deadline: Instant },
    /// The helper process took too long and was killed; it has not exited yet.
    Killed,
}

/// The progress of a lookup.
pub(super) enum Progress {
    /// There is no result yet.
    Running,
    /// The lookup found at least one address.
    Found(Vec<SocketAddr>),
    /// The lookup failed, for this reason.
    Failed(String),
}

impl Lookup {
    pub(super) fn start(resolve: Resolve, host: &str, port: u16, now: Instant) -> io::Result<Self> {
        let helper = run_helper(|| encode(resolve(host, port)))?;
        let state = LookupState::Running { deadline: now + TIMEOUT };
        Ok(Self { helper: Some(helper), output: Vec::new(), state })
    }

    /// The descriptor to poll for reading before [`Lookup::turn`].
    pub(super) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.helper.as_ref().map(HelperProcess::output)
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        self.helper.as_ref().map(HelperProcess::pid)
    }

    /// When the lookup times out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            LookupState::Running { deadline } => Some(deadline),
            LookupState::Killed => None,
        }
    }

    /// Reads the output so far. Not to be called again after the end of the lookup.
    pub(super) fn turn(&mut self, now: Instant) -> Progress {
        let Some(child) = &self.helper else {
            return Progress::Failed("the lookup is over".to_owned());
        };
        let mut part = [0; 1024];
        loop {
            match read(child.output(), &mut part) {
                Ok(0) => break,
                Ok(n) => self.output.extend(&part[..n]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if self.deadline().is_some_and(|deadline| now >= deadline) {
                        child.kill();
                        self.state = LookupState::Killed;
                    }
                    return Progress::Running;
                }
                Err(error) => {
                    child.kill();
                    self.helper = None;
                    return Progress::Failed(error.to_string());
                }
            }
        }
        if let Some(child) = self.helper.take() {
            child.reap();
        }
        match (decode(&self.output), &self.state) {
            (Ok(addresses), _) => Progress::Found(addresses),
            (Err(_), LookupState::Killed) => Progress::Failed(format!("no answer in {TIMEOUT:?}")),
            (Err(reason), LookupState::Running { .. }) => Progress::Failed(reason),
        }
    }
}

impl Drop for Lookup {
    /// Kills the helper process, whose result is no longer needed.
    fn drop(&mut self) {
        let Some(child) = self.helper.take() else { return };
        child.kill();
        let mut fds = [PollFd::new(child.output(), PollFlags::empty())];
        // A killed process exits at once, unless it hangs in the kernel. Then the code that reaps all children reaps
        // it.
        if let Ok(1..) = poll(&mut fds, PollTimeout::from(100_u8)) {
            child.reap();
        }
    }
}

fn encode(found: io::Result<Vec<SocketAddr>>) -> Vec<u8> {
    match found {
        Ok(addresses) => {
            let lines = addresses.iter().take(MAX_ADDRESSES).map(|address| format!("{address}\n"));
            format!("={}", lines.collect::<String>()).into_bytes()
        }
        Err(error) => format!("!{error}").into_bytes(),
    }
}

fn decode(output: &[u8]) -> Result<Vec<SocketAddr>, String> {
    let text = String::from_utf8_lossy(output);
    if let Some(reason) = text.strip_prefix('!') {
        return Err(reason.to_owned());
    }
    let Some(lines) = text.strip_prefix('=') else {
        return Err("the helper process ended without a result".to_owned());
    };
    match lines.lines().map(str::parse).collect::<Result<Vec<SocketAddr>, _>>() {
        Ok(addresses) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_errors_survive_the_encoding() {
        let addresses = ["127.0.0.1:8125", "[::1]:8125", "[fe80::1%3]:8125"];
        let addresses: Vec<SocketAddr> =
            addresses.map(|address| address.parse().unwrap()).into_iter().collect();
        assert_eq!(decode(&encode(Ok(addresses.clone()))), Ok(addresses));
        let error = || io::Error::other("no such host");
        assert_eq!(decode(&encode(Err(error()))), Err("no such host".to_owned()));
    }

    #[test]
    fn no_address_and_no_output_are_failures() {
        assert_eq!(decode(&encode(Ok(Vec::new()))), Err("the name has no address".to_owned()));
        assert_eq!(decode(b""), Err("the helper process ended without a result".to_owned()));
        assert!(decode(b"=127.0.0.1:81").is_ok());
        assert!(decode(b"=127.0.0.1:8125\nx\n").is_err());
    }

    #[test]
    fn many_addresses_fit_into_a_pipe() {
        let address: SocketAddr =
            "[1111:2222:3333:4444:5555:6666:7777:8888%9]:8125".parse().unwrap();
        assert_eq!(decode(&encode(Ok(vec![address; 9999]))).unwrap().len(), MAX_ADDRESSES);
    }
}
