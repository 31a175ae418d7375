//! `arctos top`: one server on a live screen.
//!
//! A client of the admin socket like [`crate::client::ctl`], and a process of its own: it knows what `/status` and
//! `/metrics` say, and nothing else. Rates and percentiles are differences of two looks.
//!
//! | file | owns |
//! |---|---|
//! | `sample` | what one look has seen |
//! | `pace` | what happened between two looks |
//! | `screen` | what there is to see, and what keys make of it |
//! | `view` | the screen as cells |
//! | `paint` | the bytes from one screen to the next |
//! | `keys` | bytes as keys |
//! | `errand` | a thread that asks the server |
//! | `terminal` | the terminal, and how it is put back |
//!
//! The last two do something; all others take values and give values.

mod errand;
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

use arctos_worker::shared::log::Words;

use crate::client::ctl::CtlError;
use crate::system::address::BindAddress;
use crate::system::exit_code::ExitCode;

use errand::{Errand, look};
use screen::{Effect, Input, Screen};
use terminal::{Event, Terminal};

/// What the command line of `arctos top` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The admin socket of the server.
    pub server: BindAddress,
    /// From one look to the next.
    pub interval: Duration,
    /// Print one screen and leave.
    pub is_once: bool,
}

/// Why there is no screen. The message is for standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The server cannot be looked at, at the start. Later it is waited for.
    #[error(transparent)]
    Server(#[from] CtlError),
    /// Nor can the terminal.
    #[error("the terminal: {}", Words(.0))]
    Terminal(#[from] io::Error),
}

impl TopError {
    /// The exit code: always 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }
}

/// Shows the server until a key or a signal ends it; what is to be printed afterwards: one screen, where it
/// was asked for or where there is no terminal.
pub fn watch(watch: &Watch) -> Result<Option<String>, TopError> {
    // Before the terminal is touched: a wrong address is told as by `arctos ctl`.
    let first = look(&watch.server)?;
    let mut screen = Screen::new(watch.server.to_string(), first);
    if watch.is_once || !terminal::is_there() {
        thread::sleep(watch.interval);
        screen.update(Input::Sample(Box::new(look(&watch.server)?)));
        return Ok(Some(view::plain(&screen, terminal::size().map(|(width, _)| width))));
    }
    live(watch, &mut screen)?;
    Ok(None)
}

fn live(watch: &Watch, screen: &mut Screen) -> io::Result<()> {
    // First, so that the thread has its mask of signals.
    let mut terminal = Terminal::enter()?;
    let errand = Errand::start(watch.server.clone(), watch.interval)?;
    loop {
        let (width, height) = terminal.size();
        terminal.show(view::draw(screen, width, height))?;
        let mut inputs = Vec::new();
        for event in terminal.wait(errand.bell.as_fd())? {
            match event {
                Event::Keys(keys) => inputs.extend(keys.into_iter().map(Input::Key)),
                Event::Resized => terminal.forget(),
                Event::Suspend => terminal.suspend()?,
                Event::End => return Ok(()),
            }
        }
        // An empty bell is no failure, and it does not matter how often it was rung.
        if let Ok(0) = (&errand.bell).read(&mut [0; 64]) {
            return Err(io::Error::other(
                "nobody looks at the server any more: a defect of arctos",
            ));
        }
        inputs.extend(errand.news());
        for input in inputs {
            match screen.update(input) {
                Effect::Nothing => {}
                Effect::Order(verb) => errand.order(verb),
                Effect::Suspend => terminal.suspend()?,
                Effect::Repaint => terminal.forget(),
                Effect::Quit => return Ok(()),
            }
        }
    }
}
