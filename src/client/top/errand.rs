//! A thread that asks the server, so that a server that does not answer leaves the keys alone.
//!
//! It owns nothing that has to be tidied up: when the screen is over, the process ends under it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::sample::Sample;
use super::screen::Input;
use crate::client::ctl::client::{self, Patience};
use crate::client::ctl::{self, CtlError, Order, Verb};
use crate::system::address::BindAddress;

/// The screen's end.
pub(super) struct Errand {
    orders: SyncSender<Verb>,
    news: Receiver<Input>,
    /// Can be read from when there are news.
    pub(super) bell: UnixStream,
}

impl Errand {
    /// Looks every `interval` from now on.
    pub(super) fn start(server: BindAddress, interval: Duration) -> io::Result<Self> {
        let (orders, heard) = mpsc::sync_channel(1);
        let (tell, news) = mpsc::channel();
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let runner = Runner { server, interval, orders: heard, news: tell, rope };
        thread::Builder::new().name("look".to_owned()).spawn(move || runner.run())?;
        Ok(Self { orders, news, bell })
    }

    /// Tells the server so, when the question before has been answered; one order waits, and no more.
    pub(super) fn order(&self, verb: Verb) {
        // Without the thread there is a failure on the screen already.
        let _ = self.orders.try_send(verb);
    }

    /// What has come.
    pub(super) fn news(&self) -> impl Iterator<Item = Input> + '_ {
        self.news.try_iter()
    }
}

/// One look at the server.
pub(super) fn look(server: &BindAddress) -> Result<Sample, CtlError> {
    let get = |target| client::get(server, target, Patience::Short)?.of_success(server);
    let metrics = get("/metrics")?;
    let at = Instant::now(); // The counts are of this moment.
    let status = get("/status")?;
    let strange = || CtlError::Strange { server: server.clone() };
    Sample::read(&status, &metrics, at).ok_or_else(strange)
}

/// The thread's end.
struct Runner {
    server: BindAddress,
    interval: Duration,
    orders: Receiver<Verb>,
    news: Sender<Input>,
    rope: UnixStream,
}

impl Runner {
    fn run(mut self) {
        let mut next = Instant::now() + self.interval;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            let input = match self.orders.recv_timeout(wait) {
                Ok(verb) => {
                    let order = Order { verb, server: self.server.clone() };
                    let words = ctl::obey(&order).unwrap_or_else(|error| error.to_string());
                    Input::Answer(words.trim_end().to_owned())
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + self.interval;
                    match look(&self.server) {
                        Ok(sample) => Input::Sample(Box::new(sample)),
                        Err(error) => {
                            Input::Failure { words: error.to_string(), at: Instant::now() }
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.news.send(input).is_err() || self.rope.write_all(b"!").is_err() {
                return;
            }
        }
    }
}
