//! One lookup of a name, in a child: getaddrinfo(3) waits for name servers as long as it likes, and
//! nothing but the end of its process stops it.
//!
//! Shape: the child says `=` and addresses, or `!` and why there are none, one a line.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use crate::process::fork::helper::{HelperProcess, run_helper};
use crate::system::pid::Pid;

/// Whoever has not answered by then is killed.
const PATIENCE: Duration = Duration::from_secs(5);
/// More addresses than that are cut off.
const ADDRESSES: usize = 16;

/// What finds the addresses of a host and port. A plain function: it runs in a child.
pub(super) type Resolve = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// What the system's resolver says.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// A running lookup.
pub(super) struct Lookup {
    /// `None` once it is reaped.
    run_helper: Option<HelperProcess>,
    words: Vec<u8>,
    life: Life,
}

enum Life {
    /// The child works.
    Running { deadline: Instant },
    /// It took too long; its end is awaited.
    Killed,
}

/// How far it is.
pub(super) enum Progress {
    /// Nothing said yet.
    Running,
    /// At least one address.
    Found(Vec<SocketAddr>),
    /// None, and why.
    Failed(String),
}

impl Lookup {
    /// Starts one.
    pub(super) fn start(resolve: Resolve, host: &str, port: u16, now: Instant) -> io::Result<Self> {
        let run_helper = run_helper(|| encode(resolve(host, port)))?;
        let life = Life::Running { deadline: now + PATIENCE };
        Ok(Self { run_helper: Some(run_helper), words: Vec::new(), life })
    }

    /// Readable when [`Lookup::turn`] has something to do.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.run_helper.as_ref().map(HelperProcess::output)
    }

    /// The child that works.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.run_helper.as_ref().map(HelperProcess::pid)
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Running { deadline } => Some(deadline),
            Life::Killed => None,
        }
    }

    /// Hears what was said so far. Not to be called again after its end.
    pub(super) fn turn(&mut self, now: Instant) -> Progress {
        let Some(child) = &self.run_helper else {
            return Progress::Failed("it has ended".to_owned());
        };
        let mut part = [0; 1024];
        loop {
            match read(child.output(), &mut part) {
                Ok(0) => break,
                Ok(n) => self.words.extend(&part[..n]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if self.deadline().is_some_and(|deadline| now >= deadline) {
                        child.kill();
                        self.life = Life::Killed;
                    }
                    return Progress::Running;
                }
                Err(error) => {
                    child.kill();
                    self.run_helper = None;
                    return Progress::Failed(error.to_string());
                }
            }
        }
        if let Some(child) = self.run_helper.take() {
            child.reap();
        }
        match (decode(&self.words), &self.life) {
            (Ok(addresses), _) => Progress::Found(addresses),
            (Err(_), Life::Killed) => Progress::Failed(format!("no answer in {PATIENCE:?}")),
            (Err(why), Life::Running { .. }) => Progress::Failed(why),
        }
    }
}

impl Drop for Lookup {
    /// The child has nobody to tell any more.
    fn drop(&mut self) {
        let Some(child) = self.run_helper.take() else { return };
        child.kill();
        let mut fds = [PollFd::new(child.output(), PollFlags::empty())];
        // Killed, it ends at once, unless it hangs in the kernel: then whoever comes later reaps it.
        if let Ok(1..) = poll(&mut fds, PollTimeout::from(100_u8)) {
            child.reap();
        }
    }
}

fn encode(found: io::Result<Vec<SocketAddr>>) -> Vec<u8> {
    match found {
        Ok(addresses) => {
            let lines = addresses.iter().take(ADDRESSES).map(|address| format!("{address}\n"));
            format!("={}", lines.collect::<String>()).into_bytes()
        }
        Err(error) => format!("!{error}").into_bytes(),
    }
}

fn decode(words: &[u8]) -> Result<Vec<SocketAddr>, String> {
    let words = String::from_utf8_lossy(words);
    if let Some(why) = words.strip_prefix('!') {
        return Err(why.to_owned());
    }
    let Some(lines) = words.strip_prefix('=') else {
        return Err("the child ended without an answer".to_owned());
    };
    match lines.lines().map(str::parse).collect::<Result<Vec<SocketAddr>, _>>() {
        Ok(addresses) if addresses.is_empty() => Err("it has no address".to_owned()),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_errors_come_through() {
        let addresses = ["127.0.0.1:8125", "[::1]:8125", "[fe80::1%3]:8125"];
        let addresses: Vec<SocketAddr> =
            addresses.map(|address| address.parse().unwrap()).into_iter().collect();
        assert_eq!(decode(&encode(Ok(addresses.clone()))), Ok(addresses));
        let error = || io::Error::other("no such host");
        assert_eq!(decode(&encode(Err(error()))), Err("no such host".to_owned()));
    }

    #[test]
    fn no_address_and_no_answer_are_failures() {
        assert_eq!(decode(&encode(Ok(Vec::new()))), Err("it has no address".to_owned()));
        assert_eq!(decode(b""), Err("the child ended without an answer".to_owned()));
        assert!(decode(b"=127.0.0.1:81").is_ok());
        assert!(decode(b"=127.0.0.1:8125\nx\n").is_err());
    }

    #[test]
    fn many_addresses_fit_into_a_pipe() {
        let address: SocketAddr =
            "[1111:2222:3333:4444:5555:6666:7777:8888%9]:8125".parse().unwrap();
        assert_eq!(decode(&encode(Ok(vec![address; 9999]))).unwrap().len(), ADDRESSES);
    }
}
