//! The messages between the supervisor and a zygote: one per packet of their socket. Numbers are in native byte
//! order, because both processes run the same program.
//!
//! Decoding returns `None` for a malformed message, which comes from other code that has the descriptor.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker_init::{Owner, WorkerExit};
use nix::errno::Errno;

use crate::system::pid::Pid;

/// Maximum length of a message.
pub(super) const MESSAGE_BYTES: usize = 64 * 1024;
/// Maximum length of a report; the rest is cut.
const REPORT_BYTES: usize = MESSAGE_BYTES - 8;
/// Maximum number of descriptors in a packet (SCM_MAX_FD of the kernel).
pub(super) const MAX_DESCRIPTORS: usize = 253;
/// Maximum number of names in a list; the rest is cut.
const MAX_NAMES: usize = 64;

/// A request to fork a worker. Its descriptors come in the same packet, in this order: control socket, doorbell,
/// access log and mailbox if there are any, listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SpawnRequest {
    /// The number of the order, which the answer repeats.
    pub(super) number: u32,
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) has_access_log: bool,
    /// The group of workers that share their connections, and the worker's number in it.
    pub(super) group: Option<(u16, u8)>,
    pub(super) listeners: Vec<(SocketName, Owner)>,
}

impl SpawnRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.number.to_ne_bytes());
        out.extend(self.slot.0.to_ne_bytes());
        out.push(match self.side {
            Side::A => b'A',
            Side::B => b'B',
        });
        out.push(u8::from(self.has_access_log));
        out.push(u8::from(self.group.is_some()));
        if let Some((group, number)) = self.group {
            out.extend(group.to_ne_bytes());
            out.push(number);
        }
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
        let group = match take(&mut rest)? {
            [0] => None,
            [1] => {
                let group = u16::from_ne_bytes(take(&mut rest)?);
                let [number] = take(&mut rest)?;
                Some((group, number))
            }
            _ => return None,
        };
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
        Some(Self { number, slot, side, has_access_log, group, listeners })
    }

    /// The number of descriptors in its packet.
    pub(super) fn descriptor_count(&self) -> usize {
        let optional = usize::from(self.has_access_log) + usize::from(self.group.is_some());
        2 + optional + self.listeners.len()
    }
}

/// A message from a zygote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ZygoteMessage {
    /// The application is loaded, and has these threads and sockets open.
    Ready { threads: Vec<String>, sockets: Vec<String> },
    /// The application cannot be loaded, and the zygote exits.
    Failed { exit: WorkerExit, report: String },
    /// The worker for this order was forked.
    Started { number: u32, pid: Pid },
    /// There is no worker for this order.
    NotStarted { number: u32, error: Errno },
}

impl ZygoteMessage {
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
        let message = match take(&mut rest)? {
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
                // Any other number would mean a group of processes to kill(2).
                (pid.0 > 1).then_some(Self::Started { number, pid })?
            }
            [b'N'] => {
                let number = u32::from_ne_bytes(take(&mut rest)?);
                let error = Errno::from_raw(i32::from_ne_bytes(take(&mut rest)?));
                Self::NotStarted { number, error }
            }
            _ => return None,
        };
        rest.is_empty().then_some(message)
    }
}

/// Removes and returns the next bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

/// Writes a text of at most 64 KB, preceded by its length.
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
    let texts = &texts[..texts.len().min(MAX_NAMES)];
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

/// Returns the longest prefix of the text that fits into this number of bytes and ends with a whole character.
fn cut(text: &str, max_bytes: usize) -> &str {
    let end = max_bytes.min(text.len());
    let boundary = (0..=end).rev().find(|&index| text.is_char_boundary(index));
    &text[..boundary.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SpawnRequest {
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 8000, 7, 3);
        SpawnRequest {
            number: 70_000,
            slot: SlotId(513),
            side: Side::B,
            has_access_log: true,
            group: Some((300, 7)),
            listeners: vec![
                (SocketName::Inet(SocketAddr::from(([127, 0, 0, 1], 80))), Owner::Outside),
                (SocketName::Inet(SocketAddr::from(([127, 0, 0, 1], 81))), Owner::Slot),
                (SocketName::Inet(v6.into()), Owner::Supervisor),
                (SocketName::Unix("/run/bär.sock".to_owned()), Owner::Supervisor),
            ],
        }
    }

    #[test]
    fn a_spawn_request_is_the_same_after_encoding_and_decoding() {
        let bare = SpawnRequest {
            side: Side::A,
            has_access_log: false,
            group: None,
            listeners: Vec::new(),
            ..request()
        };
        for request in [request(), bare] {
            assert_eq!(SpawnRequest::decode(&request.encode()), Some(request));
        }
        assert_eq!(request().descriptor_count(), 8);
    }

    #[test]
    fn a_truncated_request_is_rejected_or_names_fewer_descriptors() {
        let whole = request().encode();
        for end in 0..whole.len() {
            let cut = SpawnRequest::decode(&whole[..end]);
            assert!(cut.is_none_or(|cut| cut.descriptor_count() < request().descriptor_count()));
        }
    }

    #[test]
    fn each_message_survives_encoding_and_is_rejected_when_truncated() {
        let messages = [
            ZygoteMessage::Ready { threads: vec!["a".to_owned(), String::new()], sockets: vec![] },
            ZygoteMessage::Started { number: u32::MAX, pid: Pid(71) },
            ZygoteMessage::NotStarted { number: 3, error: Errno::EAGAIN },
        ];
        for message in messages {
            let whole = message.encode();
            for end in 0..whole.len() {
                assert_eq!(ZygoteMessage::decode(&whole[..end]), None, "{message:?}");
            }
            assert_eq!(ZygoteMessage::decode(&whole), Some(message));
        }
    }

    #[test]
    fn a_failure_arrives_with_its_exit_and_a_truncated_report() {
        for exit in [WorkerExit::NotImportable, WorkerExit::NotBooted, WorkerExit::Internal] {
            let message = ZygoteMessage::Failed { exit, report: "Traceback".to_owned() };
            assert_eq!(ZygoteMessage::decode(&message.encode()), Some(message));
        }
        let report = "ä".repeat(MESSAGE_BYTES);
        let whole = ZygoteMessage::Failed { exit: WorkerExit::NotBooted, report }.encode();
        assert!(whole.len() <= MESSAGE_BYTES);
        let Some(ZygoteMessage::Failed { report, .. }) = ZygoteMessage::decode(&whole) else {
            panic!("no failure")
        };
        assert!(report.len() > MESSAGE_BYTES / 2 && report.chars().all(|c| c == 'ä'));
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let threads = vec!["x".repeat(300); 1000];
        let whole = ZygoteMessage::Ready { threads, sockets: Vec::new() }.encode();
        assert!(whole.len() <= MESSAGE_BYTES);
        let Some(ZygoteMessage::Ready { threads, .. }) = ZygoteMessage::decode(&whole) else {
            panic!("not ready")
        };
        assert_eq!(threads.len(), MAX_NAMES);
    }

    #[test]
    fn a_malformed_message_is_rejected() {
        for message in [&b""[..], b"X", b"S", b"R\x01\xff\xff", b"N\0\0\0\0\0\0\0\0!"] {
            assert_eq!(ZygoteMessage::decode(message), None);
        }
        for pid in [1, 0, -1, -4711, i32::MIN] {
            assert_eq!(
                ZygoteMessage::decode(
                    &ZygoteMessage::Started { number: 1, pid: Pid(pid) }.encode()
                ),
                None
            );
        }
        assert_eq!(SpawnRequest::decode(b"\0\0\0\0\0\0C\0"), None);
    }
}
