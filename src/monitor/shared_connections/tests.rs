use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use arctos_worker::shared::connection_table::FACT_BYTES;

use super::*;
use crate::monitor::victims::WorkerEnd;

const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A group, and its workers' side: what they have in their mailboxes, by number.
struct Rig {
    shared: SharedConnections,
    workers: Vec<Worker>,
}

struct Worker {
    entry: &'static WorkerEntry,
    number: u8,
    mailbox: OwnedFd,
}

/// A message that a worker has received.
type Received = (Kind, Vec<PlaceKey>, Vec<OwnedFd>);

impl Rig {
    /// A group whose workers are ready.
    fn new(workers: u16) -> Self {
        let shared = SharedConnections::new(workers, Instant::now()).unwrap();
        let mut rig = Self { shared, workers: Vec::new() };
        for slot in 0..workers {
            rig.start(slot);
        }
        rig.turn();
        rig
    }

    fn start(&mut self, slot: u16) {
        let entry = WorkerEntry::detached();
        let group = self.shared.open(SlotId(slot), Side::A, entry).unwrap().unwrap();
        entry.set_ready();
        self.workers.push(Worker { entry, number: group.number, mailbox: group.mailbox });
    }

    fn group(&mut self) -> &mut Group {
        &mut self.shared.groups[0]
    }

    /// The flags that the loop asks poll(2) for, by mailbox.
    fn polled(&self) -> Vec<PollFlags> {
        let mut fds = Vec::new();
        self.shared.poll(&mut fds);
        fds.iter().map(PollFd::events).collect()
    }

    /// One round of the loop: everything that poll(2) reports is handled.
    fn turn(&mut self) {
        let ready_fds = {
            let mut fds = Vec::new();
            self.shared.poll(&mut fds);
            poll(&mut fds, PollTimeout::ZERO).unwrap();
            let ready = fds.iter().filter(|fd| fd.any() == Some(true));
            ready.map(|fd| fd.as_fd().as_raw_fd()).collect::<Vec<_>>()
        };
        self.group().turn(&ready_fds);
    }

    /// Shares an idle connection, and returns its key and its client.
    fn share(&mut self, by: usize) -> (PlaceKey, UnixStream) {
        let (client, socket) = UnixStream::pair().unwrap();
        (self.offer(by, &[socket.as_raw_fd()]), client)
    }

    fn offer(&mut self, by: usize, sockets: &[RawFd]) -> PlaceKey {
        let table = self.group().table;
        let worker = &self.workers[by];
        let key = table.allocate(Member::worker(worker.number).unwrap(), 0).unwrap();
        let offer = message::encode(Kind::Offer, &[key]);
        fd::send_datagram(worker.mailbox.as_fd(), &offer, sockets).unwrap();
        let record = table.record(key.index).unwrap();
        record.set_used_at(clock::monotonic().unwrap());
        record.place.release(key.generation);
        key
    }

    fn leave(&mut self, by: usize) {
        let leave = message::encode(Kind::Leave, &[]);
        fd::send_datagram(self.workers[by].mailbox.as_fd(), &leave, &[]).unwrap();
        self.turn();
    }

    /// Reaps a worker. Its mailbox has ended.
    fn reap(&mut self, worker: usize) {
        let Worker { entry, mailbox, .. } = self.workers.remove(worker);
        drop(mailbox);
        let mut dead = DeadWorker::new(entry, WorkerEnd::Died);
        self.shared.end_member(&mut dead, &mut Victims::default(), Instant::now());
    }

    /// All that has arrived for a worker.
    fn received(&self, worker: usize) -> Vec<Received> {
        let mailbox = self.workers[worker].mailbox.as_fd();
        std::iter::from_fn(|| {
            let (mut bytes, mut sockets) = ([0; MESSAGE_BYTES], Vec::new());
            let Datagram::Received(len) = fd::receive_datagram(mailbox, &mut bytes, &mut sockets)
            else {
                return None;
            };
            let (kind, keys) = message::decode(&bytes[..len]).unwrap();
            Some((kind, keys.collect(), sockets))
        })
        .collect()
    }

    fn kinds(&self, worker: usize) -> Vec<(Kind, Vec<PlaceKey>)> {
        self.received(worker).into_iter().map(|(kind, keys, _)| (kind, keys)).collect()
    }
}

fn has_ended(client: &mut UnixStream) -> bool {
    client.set_nonblocking(true).unwrap();
    matches!(client.read(&mut [0]), Ok(0))
}

