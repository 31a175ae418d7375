//! Commands that come in the middle of a batch.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Where the command comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The command word of the supervisor.
    Word(Command),
    /// A signal handler of the surrounding program that ran inside of the application.
    Interrupt,
}

/// Answers every request. The command comes during the first one.
struct Commanded {
    head: ResponseHead,
    entry: &'static WorkerEntry,
    source: Source,
    is_interrupted: bool,
    requested: Rc<RefCell<Vec<String>>>,
}

impl Application for Commanded {
    type Body = NoItems;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        match self.source {
            Source::Word(command) => self.entry.set_command(command),
            Source::Interrupt => self.is_interrupted = true,
        }
        let path = String::from_utf8_lossy(request.head.path.of(request.head_bytes)).into_owned();
        let body = if path == "/large" { vec![b'x'; TOO_MUCH] } else { b"ok".to_vec() };
        self.requested.borrow_mut().push(path);
        self.head.start(b"200 OK").unwrap();
        Ok(Reply { head: &self.head, content: Content::Whole(body) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }

    fn has_shutdown_request(&self) -> bool {
        self.is_interrupted
    }

    fn run_signal_handlers(&mut self) -> ShutdownRequest {
        if std::mem::take(&mut self.is_interrupted) {
            ShutdownRequest::Exit
        } else {
            ShutdownRequest::None
        }
    }
}

/// The surroundings of a loop that has accepted this many connections, and whose first request brings the command.
struct Stage {
    clients: Vec<TcpStream>,
    requested: Rc<RefCell<Vec<String>>>,
    doorbell: EventFd,
}

fn with_clients(
    source: Source,
    count: usize,
    test: impl FnOnce(&mut EventLoop<'_, Commanded>, Stage),
) {
    let (_supervisor, control) = UnixStream::pair().unwrap();
    let (init, doorbell) = stage::init(control.into());
    let (entry, requested) = (init.entry, Rc::new(RefCell::new(Vec::new())));
    let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
    let head = ResponseHead::default();
    let mut app =
        Commanded { head, entry, source, is_interrupted: false, requested: Rc::clone(&requested) };
    let mut event_loop = EventLoop::new(init, &mut app).unwrap();
    let mut clients = Vec::new();
    for index in 0..count {
        clients.push(TcpStream::connect(address).unwrap());
        // A silent connection delays the next accept by more than one turn.
        while event_loop.clients.table.len() == index {
            event_loop.turn().unwrap();
        }
    }
    assert_eq!(event_loop.clients.table.len(), count);
    test(&mut event_loop, Stage { clients, requested, doorbell });
}

fn ask(mut client: &TcpStream, path: &str) {
    client.write_all(&request(path)).unwrap();
}

fn answer(mut client: &TcpStream) -> String {
    let mut bytes = [0; 1024];
    let count = client.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn a_quick_stop_begins_no_further_request_of_the_batch() {
    for source in [Source::Word(Command::Quick), Source::Interrupt] {
        with_clients(source, 5, |event_loop, stage| {
            stage.clients.iter().for_each(|client| ask(client, "/"));
            await_events(event_loop, 5);
            assert!(event_loop.turn().unwrap(), "nobody is being answered: {source:?}");
            assert_eq!(stage.requested.borrow().len(), 1, "{source:?}");
        });
    }
}

#[test]
fn a_quick_stop_finishes_the_reply_under_way_and_begins_no_other() {
    with_clients(Source::Word(Command::Quick), 3, |event_loop, mut stage| {
        ask(&stage.clients[0], "/large");
        assert!(!event_loop.turn().unwrap(), "a reply is on its way");
        ask(&stage.clients[1], "/");
        drop(stage.clients.pop());
        await_events(event_loop, 2);
        for _ in 0..3 {
            stage.doorbell.write(1).unwrap(); // So that the loop does not sleep.
            assert!(!event_loop.turn().unwrap(), "it is still on its way");
        }
        assert_eq!(*stage.requested.borrow(), ["/large"]);
        let ready = event_loop.poller.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(ready, 0, "what is not served does not wake the loop");
    });
}

#[test]
fn a_quick_stop_begins_no_pipelined_request() {
    with_clients(Source::Word(Command::Quick), 1, |event_loop, stage| {
        let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        (&stage.clients[0]).write_all(request.repeat(4).as_bytes()).unwrap();
        assert!(event_loop.turn().unwrap(), "the first one is answered");
        assert_eq!(stage.requested.borrow().len(), 1);
        assert!(answer(&stage.clients[0]).starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn clients_served_after_a_command_see_it_in_the_same_batch() {
    for command in [Command::LameDuck, Command::Drain] {
        with_clients(Source::Word(command), 3, |event_loop, stage| {
            stage.clients.iter().for_each(|client| ask(client, "/"));
            await_events(event_loop, 3);
            event_loop.turn().unwrap();
            let answers: Vec<_> = stage.clients.iter().map(answer).collect();
            let closing = answers.iter().filter(|it| it.contains("\r\nConnection: close\r\n"));
            assert_eq!((answers.len(), closing.count()), (3, 2), "{command:?}: {answers:?}");
        });
    }
}
