//! A thread that talks to the server, so that keys still work while the server does not respond.
//!
//! It owns nothing that needs cleanup: when the screen ends, the process exits without it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::sample::Sample;
use super::screen::Input;
use crate::admin::verb::Verb;
use crate::client::ctl::client::{self, ReadTimeout};
use crate::client::ctl::{self, CtlCommand, CtlError, ProfileFormat, ProfileOutput};
use crate::system::address::BindAddress;

/// The screen's side of the thread.
pub(super) struct Fetcher {
    verbs: SyncSender<Verb>,
    inputs: Receiver<Input>,
    /// Readable when an input has arrived.
    pub(super) wakeup: UnixStream,
}

impl Fetcher {
    /// Starts the thread, which takes a sample every `interval`.
    pub(super) fn start(server: BindAddress, interval: Duration) -> io::Result<Self> {
        let (verbs, requested) = mpsc::sync_channel(1);
        let (sender, inputs) = mpsc::channel();
        let (wakeup, waker) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        let worker = FetchLoop { server, interval, verbs: requested, inputs: sender, waker };
        thread::Builder::new().name("look".to_owned()).spawn(move || worker.run())?;
        Ok(Self { verbs, inputs, wakeup })
    }

    /// Sends a verb to the server once the current request is over. At most one verb waits; others are dropped.
    pub(super) fn send(&self, verb: Verb) {
        // If the thread is gone, the screen ends anyway.
        let _ = self.verbs.try_send(verb);
    }

    /// The inputs that have arrived.
    pub(super) fn inputs(&self) -> impl Iterator<Item = Input> + '_ {
        self.inputs.try_iter()
    }
}

/// Takes a sample of the server.
pub(super) fn fetch(server: &BindAddress) -> Result<Sample, CtlError> {
    let get = |target| client::get(server, target, ReadTimeout::Short)?.into_success(server);
    let metrics = get("/metrics")?;
    let at = Instant::now(); // The counters are of this moment.
    let status = get("/status")?;
    let unknown = || CtlError::Unknown { server: server.clone() };
    Sample::read(&status, &metrics, at).ok_or_else(unknown)
}

/// The thread's side.
struct FetchLoop {
    server: BindAddress,
    interval: Duration,
    verbs: Receiver<Verb>,
    inputs: Sender<Input>,
    waker: UnixStream,
}

impl FetchLoop {
    fn run(mut self) {
        let mut next = Instant::now() + self.interval;
        loop {
            let timeout = next.saturating_duration_since(Instant::now());
            let input = match self.verbs.recv_timeout(timeout) {
                Ok(verb @ Verb::Profile { .. }) => match self.profile(verb) {
                    Ok(()) => continue,
                    Err(error) => Input::Response(error.to_string()),
                },
                Ok(verb) => Input::Response(sent(verb, &self.server).unwrap_or_else(|text| text)),
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + self.interval;
                    match fetch(&self.server) {
                        Ok(sample) => Input::Sample(Box::new(sample)),
                        Err(error) => {
                            Input::Failure { text: error.to_string(), at: Instant::now() }
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.inputs.send(input).is_err() || self.waker.write_all(b"!").is_err() {
                return;
            }
        }
    }

    /// Has another thread wait for a profile, because the screen goes on meanwhile.
    fn profile(&self, verb: Verb) -> io::Result<()> {
        let (server, inputs, mut waker) =
            (self.server.clone(), self.inputs.clone(), self.waker.try_clone()?);
        let wait = move || {
            let input = match sent(verb, &server) {
                Ok(text) => Input::Profile(text),
                Err(text) => Input::Response(text),
            };
            // If the screen has ended, nobody is interested.
            let _ = inputs.send(input);
            let _ = waker.write_all(b"!");
        };
        thread::Builder::new().name("profile".to_owned()).spawn(wait).map(drop)
    }
}

/// Sends a verb, and returns the response.
///
/// Errors: the reason why there is none.
fn sent(verb: Verb, server: &BindAddress) -> Result<String, String> {
    let profile = ProfileOutput { format: ProfileFormat::Top, file: None };
    let command = CtlCommand { verb, is_json: false, profile, server: server.clone() };
    let text = ctl::run(&command).map_err(|error| error.to_string())?;
    Ok(text.trim_end().to_owned())
}
