//! What clients send and see, and what is allowed to end.

use std::collections::BTreeSet;

use super::kernel::{Answer, Kernel, Piece, SocketId};

struct Request {
    client: usize,
    /// The parts that the client has not sent yet.
    unsent: u32,
    executions: u32,
}

#[derive(Default)]
struct Client {
    requests: Vec<usize>,
    answered: usize,
    last_answer_at: u64,
    has_finished: bool,
    has_seen_end: bool,
}

#[derive(Default)]
pub(super) struct Clients {
    /// By the number of the socket.
    clients: Vec<Client>,
    requests: Vec<Request>,
    /// Connections that may end although their clients have not ended them.
    may_end: BTreeSet<SocketId>,
    pub(super) counts: Counts,
}

/// How often things happened that should happen: a simulation in which they do not checks nothing.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) answers: u64,
    pub(super) bad_gateways: u64,
    pub(super) kills: u64,
    pub(super) drained: u64,
    pub(super) shared: u64,
    pub(super) shared_together: u64,
    pub(super) stalled: u64,
    pub(super) passed: u64,
    pub(super) abandoned: u64,
    pub(super) unshared: u64,
    pub(super) expired: u64,
    pub(super) released_after_death: u64,
    pub(super) looks: u64,
    pub(super) requested_looks: u64,
    pub(super) pinned: u64,
    pub(super) taken: u64,
}

impl Clients {
    pub(super) fn connect(&mut self, kernel: &mut Kernel, now: u64) {
        kernel.connect();
        self.clients.push(Client { last_answer_at: now, ..Client::default() });
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether the client may still send something.
    pub(super) fn is_open(&self, kernel: &Kernel, client: SocketId) -> bool {
        let state = &self.clients[client];
        !state.has_finished && !kernel.sockets[client].has_ended()
    }

    /// Sends the next part of a request, or the first one of the next request with so many parts.
    pub(super) fn send(&mut self, kernel: &mut Kernel, client: SocketId, parts: u32) {
        let state = &mut self.clients[client];
        let is_part = state.requests.last().is_some_and(|last| self.requests[*last].unsent > 0);
        if !is_part {
            state.requests.push(self.requests.len());
            self.requests.push(Request { client, unsent: parts, executions: 0 });
        }
        let request = *state.requests.last().expect("the client has a request");
        self.requests[request].unsent -= 1;
        kernel.arrive(client, Piece { request, is_last: self.requests[request].unsent == 0 });
    }

    pub(super) fn outstanding(&self, client: SocketId) -> usize {
        self.clients[client].requests.len() - self.clients[client].answered
    }

    pub(super) fn has_partial(&self, client: SocketId) -> bool {
        self.clients[client].requests.last().is_some_and(|last| self.requests[*last].unsent > 0)
    }

    pub(super) fn finish(&mut self, kernel: &mut Kernel, client: SocketId, does_reset: bool) {
        self.clients[client].has_finished = true;
        if does_reset { kernel.reset(client) } else { kernel.finish(client) }
    }

    /// The application gets a request.
    pub(super) fn execute(&mut self, request: usize, socket: SocketId) {
        let request = &mut self.requests[request];
        assert_eq!(request.client, socket, "a request is answered on another connection");
        request.executions += 1;
        assert_eq!(request.executions, 1, "a request is executed twice");
    }

    pub(super) fn allow_end(&mut self, socket: SocketId) {
        self.may_end.insert(socket);
    }

    /// Closing because of the idle timeout is allowed to a connection that was idle for that long.
    pub(super) fn expire(&mut self, socket: SocketId, since: u64) {
        // The client gets an answer one step after it was sent.
        assert!(
            self.clients[socket].last_answer_at <= since + 1,
            "an idle timeout hits a used connection"
        );
        self.allow_end(socket);
        self.counts.expired += 1;
    }

    /// Takes in what has reached the clients.
    pub(super) fn see(&mut self, kernel: &mut Kernel, now: u64) {
        for (client, state) in self.clients.iter_mut().enumerate() {
            let socket = &mut kernel.sockets[client];
            while let Some(answer) = socket.answers.pop_front() {
                assert!(state.answered < state.requests.len(), "nobody asked for {answer:?}");
                match answer {
                    Answer::Response { request } => {
                        assert_eq!(request, state.requests[state.answered], "another answer");
                        self.counts.answers += 1;
                    }
                    Answer::BadGateway => self.counts.bad_gateways += 1,
                }
                state.answered += 1;
                state.last_answer_at = now;
            }
            if socket.has_ended() && !state.has_seen_end {
                state.has_seen_end = true;
                let is_allowed = state.has_finished || self.may_end.contains(&client);
                assert!(is_allowed, "connection {client} ends without a reason");
            }
        }
    }

    /// Nothing happens any more: each client has its answers, or has seen the end. A worker that took a connection
    /// from the others and was killed leaves stale descriptors with them, so that it ends with their next sweep.
    pub(super) fn check_at_rest(&self, kernel: &Kernel, is_swept: bool) {
        for (client, state) in self.clients.iter().enumerate() {
            let ends_late = !is_swept && self.may_end.contains(&client);
            if kernel.sockets[client].has_ended() || ends_late {
                continue;
            }
            for request in state.requests.iter().map(|request| &self.requests[*request]) {
                assert_eq!(request.unsent, 0);
                assert_eq!(request.executions, 1, "client {client} waits for ever");
            }
            assert_eq!(state.answered, state.requests.len(), "client {client} gets no answer");
            assert!(!state.has_finished, "client {client} has finished and is not closed");
        }
    }
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        for (sum, part) in self.cells().into_iter().zip(other.clone().cells()) {
            *sum += *part;
        }
    }

    /// Everything has happened.
    pub(super) fn check(mut self) {
        let text = format!("{self:?}");
        assert!(self.cells().into_iter().all(|count| *count > 0), "{text}");
    }

    fn cells(&mut self) -> [&mut u64; 16] {
        [
            &mut self.answers,
            &mut self.bad_gateways,
            &mut self.kills,
            &mut self.drained,
            &mut self.shared,
            &mut self.shared_together,
            &mut self.stalled,
            &mut self.passed,
            &mut self.abandoned,
            &mut self.unshared,
            &mut self.expired,
            &mut self.released_after_death,
            &mut self.looks,
            &mut self.requested_looks,
            &mut self.pinned,
            &mut self.taken,
        ]
    }
}