#[test]
fn an_offered_connection_goes_to_the_other_workers_and_to_later_ones() {
    let mut rig = Rig::new(2);
    let (key, mut client) = rig.share(0);
    rig.turn();
    assert_eq!(rig.kinds(0), []);
    let [(Kind::Install, keys, sockets)] = &rig.received(1)[..] else { panic!("not installed") };
    assert_eq!((keys, sockets.len()), (&vec![key], 1));
    client.write_all(b"x").unwrap();
    assert_eq!(fd::peek(sockets[0].as_fd(), &mut [0]), fd::Io::Bytes(1));
    rig.start(2);
    rig.turn();
    assert_eq!(rig.kinds(2), [(Kind::Install, vec![key])]);
    assert_eq!(rig.shared.idle_count(), 1);
}

#[test]
fn a_worker_is_told_of_connections_only_once_it_is_ready() {
    let mut rig = Rig::new(1);
    let (key, _client) = rig.share(0);
    let entry = WorkerEntry::detached();
    let group = rig.shared.open(SlotId(1), Side::B, entry).unwrap().unwrap();
    rig.workers.push(Worker { entry, number: group.number, mailbox: group.mailbox });
    rig.turn();
    assert_eq!(rig.kinds(1), []);
    entry.set_ready();
    rig.turn();
    assert_eq!(rig.kinds(1), [(Kind::Install, vec![key])]);
}

#[test]
fn a_mailbox_that_has_ended_does_not_wake_the_loop_again() {
    let mut rig = Rig::new(2);
    let (key, mut client) = rig.share(0);
    client.write_all(b"x").unwrap();
    rig.workers.remove(0);
    rig.turn();
    assert_eq!(rig.polled(), [PollFlags::POLLIN]);
    let expected = [(Kind::Install, vec![key]), (Kind::Look, vec![key])];
    let mut received = rig.kinds(0);
    received.sort_by_key(|(kind, _)| *kind as u8);
    assert_eq!(received, expected, "the worker may have taken the event");
}

#[test]
fn a_full_mailbox_is_filled_up_again_as_soon_as_there_is_room() {
    let mut rig = Rig::new(2);
    let clients: Vec<_> = (0..5).map(|_| rig.share(0)).collect();
    let mailbox = rig.group().members[2].as_ref().unwrap().mailbox.try_clone().unwrap();
    while fd::send_datagram(mailbox.as_fd(), b"?", &[]).is_ok() {}
    rig.turn();
    let both = PollFlags::POLLIN | PollFlags::POLLOUT;
    assert_eq!(rig.polled(), [PollFlags::POLLIN, both]);
    let full = rig.workers[1].mailbox.as_fd();
    while matches!(fd::receive_datagram(full, &mut [0], &mut vec![]), Datagram::Received(_)) {}
    rig.turn();
    assert_eq!(rig.kinds(1), [(Kind::Install, clients.iter().map(|(key, _)| *key).collect())]);
    assert_eq!(rig.polled(), [PollFlags::POLLIN; 2]);
}

#[test]
fn a_message_that_fails_although_there_is_room_waits_for_the_next_sweep() {
    let mut rig = Rig::new(2);
    rig.share(0);
    // Any error but EAGAIN will do: here the worker does not receive any more.
    let mailbox = rig.workers[1].mailbox.as_raw_fd();
    nix::sys::socket::shutdown(mailbox, nix::sys::socket::Shutdown::Read).unwrap();
    rig.group().read(0);
    rig.group().distribute();
    assert!(rig.group().distribution.has_unsent(2));
    assert_eq!(rig.polled(), [PollFlags::POLLIN; 2]);
    rig.group().members[2].as_mut().unwrap().is_stalled = true;
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(rig.group().members[2].as_ref().unwrap().is_stalled, "it was tried again");
}

#[test]
fn a_connection_that_this_process_cannot_hold_leaves_no_place_behind() {
    let mut rig = Rig::new(2);
    rig.offer(0, &[]); // its descriptor was left out (MSG_CTRUNC)
    rig.turn();
    rig.group().sweep(KEEP_ALIVE, false);
    assert_eq!(rig.group().table.len(), 1, "its worker serves it");
    rig.reap(0);
    assert!(rig.group().table.is_empty());
}

#[test]
fn idle_connections_wait_for_the_next_worker_if_all_have_died() {
    let mut rig = Rig::new(2);
    let (key, mut client) = rig.share(0);
    rig.turn();
    // The mailboxes end a moment before the workers are reaped.
    rig.group().leave(0, MemberProgress::Lost);
    rig.group().leave(2, MemberProgress::Lost);
    rig.group().sweep(KEEP_ALIVE, false);
    rig.reap(0);
    rig.reap(0);
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(!has_ended(&mut client));
    rig.start(0);
    rig.turn();
    assert_eq!(rig.kinds(0), [(Kind::Install, vec![key])]);
}

