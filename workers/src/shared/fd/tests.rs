use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::ControlMessage;

use super::tcp_info::TcpInfo;
use super::*;

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn fill(socket: &UnixStream) {
    while send(socket.as_fd(), [&[0; 4096], b"", b""]) != Io::Blocked {}
}

/// A TCP socket whose peer has reset the connection, before the error was read.
fn reset_socket_before_it_is_read() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let mut fds = [nix::poll::PollFd::new(server.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE).unwrap();
    server
}

/// A TCP socket whose peer has reset the connection.
fn reset_socket() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"unread").unwrap();
    server.peek(&mut [0; 6]).unwrap();
    // close(2) with unread input sends RST.
    drop(server);
    assert!(client.read(&mut [0]).is_err(), "the reset has arrived");
    client
}

fn is_close_on_exec(fd: impl AsFd) -> bool {
    let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
    flags.contains(FdFlag::FD_CLOEXEC)
}

fn is_non_blocking(fd: impl AsFd) -> bool {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
    flags.contains(OFlag::O_NONBLOCK)
}

fn accepted(listener: impl AsFd) -> (OwnedFd, SocketName) {
    match accept(listener.as_fd()) {
        Accepted::Connection { socket, peer } => (socket, peer),
        Accepted::Empty => panic!("the queue is empty"),
        Accepted::Exhausted(error) | Accepted::Failed(error) => panic!("{error}"),
    }
}

#[test]
fn an_accepted_connection_is_non_blocking_and_close_on_exec() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = accepted(&listener);
    assert!(is_non_blocking(&socket));
    assert!(is_close_on_exec(&socket));
}

#[test]
fn a_tcp_connection_has_its_peer_and_no_delay() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = accepted(&listener);
        assert_eq!(peer, SocketName::Inet(client.local_addr().unwrap()));
        assert!(TcpStream::from(socket).nodelay().unwrap());
    }
}

#[test]
fn an_unnamed_unix_peer_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("listener")).unwrap();
    let _client = UnixStream::connect(dir.path().join("listener")).unwrap();
    assert_eq!(accepted(&listener).1, SocketName::Unix(String::new()));
}

#[test]
fn an_abstract_unix_listener_and_peer_work() {
    let name = format!("arctos-test-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let _client = UnixStream::connect_addr(&address).unwrap();
    assert_eq!(accepted(&listener).1, SocketName::Unix(String::new()));
}

#[test]
fn socket_names_are_read_as_the_kernel_writes_them() {
    let raw = |family: c_int, rest: &[u8]| {
        let mut raw = u16::try_from(family).unwrap().to_ne_bytes().to_vec();
        raw.extend_from_slice(rest);
        socket_name(&raw)
    };
    let unix = |name: &str| SocketName::Unix(name.to_owned());
    assert_eq!(raw(libc::AF_UNIX, b"/run/a.sock\0"), unix("/run/a.sock"));
    assert_eq!(raw(libc::AF_UNIX, b"/run/a.sock"), unix("/run/a.sock"));
    assert_eq!(raw(libc::AF_UNIX, b"\0hidden\0part"), unix("@hidden\0part"));
    assert_eq!(raw(libc::AF_UNIX, b""), unix(""));
    assert_eq!(raw(libc::AF_UNIX, b"\0"), unix(""));
    assert_eq!(
        raw(libc::AF_INET, &[0x1f, 0x90, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        SocketName::Inet("192.0.2.1:8080".parse().unwrap())
    );
    let mut inet6 = vec![0x1f, 0x90, 0, 0, 0, 0];
    inet6.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
    inet6.extend(3u32.to_ne_bytes());
    assert_eq!(raw(libc::AF_INET6, &inet6), SocketName::Inet("[fe80::1%3]:8080".parse().unwrap()));
}

#[test]
fn an_incomplete_or_unknown_name_is_unnamed() {
    let inet = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes();
    let inet6 = u16::try_from(libc::AF_INET6).unwrap().to_ne_bytes();
    for raw in [&[][..], &[1], &inet, &[inet[0], inet[1], 0, 80, 1, 2, 3], &inet6, &[255, 255, 0]] {
        assert_eq!(socket_name(raw), SocketName::Unix(String::new()));
    }
}

#[test]
fn an_empty_queue_is_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(matches!(accept(listener.as_fd()), Accepted::Empty));
}

#[test]
fn a_socket_that_does_not_listen_fails() {
    let (socket, _peer) = pair();
    assert!(matches!(accept(socket.as_fd()), Accepted::Failed(_)));
}

#[test]
fn errors_of_accept_are_distinguished() {
    for error in [Errno::EAGAIN, Errno::EINTR, Errno::ECONNABORTED, Errno::EPROTO] {
        assert!(matches!(Accepted::from(error), Accepted::Empty));
    }
    for error in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
        assert!(matches!(Accepted::from(error), Accepted::Exhausted(_)));
    }
    assert!(matches!(Accepted::from(Errno::EPERM), Accepted::Failed(_)));
}

#[test]
fn what_was_sent_is_received() {
    let (ours, mut theirs) = pair();
    theirs.write_all(b"hello").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receive(ours.as_fd(), &mut buffer), Io::Bytes(5));
    assert_eq!(&buffer[..5], b"hello");
}

