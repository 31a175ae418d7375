//! `arctos top`: a live screen of one server.
//!
//! Like [`crate::client::ctl`] it is a client of the admin socket in a process of its own, and knows only `/status`
//! and `/metrics`. Rates and percentiles are differences between two samples.
//!
//! | file | owns |
//! |---|---|
//! | `sample` | one sample of the server |
//! | `pace` | rates and percentiles between two samples |
//! | `screen` | the state of the screen, and the effect of keys |
//! | `view` | the layout of the screen |
//! | `paint` | the bytes that turn one screen into the next |
//! | `keys` | the parser of keys |
//! | `fetcher` | the thread that talks to the server |
//! | `terminal` | the terminal, and its restoration |
//!
//! Only the last two do I/O.

mod fetcher;
mod keys;
mod pace;
mod paint;
mod sample;
mod screen;
mod terminal;
mod view;

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use arctos_worker::shared::log::ErrorText;

use crate::client::ctl::CtlError;
use crate::system::address::BindAddress;
use crate::system::exit_code::ExitCode;

use fetcher::{Fetcher, fetch};
use screen::{Effect, Input, Screen};
use terminal::{Event, Terminal};

/// The command line of `arctos top`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The admin socket of the server.
    pub server: BindAddress,
    /// The time between two samples.
    pub interval: Duration,
    /// Whether to print one screen and exit.
    pub is_once: bool,
}

/// Why the screen ended or never started. The message is for standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The first sample failed. Later failures are shown, and retried.
    #[error(transparent)]
    Server(#[from] CtlError),
    /// The terminal cannot be used.
    #[error("the terminal: {}", ErrorText(.0))]
    Terminal(#[from] io::Error),
}

impl TopError {
    /// The exit code, which is always 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }
}

/// Shows the server until a key or a signal ends it. With `--once`, or without a terminal, it returns one screen to
/// print instead.
pub fn watch(watch: &Watch) -> Result<Option<String>, TopError> {
    // This comes before the terminal is changed, so that a wrong address is reported as by `arctos ctl`.
    let first = fetch(&watch.server)?;
    let mut screen = Screen::new(watch.server.to_string(), first);
    if watch.is_once || !terminal::is_there() {
        thread::sleep(watch.interval);
        screen.update(Input::Sample(Box::new(fetch(&watch.server)?)));
        return Ok(Some(view::plain(&screen, terminal::size().map(|(width, _)| width))));
    }
    live(watch, &mut screen)?;
    Ok(None)
}

fn live(watch: &Watch, screen: &mut Screen) -> io::Result<()> {
    // The terminal comes first, so that the thread inherits its signal mask.
    let mut terminal = Terminal::enter()?;
    let fetcher = Fetcher::start(watch.server.clone(), watch.interval)?;
    loop {
        let (width, height) = terminal.size();
        terminal.show(view::draw(screen, width, height))?;
        let mut inputs = Vec::new();
        for event in terminal.wait(fetcher.wakeup.as_fd())? {
            match event {
                Event::Keys(keys) => inputs.extend(keys.into_iter().map(Input::Key)),
                Event::Resized => terminal.forget(),
                Event::Suspend => terminal.suspend()?,
                Event::End => return Ok(()),
            }
        }
        // EAGAIN is no failure, and the number of bytes does not matter.
        if let Ok(0) = (&fetcher.wakeup).read(&mut [0; 64]) {
            return Err(io::Error::other(
                "the thread that queries the server has ended: a defect of arctos",
            ));
        }
        inputs.extend(fetcher.inputs());
        for input in inputs {
            match screen.update(input) {
                Effect::Nothing => {}
                Effect::Send { verb } => fetcher.send(verb),
                Effect::Suspend => terminal.suspend()?,
                Effect::Repaint => terminal.forget(),
                Effect::Quit => return Ok(()),
            }
        }
    }
}