#[test]
fn idle_connections_without_any_worker_end_after_their_time() {
    let mut rig = Rig::new(1);
    let (_, mut client) = rig.share(0);
    rig.turn();
    rig.reap(0);
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(!has_ended(&mut client));
    rig.group().sweep(Duration::ZERO, false);
    assert!(has_ended(&mut client) && rig.group().table.is_empty() && rig.group().held.is_empty());
}

#[test]
fn idle_connections_end_with_the_last_worker_that_leaves() {
    let mut rig = Rig::new(2);
    let (_, mut first) = rig.share(0);
    rig.turn();
    rig.leave(0);
    rig.reap(0);
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(!has_ended(&mut first), "the other worker serves it");
    rig.leave(0);
    let (_, mut late) = rig.share(0); // released after the Leave
    rig.turn();
    rig.workers.clear(); // it exits
    rig.turn();
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(has_ended(&mut first) && has_ended(&mut late));
    assert!(rig.group().table.is_empty() && rig.group().held.is_empty());
}

#[test]
fn idle_connections_outlive_the_last_worker_if_its_replacement_boots() {
    let mut rig = Rig::new(1);
    let (_, mut client) = rig.share(0);
    rig.turn();
    let group = rig.shared.open(SlotId(0), Side::B, WorkerEntry::detached()).unwrap();
    rig.leave(0);
    rig.reap(0);
    rig.group().sweep(KEEP_ALIVE, false);
    assert!(!has_ended(&mut client));
    drop(group);
}

#[test]
fn a_dead_worker_gives_back_what_it_had_claimed() {
    let mut rig = Rig::new(2);
    let (key, _client) = rig.share(0);
    rig.turn();
    let table = rig.group().table;
    let place = &table.record(key.index).unwrap().place;
    place.claim(key.generation, Member::worker(0).unwrap()).unwrap();
    rig.reap(0);
    assert_eq!(place.read(), (key.generation, Life::Idle));
    // A connection that it was about to share has no descriptor yet.
    table.allocate(Member::worker(2).unwrap(), 7).unwrap();
    rig.reap(0);
    assert_eq!((table.len(), rig.shared.idle_count()), (1, 1));
}

#[test]
fn bytes_that_came_for_a_dead_worker_are_looked_at_by_the_others() {
    let mut rig = Rig::new(2);
    let ((with_bytes, mut client), _silent) = (rig.share(0), rig.share(0));
    rig.turn();
    rig.received(1);
    client.write_all(b"x").unwrap();
    rig.reap(0);
    assert_eq!(rig.kinds(0), [(Kind::Look, vec![with_bytes])]);
}

#[test]
fn connections_go_to_a_successor_only_in_a_later_round() {
    let mut rig = Rig::new(1);
    let (key, _client) = rig.share(0);
    rig.turn();
    let round = Instant::now();
    let _successor = rig.shared.begin_to_pass().unwrap();
    rig.shared.pass_if_due(round);
    assert!(rig.group().table.has(key), "its worker does not know yet that it drains");
    rig.shared.pass_if_due(round + KEEP_ALIVE);
    assert!(!rig.group().table.has(key));
}

#[test]
fn what_was_offered_before_a_look_is_looked_at() {
    let mut rig = Rig::new(3);
    let (client, socket) = UnixStream::pair().unwrap();
    let keys: Vec<PlaceKey> =
        (0..2 * MESSAGES).map(|_| rig.offer(2, &[socket.as_raw_fd()])).collect();
    (&client).write_all(b"x").unwrap();
    let look = message::encode(Kind::Look, &[]);
    fd::send_datagram(rig.workers[0].mailbox.as_fd(), &look, &[]).unwrap();
    rig.turn();
    let looked = rig.received(1).into_iter().filter(|(kind, ..)| *kind == Kind::Look);
    assert_eq!(looked.map(|(_, keys, _)| keys.len()).sum::<usize>(), keys.len());
}