#[test]
fn an_empty_socket_is_blocked() {
    let (ours, _theirs) = pair();
    assert_eq!(receive(ours.as_fd(), &mut [0; 16]), Io::Blocked);
}

#[test]
fn unread_bytes_are_found_and_stay() {
    let (ours, mut theirs) = pair();
    assert!(!has_unread(ours.as_fd()));
    theirs.write_all(b"x").unwrap();
    assert!(has_unread(ours.as_fd()));
    assert_eq!(receive(ours.as_fd(), &mut [0; 16]), Io::Bytes(1));
    drop(theirs);
    assert!(!has_unread(ours.as_fd()), "the end of the stream is nothing to read");
}

#[test]
fn a_shut_socket_has_ended() {
    let (ours, theirs) = pair();
    theirs.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(ours.as_fd(), &mut [0; 16]), Io::Ended);
}

#[test]
fn a_reset_connection_fails_to_be_read_and_written_without_a_signal() {
    let (ours, theirs) = pair();
    drop(theirs);
    assert_eq!(send(ours.as_fd(), [b"x", b"", b""]), Io::Failed);
    assert_eq!(send(ours.as_fd(), [b"x", b"y", b""]), Io::Failed);
    let client = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| TcpStream::connect(listener.local_addr()?))
        .unwrap();
    // The listener went away with the connection in its queue: reset.
    assert_eq!(receive(client.as_fd(), &mut [0; 16]), Io::Failed);
}

#[test]
fn a_reset_is_an_error_of_the_socket_and_a_close_is_not() {
    assert!(has_failed(reset_socket_before_it_is_read().as_fd()));
    let (ours, theirs) = pair();
    drop(theirs);
    assert!(!has_failed(ours.as_fd()));
}

#[test]
fn parts_are_sent_in_order_and_empty_ones_are_left_out() {
    let cases: [([&[u8]; 3], &[u8]); 6] = [
        ([b"a", b"", b""], b"a"),
        ([b"", b"b", b""], b"b"),
        ([b"", b"", b"c"], b"c"),
        ([b"a", b"b", b""], b"ab"),
        ([b"a", b"", b"c"], b"ac"),
        ([b"ab", b"c", b"def"], b"abcdef"),
    ];
    for (parts, expected) in cases {
        let (ours, mut theirs) = pair();
        assert_eq!(send(ours.as_fd(), parts), Io::Bytes(expected.len()));
        drop(ours);
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert_eq!(received, expected);
    }
}

