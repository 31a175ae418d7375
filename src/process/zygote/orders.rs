//! The orders that a zygote is given, one at a time, and the one that it has not answered.

use super::*;

impl Zygote {
    /// The order of this number, if it was not answered before.
    pub(super) fn underway(&mut self, number: u32) -> Option<&mut Underway> {
        match &mut self.state {
            State::Ready { underway } | State::Ending { underway, .. } => {
                underway.as_mut().filter(|order| order.number == number)
            }
            State::Booting { .. } | State::Gone { .. } => None,
        }
    }

    /// The same, which is answered now.
    pub(super) fn answered(&mut self, number: u32) -> Option<Underway> {
        match &mut self.state {
            State::Ready { underway } | State::Ending { underway, .. } => {
                underway.take_if(|order| order.number == number)
            }
            State::Booting { .. } | State::Gone { .. } => None,
        }
    }

    /// Tells it the next order, if it has none.
    pub(super) fn pass_on(&mut self, now: Instant, news: &mut Vec<News>) {
        while let State::Ready { underway: None } = self.state {
            let Some(order) = self.queue.pop_front() else { return };
            self.last_number = self.last_number.wrapping_add(1);
            let (number, slot, side) = (self.last_number, order.slot, order.side);
            match self.send(number, &order) {
                Ok(()) => {
                    let deadline = now + self.patience;
                    let underway = Some(Underway { number, slot, side, deadline, told: None });
                    self.state = State::Ready { underway };
                }
                Err(Errno::EPIPE) => {
                    // The application may have closed our socket in a zygote that goes on living: nobody would
                    // hear of its end.
                    self.kill();
                    news.push(failed(order, SpawnCause::Gone));
                    self.give_up(SpawnCause::Gone, ZygoteEnding::Died, news);
                }
                Err(error) => news.push(failed(order, SpawnCause::Untold(error))),
            }
        }
    }

    fn send(&self, number: u32, order: &Order) -> Result<(), Errno> {
        let listeners = order.listeners.iter();
        let brief = Brief {
            number,
            slot: order.slot,
            side: order.side,
            has_access_log: order.access_log.is_some(),
            listeners: listeners.map(|listener| (listener.name.clone(), listener.owner)).collect(),
        };
        let packet = brief.encode();
        let mut numbers = vec![order.life.as_raw_fd(), order.doorbell.as_raw_fd()];
        numbers.extend(order.access_log.iter().map(AsRawFd::as_raw_fd));
        numbers.extend(order.listeners.iter().map(|listener| listener.socket.as_raw_fd()));
        if packet.len() > MESSAGE_BYTES || numbers.len() > MOST_DESCRIPTORS {
            return Err(Errno::EMSGSIZE);
        }
        let parts = [IoSlice::new(&packet)];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match socket::sendmsg::<()>(self.line.as_raw_fd(), &parts, &rights, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop),
            }
        }
    }
}
