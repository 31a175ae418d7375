//! What the supervisor and a zygote write to each other: one message a packet of their socket, numbers
//! in native order, for both are the same program.
//!
//! What does not decode is `None`: it came from somebody else who has the descriptor.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker_init::{Owner, WorkerExit};
use nix::errno::Errno;

use crate::system::pid::Pid;

/// No message is longer.
pub(super) const MESSAGE_BYTES: usize = 64 * 1024;
/// The longest report that is sent; the rest is cut.
const REPORT_BYTES: usize = MESSAGE_BYTES - 8;
/// Most names of a list that are sent.
const NAMES: usize = 64;

/// Start a worker. The descriptors come beside it, in this order: life, doorbell, access log if there is
/// one, listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Brief {
    /// What the answer names.
    pub(super) number: u32,
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) has_access_log: bool,
    pub(super) listeners: Vec<(SocketName, Owner)>,
}

impl Brief {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.number.to_ne_bytes());
        out.extend(self.slot.0.to_ne_bytes());
        out.push(match self.side {
            Side::A => b'A',
            Side::B => b'B',
        });
        out.push(u8::from(self.has_access_log));
        for (name, owner) in &self.listeners {
            out.push(match owner {
                Owner::Supervisor => b's',
                Owner::Slot => b'p',
                Owner::Outside => b'o',
            });
            push_name(&mut out, name);
        }
        out
    }

    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let mut rest = message;
        let number = u32::from_ne_bytes(take(&mut rest)?);
        let slot = SlotId(u16::from_ne_bytes(take(&mut rest)?));
        let side = match take(&mut rest)? {
            [b'A'] => Side::A,
            [b'B'] => Side::B,
            _ => return None,
        };
        let has_access_log = take(&mut rest)? == [1];
        let mut listeners = Vec::new();
        while !rest.is_empty() {
            let owner = match take(&mut rest)? {
                [b's'] => Owner::Supervisor,
                [b'p'] => Owner::Slot,
                [b'o'] => Owner::Outside,
                _ => return None,
            };
            listeners.push((take_name(&mut rest)?, owner));
        }
        Some(Self { number, slot, side, has_access_log, listeners })
    }

    /// How many descriptors come with it.
    pub(super) fn descriptor_count(&self) -> usize {
        2 + usize::from(self.has_access_log) + self.listeners.len()
    }
}

/// What a zygote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The application is loaded, and has left these behind.
    Ready { threads: Vec<String>, sockets: Vec<String> },
    /// It cannot be loaded: this is the end.
    Failed { exit: WorkerExit, report: String },
    /// The worker of this order.
    Started { number: u32, pid: Pid },
    /// There is no worker for this order.
    NotStarted { number: u32, error: Errno },
}

impl Word {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Ready { threads, sockets } => {
                out.push(b'R');
                push_list(&mut out, threads);
                push_list(&mut out, sockets);
            }
            Self::Failed { exit, report } => {
                out.push(b'F');
                out.extend(exit.code().to_ne_bytes());
                out.extend(cut(report, REPORT_BYTES).as_bytes());
            }
            Self::Started { number, pid } => {
                out.push(b'S');
                out.extend(number.to_ne_bytes());
                out.extend(pid.0.to_ne_bytes());
            }
            Self::NotStarted { number, error } => {
                out.push(b'N');
                out.extend(number.to_ne_bytes());
                out.extend((*error as i32).to_ne_bytes());
            }
        }
        out
    }

    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let mut rest = message;
        let word = match take(&mut rest)? {
            [b'R'] => {
                Self::Ready { threads: take_list(&mut rest)?, sockets: take_list(&mut rest)? }
            }
            [b'F'] => {
                let exit = match i32::from_ne_bytes(take(&mut rest)?) {
                    4 => WorkerExit::NotImportable,
                    70 => WorkerExit::Internal,
                    _ => WorkerExit::NotBooted,
                };
                let report = String::from_utf8_lossy(rest).into_owned();
                return Some(Self::Failed { exit, report });
            }
            [b'S'] => {
                let number = u32::from_ne_bytes(take(&mut rest)?);
                let pid = Pid(i32::from_ne_bytes(take(&mut rest)?));
                // Others are no process to kill(2), but many.
                (pid.0 > 1).then_some(Self::Started { number, pid })?
            }
            [b'N'] => {
                let number = u32::from_ne_bytes(take(&mut rest)?);
                let error = Errno::from_raw(i32::from_ne_bytes(take(&mut rest)?));
                Self::NotStarted { number, error }
            }
            _ => return None,
        };
        rest.is_empty().then_some(word)
    }
}

/// The next bytes, taken off.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

/// A text of at most 64 KB, with its length before it.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(&text.as_bytes()[..usize::from(length)]);
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::from(u16::from_ne_bytes(take(rest)?));
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn push_list(out: &mut Vec<u8>, texts: &[String]) {
    let texts = &texts[..texts.len().min(NAMES)];
    out.push(texts.len() as u8);
    for text in texts {
        push_text(out, text);
    }
}

fn take_list(rest: &mut &[u8]) -> Option<Vec<String>> {
    let [count] = take(rest)?;
    (0..count).map(|_| take_text(rest)).collect()
}