#[test]
fn bytes_sent_ahead_leave_with_the_next_ones_or_when_pushed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = accepted(&listener);
    let mut received = [0; 2];
    assert_eq!(send_ahead(server.as_fd(), [b"a", b"", b""]), Io::Bytes(1));
    assert_eq!(send(server.as_fd(), [b"b", b"", b""]), Io::Bytes(1));
    assert_eq!(client.read(&mut received).unwrap(), 2, "in one segment");
    assert_eq!(&received, b"ab");

    // The kernel would wait for 200 ms. How long it takes otherwise depends on how busy the machine is.
    let waits = (0..10).map(|_| {
        let sent = Instant::now();
        assert_eq!(send_ahead(server.as_fd(), [b"c", b"", b""]), Io::Bytes(1));
        push(server.as_fd());
        assert_eq!(client.read(&mut received).unwrap(), 1);
        sent.elapsed()
    });
    assert!(waits.min() < Some(Duration::from_millis(150)));
}

#[test]
fn bytes_sent_ahead_over_a_unix_socket_leave_at_once() {
    let (ours, mut theirs) = pair();
    theirs.set_nonblocking(true).unwrap();
    assert_eq!(send_ahead(ours.as_fd(), [b"a", b"b", b""]), Io::Bytes(2));
    assert_eq!(theirs.read(&mut [0; 3]).unwrap(), 2);
    push(ours.as_fd());
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "nothing to send")]
fn sending_nothing_is_a_bug() {
    let (ours, _theirs) = pair();
    send(ours.as_fd(), [b"", b"", b""]);
}

#[test]
fn a_full_socket_is_blocked() {
    let (ours, _theirs) = pair();
    fill(&ours);
    assert_eq!(send(ours.as_fd(), [b"x", b"y", b"z"]), Io::Blocked);
}

#[test]
fn a_file_is_sent_from_the_given_offset() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"0123456789").unwrap();
    file.seek(SeekFrom::Start(8)).unwrap();
    let (ours, mut theirs) = pair();
    assert_eq!(send_file(ours.as_fd(), file.as_fd(), 2, 5), Io::Bytes(5));
    assert_eq!(file.stream_position().unwrap(), 8);
    drop(ours);
    let mut received = String::new();
    theirs.read_to_string(&mut received).unwrap();
    assert_eq!(received, "23456");
}

#[test]
fn a_file_that_has_shrunk_has_ended() {
    let file = tempfile::tempfile().unwrap();
    let (ours, _theirs) = pair();
    assert_eq!(send_file(ours.as_fd(), file.as_fd(), 0, 5), Io::Ended);
    assert_eq!(send_file(ours.as_fd(), file.as_fd(), u64::MAX, 5), Io::Ended);
}

#[test]
fn a_file_waits_for_room_in_the_socket() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 4096]).unwrap();
    let (ours, _theirs) = pair();
    fill(&ours);
    assert_eq!(send_file(ours.as_fd(), file.as_fd(), 0, 4096), Io::Blocked);
}

#[test]
fn a_file_for_a_reset_connection_fails() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 16]).unwrap();
    let socket = reset_socket();
    assert_eq!(send_file(socket.as_fd(), file.as_fd(), 0, 16), Io::Failed);
}

#[test]
fn a_listener_knows_the_length_of_its_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let queue = accept_queue(listener.as_fd()).unwrap();
    assert_eq!(queue.len, 0);
    assert!(queue.max > 0);
    let address = listener.local_addr().unwrap();
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    assert_eq!(accept_queue(listener.as_fd()).unwrap(), AcceptQueue { len: 2, ..queue });
    let _accepted = accepted(&listener);
    assert_eq!(accept_queue(listener.as_fd()).unwrap(), AcceptQueue { len: 1, ..queue });
}

/// A listener on the loopback interface for each address family of this machine.
fn loopbacks() -> Vec<TcpListener> {
    let all: Vec<_> =
        ["127.0.0.1:0", "[::1]:0"].iter().filter_map(|at| TcpListener::bind(at).ok()).collect();
    assert!(!all.is_empty());
    all
}

const SOON: Duration = Duration::from_millis(200);

