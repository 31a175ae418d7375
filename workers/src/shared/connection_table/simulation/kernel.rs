//! The kernel: sockets, descriptors, epoll instances and mailboxes.
//!
//! | what | modeled after |
//! |---|---|
//! | a descriptor | its number is the lowest free one of the process; the socket is closed with its last descriptor, including those in messages |
//! | an item of epoll(7) | belongs to socket and number, and survives close(2) as long as the socket does |
//! | bytes | wake all common watchers, and of the exclusive ones those that do not wait, up to the first that waits (`__wake_up_common`, `ep_poll_callback`) |
//! | the end of a stream, shutdown(2) | wake all watchers |
//! | EPOLL_CTL_ADD | reports at once what is ready |
//! | epoll_wait(2) | takes the whole ready list, and reports of it what is still ready |
//! | a mailbox | has room for a few messages; sending descriptors fails at random with ETOOMANYREFS |

use std::collections::{BTreeMap, VecDeque};

use super::super::PlaceKey;

pub(super) type Fd = u32;
pub(super) type SocketId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pid(pub(super) u32);

pub(super) const SUPERVISOR: Pid = Pid(0);
/// The supervisor that a supervisor starts in an upgrade.
pub(super) const SUCCESSOR: Pid = Pid(1);

/// What an item of epoll(7) tells the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Shared(PlaceKey),
    /// A connection that only this process watches, or whose request it reads.
    Own(Fd),
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) request: usize,
    pub(super) is_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Response { request: usize },
    BadGateway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peek {
    Nothing,
    Bytes,
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Pieces(Vec<Piece>),
    Blocked,
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// EAGAIN: poll(2) says when there is room.
    Full,
    /// ETOOMANYREFS: poll(2) says all the time that there is room.
    TooManyRefs,
}

#[derive(Default)]
pub(super) struct Socket {
    arrived: VecDeque<Piece>,
    pub(super) answers: VecDeque<Answer>,
    pub(super) has_fin: bool,
    pub(super) has_reset: bool,
    is_shut: bool,
    references: usize,
    /// The wait queue: common watchers first.
    watchers: VecDeque<(Pid, Fd)>,
}

impl Socket {
    /// Whether the client sees the end of the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.is_shut || self.has_reset || self.references == 0
    }

    pub(super) fn references(&self) -> usize {
        self.references
    }

    pub(super) fn peek(&self) -> Peek {
        if !self.arrived.is_empty() {
            Peek::Bytes
        } else if self.has_fin || self.has_reset || self.is_shut {
            Peek::End
        } else {
            Peek::Nothing
        }
    }
}

struct Item {
    token: Token,
    is_exclusive: bool,
}

#[derive(Default)]
struct Process {
    descriptors: BTreeMap<Fd, SocketId>,
    items: BTreeMap<(SocketId, Fd), Item>,
    ready: VecDeque<(SocketId, Fd)>,
    is_waiting: bool,
}

#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    sockets: Vec<SocketId>,
}

/// One direction of a socket pair between the supervisor and a worker.
#[derive(Default)]
struct Mailbox {
    messages: VecDeque<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    ToWorker,
    ToSupervisor,
}

pub(super) struct Kernel {
    pub(super) sockets: Vec<Socket>,
    pub(super) backlog: VecDeque<SocketId>,
    processes: BTreeMap<Pid, Process>,
    mailboxes: BTreeMap<(Pid, Direction), Mailbox>,
    mailbox_room: usize,
    /// Who has the other end of the mailboxes of a process.
    parents: BTreeMap<Pid, Pid>,
}

impl Kernel {
    pub(super) fn new(mailbox_room: usize) -> Self {
        Self {
            sockets: Vec::new(),
            backlog: VecDeque::new(),
            processes: [SUPERVISOR, SUCCESSOR].map(|pid| (pid, Process::default())).into(),
            mailboxes: [((SUCCESSOR, Direction::ToWorker), Mailbox::default())].into(),
            mailbox_room,
            parents: [(SUCCESSOR, SUPERVISOR)].into(),
        }
    }

    // --- Clients ---

    pub(super) fn connect(&mut self) -> SocketId {
        let id = self.sockets.len();
        self.sockets.push(Socket { references: 1, ..Socket::default() });
        self.backlog.push_back(id);
        for process in self.processes.values_mut() {
            process.is_waiting = false;
        }
        id
    }

    pub(super) fn arrive(&mut self, socket: SocketId, piece: Piece) {
        self.sockets[socket].arrived.push_back(piece);
        self.wake(socket, false);
    }

