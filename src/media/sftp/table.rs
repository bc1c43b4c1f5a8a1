//! The requests that are under way: who waits for which reply, and how much that is. Ids are given
//! out one after the other, so the table is a queue; replies may come in any order, but whether
//! they came in that of the requests is noted, because it tells a server that works in order.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::wire::WireError;
use crate::wire::sftp::Response;

#[derive(Debug)]
pub(super) struct Table {
    /// The id of the first slot.
    first: u32,
    slots: VecDeque<Slot>,
    /// The reply that comes next if all come in order.
    due: u32,
    in_order: bool,
    waiting_bytes: usize,
    waiting_requests: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting {
        weight: u32,
        waker: Option<Waker>,
    },
    /// Nobody waits for the reply any more.
    Forgotten {
        weight: u32,
    },
    Answered(Response),
    Taken,
}

impl Table {
    pub fn new() -> Self {
        Table {
            first: 1,
            slots: VecDeque::new(),
            due: 1,
            in_order: true,
            waiting_bytes: 0,
            waiting_requests: 0,
        }
    }

    /// What the requests without a reply weigh.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub fn waiting_requests(&self) -> usize {
        self.waiting_requests
    }

    /// Whether every reply so far came in the order of the requests.
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Enters a request of so many bytes; gives its id.
    pub fn add(&mut self, weight: usize) -> u32 {
        let id = self.first.wrapping_add(self.slots.len() as u32);
        self.waiting_bytes += weight;
        self.waiting_requests += 1;
        self.slots.push_back(Slot::Waiting { weight: weight as u32, waker: None });
        id
    }

    /// Enters a reply; gives whoever waits for it.
    pub fn answer(&mut self, id: u32, response: Response) -> Result<Option<Waker>, WireError> {
        const STRAY: WireError = WireError::OutOfTurn("a reply to no request");
        let slot = self.slot(id).ok_or(STRAY)?;
        let (answered, weight, waker) = match std::mem::replace(slot, Slot::Taken) {
            Slot::Waiting { weight, waker } => (Slot::Answered(response), weight, waker),
            Slot::Forgotten { weight } => (Slot::Taken, weight, None),
            Slot::Answered(_) | Slot::Taken => return Err(STRAY),
        };
        *slot = answered;
        self.waiting_bytes -= weight as usize;
        self.waiting_requests -= 1;
        self.in_order &= id == self.due;
        self.due = id.wrapping_add(1);
        self.trim();
        Ok(waker)
    }

    /// Waits until `count` requests from `first` on are answered. The last one mostly is the last.
    pub fn poll(&mut self, first: u32, count: u32, context: &Context<'_>) -> Poll<()> {
        for id in (0..count).rev().map(|step| first.wrapping_add(step)) {
            if let Some(Slot::Waiting { waker, .. }) = self.slot(id) {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    pub fn is_answered(&self, first: u32, count: u32) -> bool {
        let from = first.wrapping_sub(self.first) as usize;
        (from..from + count as usize)
            .all(|at| !matches!(self.slots.get(at), Some(Slot::Waiting { .. })))
    }

    /// The reply to a request, once it is there.
    pub fn take(&mut self, id: u32) -> Option<Response> {
        let slot = self.slot(id)?;
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Answered(response) => {
                self.trim();
                Some(response)
            }
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Nobody waits for the reply to `id` any more.
    pub fn forget(&mut self, id: u32) {
        let Some(slot) = self.slot(id) else { return };
        *slot = match std::mem::replace(slot, Slot::Taken) {
            Slot::Waiting { weight, .. } | Slot::Forgotten { weight } => Slot::Forgotten { weight },
            Slot::Answered(_) | Slot::Taken => Slot::Taken,
        };
        self.trim();
    }

    /// Whoever waits, at the end of the connection.
    pub fn wakers(&mut self) -> Vec<Waker> {
        let waker = |slot: &mut Slot| match slot {
            Slot::Waiting { waker, .. } => waker.take(),
            Slot::Forgotten { .. } | Slot::Answered(_) | Slot::Taken => None,
        };
        self.slots.iter_mut().filter_map(waker).collect()
    }

    fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id.wrapping_sub(self.first) as usize)
    }

    fn trim(&mut self) {
        while let Some(Slot::Taken) = self.slots.front() {
            self.slots.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;

    use super::*;
    use crate::wire::sftp::StatusCode;

    fn done() -> Response {
        Response::Status { code: StatusCode::Ok, message: Bytes::new() }
    }

    fn is_ready(table: &mut Table, first: u32, count: u32) -> bool {
        table.poll(first, count, &Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_run_is_ready_when_all_of_it_is_answered_in_whatever_order() {
        let mut table = Table::new();
        let ids: Vec<u32> = (0..4).map(|_| table.add(10)).collect();
        assert_eq!((table.waiting_bytes(), table.waiting_requests()), (40, 4));
        table.answer(ids[3], done()).unwrap();
        assert!(!table.is_in_order());
        for id in &ids[..3] {
            assert!(!is_ready(&mut table, ids[0], 4));
            table.answer(*id, done()).unwrap();
        }
        assert!(is_ready(&mut table, ids[0], 4));
        assert!(ids.iter().all(|id| table.take(*id).is_some()));
        assert_eq!((table.waiting_bytes(), table.waiting_requests()), (0, 0));
        assert_eq!(table.slots.len(), 0);
    }

    #[test]
    fn replies_to_nothing_and_second_replies_are_refused() {
        let mut table = Table::new();
        let id = table.add(10);
        assert!(table.answer(id + 1, done()).is_err());
        assert!(table.answer(id.wrapping_sub(1), done()).is_err());
        assert!(table.answer(id, done()).is_ok());
        assert!(table.answer(id, done()).is_err());
        assert!(table.is_in_order());
    }

    #[test]
    fn what_nobody_waits_for_weighs_until_it_is_answered() {
        let mut table = Table::new();
        let (one, two) = (table.add(10), table.add(20));
        table.forget(one);
        assert_eq!(table.waiting_bytes(), 30);
        assert!(table.answer(one, done()).unwrap().is_none());
        assert_eq!(table.waiting_bytes(), 20);
        table.answer(two, done()).unwrap();
        table.forget(two);
        assert_eq!(table.slots.len(), 0);
    }

    #[test]
    fn ids_begin_again_after_the_last_one() {
        let mut table = Table { first: u32::MAX, due: u32::MAX, ..Table::new() };
        let (last, zero) = (table.add(1), table.add(1));
        assert_eq!((last, zero), (u32::MAX, 0));
        table.answer(last, done()).unwrap();
        table.answer(zero, done()).unwrap();
        assert!(table.is_in_order() && is_ready(&mut table, last, 2));
        assert!(table.take(zero).is_some() && table.take(last).is_some());
    }
}