#[test]
fn a_closed_queue_keeps_waiting_clients_and_ignores_new_ones() {
    for listener in loopbacks() {
        let address = listener.local_addr().unwrap();
        let _waiting = TcpStream::connect(address).unwrap();
        close_queue(listener.as_fd()).unwrap();
        let late = TcpStream::connect_timeout(&address, SOON);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        accepted(&listener);
        listener.set_nonblocking(true).unwrap();
        assert!(matches!(accept(listener.as_fd()), Accepted::Empty));
        open_queue(listener.as_fd());
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn a_handshake_completed_at_a_closed_queue_makes_a_usable_connection() {
    for listener in loopbacks() {
        // With TCP_DEFER_ACCEPT, the client's first byte ends the handshake for the kernel.
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
        set_option(listener.as_fd(), level, option, 1).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        close_queue(listener.as_fd()).unwrap();
        client.write_all(b"a").unwrap();
        let (socket, _) = accepted(&listener);
        let mut server = TcpStream::from(socket);
        server.set_nonblocking(false).unwrap();
        client.write_all(b"b").unwrap();
        let mut received = [0; 2];
        server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        server.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"ab");
    }
}

#[test]
fn a_connection_knows_how_long_it_has_waited() {
    let start = std::time::Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"x").unwrap();
    let (socket, _) = accepted(&listener);
    let arrival = arrival(socket.as_fd()).unwrap();
    // The kernel's clock has ticks of less than 1 s.
    assert!(arrival.waited <= start.elapsed() + Duration::from_secs(1), "{arrival:?}");
    assert!(!arrival.is_reset);
}

#[test]
fn a_connection_knows_a_reset_but_no_close() {
    assert!(arrival(reset_socket_before_it_is_read().as_fd()).unwrap().is_reset);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"x").unwrap();
    drop(client);
    let (socket, _) = accepted(&listener);
    assert!(!arrival(socket.as_fd()).unwrap().is_reset);
}

/// A connection in this state, and how many ms ago the last bytes were sent, the last bytes were received, and the last
/// segment arrived.
fn tcp_info_of(state: u8, sent: u32, received: u32, segment: u32) -> TcpInfo {
    let mut raw = [0; 104];
    raw[0] = state;
    for (offset, ms) in [
        (TcpInfo::LAST_DATA_SENT, sent),
        (TcpInfo::LAST_DATA_RECV, received),
        (TcpInfo::LAST_ACK_RECV, segment),
    ] {
        raw[offset..offset + 4].copy_from_slice(&ms.to_ne_bytes());
    }
    TcpInfo { raw, bytes: raw.len() }
}

#[test]
fn a_client_that_reset_or_gave_up_has_left_but_not_one_that_half_closed() {
    const ESTABLISHED: u8 = 1;
    let ended = TcpInfo::CLOSE_WAIT;
    assert!(!tcp_info_of(ESTABLISHED, 9000, 9000, 0).has_left(), "it is there");
    assert!(tcp_info_of(TcpInfo::CLOSE, 9000, 9000, 9000).has_left(), "it was reset");
    assert!(
        !tcp_info_of(ended, 9000, 9000, 9000).has_left(),
        "it ended its stream with its last byte"
    );
    assert!(
        !tcp_info_of(ended, 9000, 9000, 8001).has_left(),
        "the end may have been lost, and sent again"
    );
    assert!(tcp_info_of(ended, 9000, 9000, 8000).has_left(), "it waited first");
    assert!(
        tcp_info_of(ended, 20_000, 9000, 2000).has_left(),
        "it waited behind an earlier answer"
    );
    assert!(!tcp_info_of(ended, 3000, 9000, 2900).has_left(), "that is how it took an answer");
    assert!(
        !TcpInfo { bytes: 44, ..tcp_info_of(ended, 9000, 9000, 0) }.has_left(),
        "an old kernel"
    );
}

#[test]
fn a_peer_has_left_after_a_reset_but_not_after_a_half_close() {
    assert!(has_left(reset_socket_before_it_is_read().as_fd(), true));
    assert!(has_half_closed(reset_socket_before_it_is_read().as_fd(), true));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = accepted(&listener);
    assert!(!has_left(socket.as_fd(), true) && !has_half_closed(socket.as_fd(), true));
    assert!(!arrival(socket.as_fd()).unwrap().is_half_closed);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "the end of the stream");
    assert!(!has_left(socket.as_fd(), true));
    assert!(has_half_closed(socket.as_fd(), true));
    assert!(arrival(socket.as_fd()).unwrap().is_half_closed);
}

