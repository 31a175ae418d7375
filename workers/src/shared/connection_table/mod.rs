//! The table of connections that a group of workers shares, in shared memory.
//!
//! A kept connection belongs to no worker while it waits for a request. Each worker of the group has a descriptor of
//! it in its own epoll instance, and so has the supervisor, in none. Whoever gets its event claims its [`Place`],
//! serves the request, and releases the place. The descriptors are passed once for each connection; a request takes
//! one compare-and-swap, one store, and one look at the socket.
//!
//! | who | has | does |
//! |---|---|---|
//! | the worker that shares a connection | its descriptor | allocates a place, sends the descriptor to the supervisor, releases the place |
//! | the supervisor | a descriptor of every shared connection | passes it to the other workers and to each new one; takes over what a dead worker held |
//! | every worker of the group | a descriptor of every shared connection | claims and serves what its epoll instance reports |
//!
//! The descriptor of a place is worth something only together with its generation: whoever finds another generation in
//! the table closes its descriptor.
//!
//! # The order of the steps
//!
//! A process may be killed between any two steps, so their order is part of the protocol. `simulation` runs all of it,
//! and its list of faults has what happens in another order.
//!
//! | to | a worker does, in this order | because |
//! |---|---|---|
//! | share | [`ConnectionTable::allocate`]; write facts and time of use; send [`message::Kind::Offer`]; watch with EPOLLEXCLUSIVE instead of without; [`holdings::Holdings::lend_new`]; release | with the offer, another worker may serve the connection if this one dies, so its record is complete before; until it is watched, the claim keeps events away |
//! | share in vain (EAGAIN, ETOOMANYREFS, no place) | free the place; read until EAGAIN, if it is watched with EPOLLET | the connection is its own as before, and what has arrived meanwhile made no event |
//! | begin | claim; look (MSG_PEEK); advance to Reading; receive | a death in Claimed is harmless only if nothing was read; without the look, a death after an event that another worker has served would answer an idle client with 502 |
//! | wait for the rest of a request | watch without EPOLLEXCLUSIVE, still claimed | an exclusive event may go to a member that cannot claim the connection |
//! | answer | advance to Running; call; advance to Replying; send; write the time of use; advance to Claimed | the supervisor answers for the dead only in Reading and Running; in Claimed the connection counts as idle, with the time that the record has |
//! | release | watch with EPOLLEXCLUSIVE, if it was not; [`holdings::Holdings::put_back`]; release; look; if something has arrived, claim again at once, before any other event | whoever could not claim the connection relies on this look, and a request in between would keep the connection from workers that wait |
//! | look after a release | MSG_PEEK, never EPOLL_CTL_DEL and EPOLL_CTL_ADD | that makes an event for this worker alone, which may be busy before it comes to it, while others wait |
//! | close | [`holdings::Holdings::forget`]; free; shutdown(2); unwatch; close(2) | the others have duplicates, so that close(2) alone does not end the connection; they close theirs when the event of the shutdown finds the place free; if the worker dies before the shutdown, the client sees the end after their next sweep |
//! | take a connection back from the others | advance to Claimed; watch without EPOLLEXCLUSIVE; forget; free; read until EAGAIN | before it is free, a death leaves it to the others; whoever takes it back has to end it with shutdown(2), because the others may have stale duplicates |
//! | drop a stale descriptor | EPOLL_CTL_DEL; look; close(2); if there are bytes, send [`message::Kind::Look`] to the supervisor at once | close(2) leaves the item in epoll(7) as long as others have the socket, and the number may come again with the same socket (EEXIST); if the connection was taken back and shared again at another place, the stale item may have swallowed the exclusive event of the new one |
//! | enforce the idle timeout | claim; compare the time of use again; look; close, or serve | another worker may have served it since the first comparison |
//! | handle a turn | shared events before those of its own connections | the first event after a wait may have come to this worker alone, while the others can serve the connection |
//! | drain | share what is its own and idle; refuse Install and Look from now on; EPOLL_CTL_DEL, forget and close(2) for each shared one that it does not serve; send [`message::Kind::Leave`]; from time to time repeat what a full mailbox had no room for; look at each one that it still releases, then drop it as a stale one | the supervisor polls after the Leave, so that it finds what this worker alone was told of; what is not offered when the worker exits is closed |
//! | start | close all descriptors that were inherited from the supervisor, also in a zygote | the connection would not end with the others, and no table knows of them |
//!
//! | when | the supervisor does, in this order | because |
//! |---|---|---|
//! | a worker is ready | [`distribution::Distribution::join`] with everything that is held, in one step | an offer between the two would not reach it |
//! | a Leave comes | [`distribution::Distribution::leave`]; poll, and send Look to all other members | it would hold again what it gives up |
//! | an Offer comes | install; pass it on to the others; close what install gives back | |
//! | an Offer comes that it cannot hold (EMFILE, limit) | when its worker has ended: claim; free | nobody else has the connection, and no claim of the dead worker shows its place |
//! | a worker has ended | read its mailbox to the end; [`Place::take_over`] for all places; act by the table below; poll what it holds and is Idle; send Look to **all** members; only then give the number to a new worker | an offer that was not read would end with the worker; the poll sees a place only once it is Idle; one member may be busy; a new worker of that number would lose its places |
//! | a Look comes | poll, and send Look to all members as above | |
//! | a mailbox is full | keep what is unsent for that member until there is room, also what it has to look at | the messages in it may be about other connections |
//! | a message fails although there is room (ETOOMANYREFS) | try again with the next sweep | poll(2) reports room all the time |
//! | a mailbox ends, and its worker runs | as for a Leave; poll it no more | the application has closed the descriptor |
//! | now and then | [`holdings::Holdings::take_stale`], in the workers, too | a connection that was taken back by a worker that was killed ends only with the last stale descriptor |
//! | the last worker has sent Leave, and no other one starts | claim, shutdown(2), close(2), free what is Idle, then and with each sweep | nobody would serve it: the number of workers was reduced, or a reload has ended the sharing |
//! | an upgrade hands over | have all workers drain; only then claim what is Idle, send it to the successor, close(2), free; if the successor has no room, release, and look as above | a worker that waits would take the event of a connection that the successor has already |
//! | a connection comes from the predecessor | allocate; write facts and time of use; install; pass it on to all members; release | until then, nobody serves it |
//! | all workers have died | the same with what is idle for longer than the idle timeout | usually another worker starts, and serves them |
//!
//! | taken over in | with a descriptor | without (no Offer was sent) |
//! |---|---|---|
//! | Claimed | release | free |
//! | Reading, Running | 502, or 504 after a timeout; shutdown(2) of the sending direction; free; read until the client has ended, too, then shutdown(2) and close(2) | free |
//! | Replying | shutdown(2); close(2); free | free |
//!
//! Between the last byte of a response and the return to Claimed, a death ends a connection that its client considers
//! idle. No order avoids this: nobody else knows whether the response was complete.

mod atomics {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

pub mod distribution;
pub mod header;
pub mod holdings;
pub mod message;
pub mod place;
pub mod record;
#[cfg(test)]
mod simulation;
mod table;

pub use header::{GROUP_SIZE, MAX_MEMBERS};
pub use place::{Life, Member, NotClaimed, Place, PlaceGeneration};
pub use record::{FACT_BYTES, FactsTooLong, Record};
pub use table::{ConnectionTable, MAX_PLACES, PlaceKey};
