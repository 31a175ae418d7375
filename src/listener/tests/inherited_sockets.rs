//! Sockets that a successor inherits from its predecessor.

use super::*;

/// The time after which a connection counts as refused.
const SOON: std::time::Duration = std::time::Duration::from_millis(100);

fn hand_over(listeners: &Listeners) -> InheritedSockets {
    InheritedSockets::from(listeners.inherited_sockets().unwrap())
}

fn inherit(
    binds: &[&str],
    options: &ListenOptions,
    inherited_sockets: InheritedSockets,
) -> Listeners {
    let binds: Vec<_> = binds.iter().map(|text| text.parse().unwrap()).collect();
    Listeners::inherit(&binds, options, inherited_sockets).unwrap()
}

#[test]
fn an_inherited_socket_is_reused_even_if_its_port_was_zero() {
    let before = bind(&["127.0.0.1:0", "127.0.0.1:0"]);
    let port = inet(&before)[1].port();
    let by_port = format!("127.0.0.1:{port}");
    let after = inherit(&["127.0.0.1:0", &by_port], &options(), hand_over(&before));
    assert_eq!(inet(&after), inet(&before));
    assert_eq!(inode(&after, 0), inode(&before, 0));
}

#[test]
fn a_new_address_is_bound_and_an_unused_socket_is_closed() {
    let before = bind(&["127.0.0.1:0"]);
    let after = inherit(&["127.0.0.2:0"], &options(), hand_over(&before));
    assert_ne!(inode(&after, 0), inode(&before, 0));
    let address = inet(&before)[0];
    assert!(TcpStream::connect(address).is_ok(), "the predecessor may still need it");
    after.close_unused_queues();
    let refused = |_: &usize| TcpStream::connect_timeout(&address, SOON).is_err();
    assert!((0..9).any(|n| refused(&n)), "its queue takes one more at most");
}

#[test]
fn a_queue_that_a_failed_successor_closed_is_reopened() {
    let before = bind(&["127.0.0.1:0"]);
    let after = inherit(&["127.0.0.2:0"], &options(), hand_over(&before));
    after.close_unused_queues();
    drop(after);
    let address = inet(&before)[0];
    assert!(TcpStream::connect_timeout(&address, SOON).is_err());
    before.reopen();
    assert!(TcpStream::connect_timeout(&address, SOON).is_ok());
}

#[test]
fn a_queue_that_a_predecessor_left_closed_is_open_after_a_start() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    fd::close_queue(socket.as_fd()).unwrap();
    assert!(TcpStream::connect_timeout(&address, SOON).is_err());
    let _listeners = bind(&[&format!("fd://{}", socket.into_raw_fd())]);
    assert!(TcpStream::connect_timeout(&address, SOON).is_ok());
}

#[test]
fn a_path_is_unlinked_by_its_last_owner() {
    let directory = TempDir::new().unwrap();
    let [kept, left] = ["kept", "left"].map(|name| directory.path().join(name));
    let binds = [&kept, &left].map(|path| format!("unix:{}", path.display()));
    let mut before = bind(&[&binds[0], &binds[1]]);
    // A successor that fails leaves both paths.
    drop(inherit(&[&binds[0]], &options(), hand_over(&before)));
    assert!(kept.exists() && left.exists());
    let mut after = inherit(&[&binds[0]], &options(), hand_over(&before));
    before.disown();
    after.own();
    assert!(kept.exists() && !left.exists());
    drop(before);
    assert!(UnixStream::connect(&kept).is_ok());
    drop(after);
    assert!(!kept.exists());
}

#[test]
fn a_path_that_another_server_took_over_is_not_unlinked() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    let text = format!("unix:{}", path.display());
    let mut before = bind(&[&text]);
    let mut after = inherit(&[&text], &options(), hand_over(&before));
    before.disown();
    after.own();
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(after);
    assert!(path.exists());
}

#[test]
fn per_slot_sockets_are_inherited_and_no_other_is_bound_too_early() {
    let before = try_bind(&["127.0.0.1:0"], &per_slot()).unwrap();
    let more = ListenOptions { slots: 4, ..per_slot() };
    let after = inherit(&["127.0.0.1:0"], &more, hand_over(&before));
    for slot in 0..2 {
        assert_eq!(inode(&after, slot), inode(&before, slot));
    }
    assert_eq!(after.inherited_sockets().unwrap().len(), 2, "nobody would read a third one yet");
    assert_ne!(inode(&after, 2), inode(&before, 0));
    assert_eq!(after.inherited_sockets().unwrap().len(), 3);
}

#[test]
fn a_described_socket_is_taken_over_by_its_number() {
    let before = bind(&["127.0.0.1:0"]);
    let inherited_socket = before.inherited_sockets().unwrap().remove(0);
    let described = inherited_socket.describe();
    // As after execve(2), no object owns the number yet.
    std::mem::forget(inherited_socket);
    let inherited_sockets = vec![InheritedSocket::take_over(&described).unwrap()];
    let after = inherit(&["127.0.0.1:0"], &options(), InheritedSockets::from(inherited_sockets));
    assert_eq!(inode(&after, 0), inode(&before, 0));
}

#[test]
fn a_descriptor_that_does_not_listen_is_not_an_inherited_socket() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let number = OwnedFd::from(reader).into_raw_fd();
    for fd in [number, 2, 100_000] {
        let described = serde_json::json!({"bind": "x", "fd": fd});
        assert!(InheritedSocket::take_over(&described).is_none(), "{fd}");
    }
}