    pub(super) fn finish(&mut self, socket: SocketId) {
        self.sockets[socket].has_fin = true;
        self.wake(socket, true);
    }

    pub(super) fn reset(&mut self, socket: SocketId) {
        self.sockets[socket].has_reset = true;
        self.sockets[socket].arrived.clear();
        self.wake(socket, true);
    }

    /// A connection that nobody has accepted ends with the listener.
    pub(super) fn close_listener(&mut self) {
        for socket in std::mem::take(&mut self.backlog) {
            self.unreference(socket);
        }
    }

    // --- Processes and descriptors ---

    /// The child has duplicates of all descriptors, and a mailbox.
    pub(super) fn fork(&mut self, parent: Pid, child: Pid) {
        let descriptors = self.processes[&parent].descriptors.clone();
        for socket in descriptors.values() {
            self.sockets[*socket].references += 1;
        }
        self.processes.insert(child, Process { descriptors, ..Process::default() });
        self.parents.insert(child, parent);
        for direction in [Direction::ToWorker, Direction::ToSupervisor] {
            self.mailboxes.insert((child, direction), Mailbox::default());
        }
    }

    /// What the process has sent to the supervisor stays readable.
    pub(super) fn exit(&mut self, pid: Pid) {
        let process = self.processes.remove(&pid).expect("the process exists");
        for socket in &mut self.sockets {
            socket.watchers.retain(|(watcher, _)| *watcher != pid);
        }
        for socket in process.descriptors.into_values() {
            self.unreference(socket);
        }
        self.drop_mailbox(pid, Direction::ToWorker);
    }

    pub(super) fn drop_mailbox(&mut self, pid: Pid, direction: Direction) {
        let mailbox = self.mailboxes.remove(&(pid, direction)).expect("the mailbox exists");
        for socket in mailbox.messages.into_iter().flat_map(|message| message.sockets) {
            self.unreference(socket);
        }
    }

    pub(super) fn accept(&mut self, pid: Pid) -> Option<Fd> {
        let socket = self.backlog.pop_front()?;
        Some(self.open(pid, socket))
    }

    pub(super) fn close(&mut self, pid: Pid, fd: Fd) {
        let socket = self.process(pid).descriptors.remove(&fd).expect("the descriptor is open");
        self.unreference(socket);
    }

    pub(super) fn socket_of(&self, pid: Pid, fd: Fd) -> SocketId {
        self.processes[&pid].descriptors[&fd]
    }

    pub(super) fn descriptors(&self, pid: Pid) -> Vec<Fd> {
        self.processes[&pid].descriptors.keys().copied().collect()
    }

    pub(super) fn items(&self, pid: Pid) -> Vec<Fd> {
        let mut fds: Vec<_> = self.processes[&pid].items.keys().map(|(_, fd)| *fd).collect();
        fds.sort_unstable();
        fds
    }

    fn open(&mut self, pid: Pid, socket: SocketId) -> Fd {
        let descriptors = &mut self.process(pid).descriptors;
        let fd = (0..).find(|fd| !descriptors.contains_key(fd)).expect("a free number");
        descriptors.insert(fd, socket);
        fd
    }