fn push_name(out: &mut Vec<u8>, name: &SocketName) {
    match name {
        SocketName::Inet(SocketAddr::V4(address)) => {
            out.push(b'4');
            out.extend(address.ip().octets());
            out.extend(address.port().to_ne_bytes());
        }
        SocketName::Inet(SocketAddr::V6(address)) => {
            out.push(b'6');
            out.extend(address.ip().octets());
            out.extend(address.port().to_ne_bytes());
            out.extend(address.flowinfo().to_ne_bytes());
            out.extend(address.scope_id().to_ne_bytes());
        }
        SocketName::Unix(path) => {
            out.push(b'u');
            push_text(out, path);
        }
    }
}

fn take_name(rest: &mut &[u8]) -> Option<SocketName> {
    Some(match take(rest)? {
        [b'4'] => {
            let ip = Ipv4Addr::from(take::<4>(rest)?);
            let port = u16::from_ne_bytes(take(rest)?);
            SocketName::Inet(SocketAddrV4::new(ip, port).into())
        }
        [b'6'] => {
            let ip = Ipv6Addr::from(take::<16>(rest)?);
            let port = u16::from_ne_bytes(take(rest)?);
            let flow = u32::from_ne_bytes(take(rest)?);
            let scope = u32::from_ne_bytes(take(rest)?);
            SocketName::Inet(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        [b'u'] => SocketName::Unix(take_text(rest)?),
        _ => return None,
    })
}

/// A text, or as many whole characters from its start as these bytes hold.
fn cut(text: &str, most_bytes: usize) -> &str {
    let end = most_bytes.min(text.len());
    let boundary = (0..=end).rev().find(|&index| text.is_char_boundary(index));
    &text[..boundary.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief() -> Brief {
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 8000, 7, 3);
        Brief {
            number: 70_000,
            slot: SlotId(513),
            side: Side::B,
            has_access_log: true,
            listeners: vec![
                (SocketName::Inet(SocketAddr::from(([127, 0, 0, 1], 80))), Owner::Outside),
                (SocketName::Inet(SocketAddr::from(([127, 0, 0, 1], 81))), Owner::Slot),
                (SocketName::Inet(v6.into()), Owner::Supervisor),
                (SocketName::Unix("/run/bär.sock".to_owned()), Owner::Supervisor),
            ],
        }
    }

    #[test]
    fn an_order_arrives_as_it_was_sent() {
        let bare = Brief { side: Side::A, has_access_log: false, listeners: Vec::new(), ..brief() };
        for brief in [brief(), bare] {
            assert_eq!(Brief::decode(&brief.encode()), Some(brief));
        }
        assert_eq!(brief().descriptor_count(), 7);
    }

    #[test]
    fn an_order_that_is_cut_is_none_or_one_with_fewer_descriptors_than_came() {
        let whole = brief().encode();
        for end in 0..whole.len() {
            let cut = Brief::decode(&whole[..end]);
            assert!(cut.is_none_or(|cut| cut.descriptor_count() < brief().descriptor_count()));
        }
    }

    #[test]
    fn each_word_arrives_as_it_was_said_and_cut_it_says_nothing() {
        let words = [
            Word::Ready { threads: vec!["a".to_owned(), String::new()], sockets: vec![] },
            Word::Started { number: u32::MAX, pid: Pid(71) },
            Word::NotStarted { number: 3, error: Errno::EAGAIN },
        ];
        for word in words {
            let whole = word.encode();
            for end in 0..whole.len() {
                assert_eq!(Word::decode(&whole[..end]), None, "{word:?}");
            }
            assert_eq!(Word::decode(&whole), Some(word));
        }
    }

    #[test]
    fn a_failure_arrives_with_its_exit_and_what_a_packet_holds_of_its_report() {
        for exit in [WorkerExit::NotImportable, WorkerExit::NotBooted, WorkerExit::Internal] {
            let word = Word::Failed { exit, report: "Traceback".to_owned() };
            assert_eq!(Word::decode(&word.encode()), Some(word));
        }
        let report = "ä".repeat(MESSAGE_BYTES);
        let whole = Word::Failed { exit: WorkerExit::NotBooted, report }.encode();
        assert!(whole.len() <= MESSAGE_BYTES);
        let Some(Word::Failed { report, .. }) = Word::decode(&whole) else { panic!("no failure") };
        assert!(report.len() > MESSAGE_BYTES / 2 && report.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_longer_list_than_anybody_reads_is_cut() {
        let threads = vec!["x".repeat(300); 1000];
        let whole = Word::Ready { threads, sockets: Vec::new() }.encode();
        assert!(whole.len() <= MESSAGE_BYTES);
        let Some(Word::Ready { threads, .. }) = Word::decode(&whole) else { panic!("not ready") };
        assert_eq!(threads.len(), NAMES);
    }

    #[test]
    fn what_nobody_of_us_says_is_none() {
        for message in [&b""[..], b"X", b"S", b"R\x01\xff\xff", b"N\0\0\0\0\0\0\0\0!"] {
            assert_eq!(Word::decode(message), None);
        }
        for pid in [1, 0, -1, -4711, i32::MIN] {
            assert_eq!(Word::decode(&Word::Started { number: 1, pid: Pid(pid) }.encode()), None);
        }
        assert_eq!(Brief::decode(b"\0\0\0\0\0\0C\0"), None);
    }
}