#[test]
fn a_unix_peer_has_left_after_a_close_but_not_after_a_half_close() {
    let (ours, theirs) = pair();
    assert!(!has_left(ours.as_fd(), false) && !has_half_closed(ours.as_fd(), false));
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(!has_left(ours.as_fd(), false) && has_half_closed(ours.as_fd(), false));
    drop(theirs);
    assert!(has_left(ours.as_fd(), false) && has_half_closed(ours.as_fd(), false));
}

#[test]
fn other_sockets_have_no_queue_and_no_time() {
    let (ours, _theirs) = pair();
    assert_eq!(accept_queue(ours.as_fd()), None);
    assert_eq!(arrival(ours.as_fd()), None);
}

#[test]
fn a_shorter_answer_of_the_kernel_is_no_panic() {
    let info = TcpInfo { raw: [1; 104], bytes: 30 };
    assert_eq!(info.word(TcpInfo::UNACKED), Some(0x0101_0101));
    assert_eq!(info.word(TcpInfo::SACKED), None);
    assert_eq!(info.word(TcpInfo::LAST_DATA_RECV), None);
    assert_eq!(TcpInfo { raw: [1; 104], bytes: 0 }.state(), None);
}

#[test]
fn a_duplicate_is_another_close_on_exec_descriptor_of_the_file() {
    let (ours, mut theirs) = pair();
    let copy = duplicate(ours.as_raw_fd()).unwrap();
    assert_ne!(copy.as_raw_fd(), ours.as_raw_fd());
    assert!(is_close_on_exec(&copy));
    drop(ours);
    assert_eq!(send(copy.as_fd(), [b"x", b"", b""]), Io::Bytes(1));
    theirs.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_closed_number_is_neither_duplicated_nor_adopted() {
    for fd in [-1, RawFd::MAX] {
        assert_eq!(duplicate(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(adopt(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn an_adopted_descriptor_is_the_inherited_one_made_close_on_exec() {
    let (ours, mut theirs) = pair();
    fcntl(&ours, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let number = ours.into_raw_fd();
    let adopted = adopt(number).unwrap();
    assert_eq!(adopted.as_raw_fd(), number);
    assert!(is_close_on_exec(&adopted));
    drop(adopted);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_descriptor_comes_with_the_byte_that_it_was_sent_with() {
    let (ours, mut theirs) = pair();
    let (_reader, writer) = std::io::pipe().unwrap();
    theirs.write_all(b"ab").unwrap();
    send_descriptor(theirs.as_fd(), b'c', writer.as_fd()).unwrap();
    theirs.write_all(b"d").unwrap();
    drop(theirs);
    let mut received = Vec::new();
    while let Message::Received { word, descriptor } = receive_message(ours.as_fd()) {
        received.push((word, descriptor.is_some_and(|descriptor| is_close_on_exec(&descriptor))));
    }
    assert_eq!(received, [(b'a', false), (b'b', false), (b'c', true), (b'd', false)]);
    assert!(matches!(receive_message(ours.as_fd()), Message::Ended));
}

#[test]
fn descriptors_that_nobody_expects_are_closed() {
    for count in [2, 3, 64] {
        let (ours, theirs) = pair();
        let (reader, writer) = std::io::pipe().unwrap();
        let numbers = vec![writer.as_raw_fd(); count];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let slices = [IoSlice::new(b"a")];
        socket::sendmsg::<()>(theirs.as_raw_fd(), &slices, &rights, MsgFlags::empty(), None)
            .unwrap();
        drop(writer);
        let Message::Received { word: b'a', descriptor } = receive_message(ours.as_fd()) else {
            panic!("the byte has been sent");
        };
        drop(descriptor);
        // The end of the stream comes only if no duplicate of the writer is left.
        let mut ended = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ended, PollTimeout::from(10_000_u16)), Ok(1), "{count}");
    }
}

#[test]
fn receiving_a_message_does_not_block() {
    let (ours, _theirs) = pair();
    assert!(matches!(receive_message(ours.as_fd()), Message::Nothing));
}
