use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::application::{AppError, Outlet};
use crate::shared::socket_name::SocketName;

/// A reply that is never made.
struct NoBody;

impl AppBody for NoBody {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Ok(None)
    }

    fn close(self) {}
}

fn adopted(served: u32) -> (Client<NoBody>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let address = SocketName::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let (peer, local) = (address.clone(), address);
    let info = ConnInfo { listener: 3, served, ..ConnInfo::new(peer, local, Instant::now()) };
    (Client::adopt(Transport::plain(ours.into()), info), theirs)
}

#[test]
fn an_idle_connection_passes_to_another_owner_with_its_facts() {
    let (client, _theirs) = adopted(7);
    let number = client.socket().as_raw_fd();
    let Ok((socket, info)) = client.release() else { panic!("it was idle") };
    assert_eq!((socket.as_raw_fd(), info.served, info.listener), (number, 7, 3));
    let again: Client<NoBody> = Client::adopt(Transport::plain(socket), info);
    assert_eq!(again.conn.info().served, 7);
}

#[test]
fn a_connection_with_unread_bytes_is_handed_back_whole() {
    let (mut client, _theirs) = adopted(0);
    client.keep_unread(b"GET / HT");
    let Err(client) = client.release() else { panic!("its bytes would be lost") };
    assert_eq!(client.unread(), b"GET / HT");
}