    fn unreference(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id];
        socket.references -= 1;
        if socket.references == 0 {
            socket.watchers.clear();
            for process in self.processes.values_mut() {
                process.items.retain(|(socket, _), _| *socket != id);
                process.ready.retain(|(socket, _)| *socket != id);
            }
        }
    }

    fn process(&mut self, pid: Pid) -> &mut Process {
        self.processes.get_mut(&pid).expect("the process exists")
    }

    // --- Sockets ---

    pub(super) fn peek(&self, pid: Pid, fd: Fd) -> Peek {
        self.sockets[self.socket_of(pid, fd)].peek()
    }

    pub(super) fn receive(&mut self, pid: Pid, fd: Fd, count: usize) -> Received {
        let id = self.socket_of(pid, fd);
        let socket = &mut self.sockets[id];
        match socket.peek() {
            Peek::Nothing => Received::Blocked,
            Peek::End => Received::End,
            Peek::Bytes => {
                let count = count.min(socket.arrived.len());
                Received::Pieces(socket.arrived.drain(..count).collect())
            }
        }
    }

    /// What nobody can read any more is lost.
    pub(super) fn send(&mut self, pid: Pid, fd: Fd, answer: Answer) {
        let id = self.socket_of(pid, fd);
        let socket = &mut self.sockets[id];
        if !socket.is_shut && !socket.has_reset {
            socket.answers.push_back(answer);
        }
    }

    pub(super) fn shutdown(&mut self, pid: Pid, fd: Fd) {
        let socket = self.socket_of(pid, fd);
        self.sockets[socket].is_shut = true;
        self.wake(socket, true);
    }

    // --- epoll(7) ---

    fn wake(&mut self, socket: SocketId, is_for_all: bool) {
        for (pid, fd) in self.sockets[socket].watchers.clone() {
            let process = self.process(pid);
            let is_exclusive = process.items[&(socket, fd)].is_exclusive;
            if !process.ready.contains(&(socket, fd)) {
                process.ready.push_back((socket, fd));
            }
            let did_wake = std::mem::take(&mut process.is_waiting);
            if is_exclusive && did_wake && !is_for_all {
                return;
            }
        }
    }

    pub(super) fn watch(&mut self, pid: Pid, fd: Fd, token: Token, is_exclusive: bool) {
        let socket = self.socket_of(pid, fd);
        let before = self.process(pid).items.insert((socket, fd), Item { token, is_exclusive });
        assert!(before.is_none(), "EEXIST: {token:?}");
        let watchers = &mut self.sockets[socket].watchers;
        if is_exclusive {
            watchers.push_back((pid, fd));
        } else {
            watchers.push_front((pid, fd));
        }
        if self.sockets[socket].peek() != Peek::Nothing {
            self.process(pid).ready.push_back((socket, fd));
        }
    }

    pub(super) fn unwatch(&mut self, pid: Pid, fd: Fd) {
        let socket = self.socket_of(pid, fd);
        self.sockets[socket].watchers.retain(|watcher| *watcher != (pid, fd));
        let process = self.process(pid);
        process.items.remove(&(socket, fd));
        process.ready.retain(|ready| *ready != (socket, fd));
    }

    /// Without events the process waits from now on, unless it has messages.
    pub(super) fn wait(&mut self, pid: Pid) -> Vec<Token> {
        let ready = std::mem::take(&mut self.process(pid).ready);
        let is_ready = |(socket, _): &(SocketId, Fd)| self.sockets[*socket].peek() != Peek::Nothing;
        let ready: Vec<_> = ready.into_iter().filter(is_ready).collect();
        let has_mail = self.has_mail(pid, Direction::ToWorker);
        let process = self.process(pid);
        process.is_waiting = ready.is_empty() && !has_mail;
        ready.into_iter().map(|item| process.items[&item].token).collect()
    }

    pub(super) fn is_waiting(&self, pid: Pid) -> bool {
        self.processes[&pid].is_waiting
    }

    /// Something else than a descriptor has woken the process: a signal, or a timer.
    pub(super) fn interrupt(&mut self, pid: Pid) {
        self.process(pid).is_waiting = false;
    }

    // --- Mailboxes ---

    pub(super) fn has_mail(&self, worker: Pid, direction: Direction) -> bool {
        self.mailboxes.get(&(worker, direction)).is_some_and(|it| !it.messages.is_empty())
    }

    pub(super) fn has_room(&self, worker: Pid, direction: Direction) -> bool {
        self.mailboxes[&(worker, direction)].messages.len() < self.mailbox_room
    }

    /// EAGAIN if the mailbox is full.
    pub(super) fn post(
        &mut self,
        worker: Pid,
        direction: Direction,
        bytes: Vec<u8>,
        fds: &[Fd],
    ) -> Result<(), NotSent> {
        if !self.has_room(worker, direction) {
            return Err(NotSent::Full);
        }
        let is_down = direction == Direction::ToWorker;
        let sender = if is_down { self.parents[&worker] } else { worker };
        let sockets: Vec<_> = fds.iter().map(|fd| self.socket_of(sender, *fd)).collect();
        for socket in &sockets {
            self.sockets[*socket].references += 1;
        }
        let mailbox = self.mailboxes.get_mut(&(worker, direction)).expect("the mailbox exists");
        mailbox.messages.push_back(Message { bytes, sockets });
        if is_down {
            self.process(worker).is_waiting = false;
        }
        Ok(())
    }

    pub(super) fn read_mail(
        &mut self,
        worker: Pid,
        direction: Direction,
    ) -> Option<(Vec<u8>, Vec<Fd>)> {
        let mailbox = self.mailboxes.get_mut(&(worker, direction))?;
        let parent = self.parents[&worker];
        let Message { bytes, sockets } = mailbox.messages.pop_front()?;
        let reader = if direction == Direction::ToWorker { worker } else { parent };
        let fds = sockets.into_iter().map(|socket| self.open(reader, socket)).collect();
        Some((bytes, fds))
    }
}
