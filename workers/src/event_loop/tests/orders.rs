//! What the loop is told while it is in the middle of a batch.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Who gives the order.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The supervisor.
    Word(Command),
    /// A signal handler of the program around, that ran inside of the application.
    Interrupt,
}

/// Answers everything; the first request is what a new order comes in.
struct Ordered {
    head: ResponseHead,
    entry: &'static WorkerEntry,
    order: Order,
    is_interrupted: bool,
    asked: Rc<RefCell<Vec<String>>>,
}

impl Application for Ordered {
    type Body = Nothing;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Nothing>, AppError> {
        match self.order {
            Order::Word(command) => self.entry.set_command(command),
            Order::Interrupt => self.is_interrupted = true,
        }
        let path = String::from_utf8_lossy(request.head.path.of(request.head_bytes)).into_owned();
        let body = if path == "/large" { vec![b'x'; TOO_MUCH] } else { b"ok".to_vec() };
        self.asked.borrow_mut().push(path);
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

/// A loop whose first request brings this order, with so many connections that it knows already.
struct Stage {
    clients: Vec<TcpStream>,
    asked: Rc<RefCell<Vec<String>>>,
    doorbell: EventFd,
}

fn with_clients(order: Order, count: usize, test: impl FnOnce(&mut EventLoop<'_, Ordered>, Stage)) {
    let (_supervisor, control) = UnixStream::pair().unwrap();
    let (init, doorbell) = stage::init(control.into());
    let (entry, asked) = (init.entry, Rc::new(RefCell::new(Vec::new())));
    let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
    let head = ResponseHead::default();
    let mut app = Ordered { head, entry, order, is_interrupted: false, asked: Rc::clone(&asked) };
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
    test(&mut event_loop, Stage { clients, asked, doorbell });
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
    for order in [Order::Word(Command::Quick), Order::Interrupt] {
        with_clients(order, 5, |event_loop, stage| {
            stage.clients.iter().for_each(|client| ask(client, "/"));
            await_events(event_loop, 5);
            assert!(event_loop.turn().unwrap(), "nobody is being answered: {order:?}");
            assert_eq!(stage.asked.borrow().len(), 1, "{order:?}");
        });
    }
}

#[test]
fn a_quick_stop_finishes_the_reply_that_is_on_its_way_and_begins_no_other() {
    with_clients(Order::Word(Command::Quick), 3, |event_loop, mut stage| {
        ask(&stage.clients[0], "/large");
        assert!(!event_loop.turn().unwrap(), "a reply is on its way");
        ask(&stage.clients[1], "/");
        drop(stage.clients.pop());
        await_events(event_loop, 2);
        for _ in 0..3 {
            stage.doorbell.write(1).unwrap(); // So that it does not sleep.
            assert!(!event_loop.turn().unwrap(), "it is still on its way");
        }
        assert_eq!(*stage.asked.borrow(), ["/large"]);
        let ready = event_loop.poller.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(ready, 0, "what is not served does not wake the loop");
    });
}

#[test]
fn a_quick_stop_begins_no_request_that_lies_behind_the_running_one() {
    with_clients(Order::Word(Command::Quick), 1, |event_loop, stage| {
        let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        (&stage.clients[0]).write_all(request.repeat(4).as_bytes()).unwrap();
        assert!(event_loop.turn().unwrap(), "the first one is answered");
        assert_eq!(stage.asked.borrow().len(), 1);
        assert!(answer(&stage.clients[0]).starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn whoever_is_served_after_the_order_to_leave_is_told_so_in_the_same_batch() {
    for order in [Command::Announce, Command::Drain] {
        with_clients(Order::Word(order), 3, |event_loop, stage| {
            stage.clients.iter().for_each(|client| ask(client, "/"));
            await_events(event_loop, 3);
            event_loop.turn().unwrap();
            let answers: Vec<_> = stage.clients.iter().map(answer).collect();
            let closing = answers.iter().filter(|it| it.contains("\r\nConnection: close\r\n"));
            assert_eq!((answers.len(), closing.count()), (3, 2), "{order:?}: {answers:?}");
        });
    }
}