#[test]
fn what_no_worker_of_this_build_sends_changes_nothing() {
    let mut rig = Rig::new(2);
    let (client, socket) = UnixStream::pair().unwrap();
    let beyond = PlaceKey { index: u32::MAX, generation: 0 };
    for (kind, key) in [
        (Kind::Offer, beyond),
        (Kind::Offer, PlaceKey { index: 3, generation: 9 }),
        (Kind::Install, beyond),
        (Kind::Look, beyond),
    ] {
        let message = message::encode(kind, &[key]);
        fd::send_datagram(rig.workers[0].mailbox.as_fd(), &message, &[socket.as_raw_fd()]).unwrap();
    }
    fd::send_datagram(rig.workers[0].mailbox.as_fd(), b"?", &[socket.as_raw_fd()]).unwrap();
    rig.turn();
    drop(socket);
    let mut client = client;
    assert!(has_ended(&mut client), "every descriptor is closed");
    assert!(rig.group().held.is_empty());
    assert_eq!(rig.kinds(1), []);
}

#[test]
fn slots_beyond_the_size_of_a_group_share_nothing() {
    let mut shared = SharedConnections::new(1, Instant::now()).unwrap();
    let mut is_member =
        |slot| shared.open(SlotId(slot), Side::B, WorkerEntry::detached()).unwrap().is_some();
    assert!(is_member(u16::from(GROUP_SIZE) - 1));
    assert!(!is_member(u16::from(GROUP_SIZE)));
    assert!(!is_member(u16::MAX));
}

/// Has the second server take over from the first one.
fn succeed(old: &mut Rig, new: &mut Rig) {
    let socket = old.shared.begin_to_pass().unwrap();
    new.shared.begin_to_receive(socket);
}

#[test]
fn idle_connections_go_to_the_successor_with_what_is_known_of_them() {
    let (mut old, mut new) = (Rig::new(2), Rig::new(2));
    let (busy, _busy_client) = old.share(0);
    let (idle, mut client) = old.share(1);
    old.turn();
    let of = |rig: &mut Rig, key: PlaceKey| rig.group().table.record(key.index).unwrap();
    of(&mut old, idle).set_facts(&[3; 30]).unwrap();
    let used_at = of(&mut old, idle).used_at();
    of(&mut old, busy).place.claim(busy.generation, Member::worker(0).unwrap()).unwrap();
    client.write_all(b"x").unwrap();
    succeed(&mut old, &mut new);
    old.shared.pass();
    new.shared.receive();
    new.turn();
    assert_eq!((old.group().table.len(), old.group().held.len()), (1, 1), "the busy one stays");
    for worker in 0..2 {
        let [(Kind::Install, keys, sockets)] = &new.received(worker)[..] else { panic!("nothing") };
        assert_eq!(fd::peek(sockets[0].as_fd(), &mut [0]), fd::Io::Bytes(1));
        let record = of(&mut new, keys[0]);
        assert_eq!(record.place.read().1, Life::Idle);
        assert_eq!(record.used_at(), used_at);
        assert_eq!(record.facts(&mut [0; FACT_BYTES]), 30);
    }
    of(&mut old, busy).place.release(busy.generation);
    old.shared.pass_last();
    new.shared.receive();
    assert_eq!((old.group().table.len(), new.group().table.len()), (0, 2));
}

#[test]
fn idle_connections_end_if_the_successor_shares_none() {
    let (mut old, mut new) = (Rig::new(1), Rig::new(0));
    let (_, mut client) = old.share(0);
    old.turn();
    succeed(&mut old, &mut new);
    old.shared.pass();
    new.shared.receive();
    assert!(has_ended(&mut client));
    assert!(old.group().table.is_empty() && new.group().table.is_empty());
}

#[test]
fn idle_connections_end_if_the_successor_is_gone() {
    let (mut old, mut new) = (Rig::new(1), Rig::new(1));
    let (_, mut client) = old.share(0);
    old.turn();
    succeed(&mut old, &mut new);
    drop(new);
    old.shared.pass();
    assert!(has_ended(&mut client));
    assert!(old.group().table.is_empty());
}

#[test]
fn a_successor_without_room_gets_the_rest_later() {
    const COUNT: usize = 1000; // more than the socket takes
    let (mut old, mut new) = (Rig::new(1), Rig::new(1));
    let (_client, socket) = UnixStream::pair().unwrap();
    for _ in 0..COUNT {
        old.offer(0, &[socket.as_raw_fd()]);
        old.turn();
    }
    succeed(&mut old, &mut new);
    old.shared.pass();
    let left = old.shared.idle_count() as usize;
    assert!((1..COUNT).contains(&left), "{left}");
    while new.group().held.len() < COUNT {
        new.shared.receive();
        old.shared.pass();
    }
    assert_eq!(old.shared.idle_count(), 0);
}
