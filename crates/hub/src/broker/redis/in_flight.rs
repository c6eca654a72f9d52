//! Publications that Redis was given and that have not come back yet.
//!
//! Pure. Sequence numbers are given out here, one after the other; replies come in the same order.

use std::collections::VecDeque;

use crate::broker::Reach;
use crate::publication::Publication;
use crate::queue::ITEM_BYTES;
use crate::topic::Topic;

/// What is under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The last number given out.
    last: u64,
    /// The last number that Redis has replied to.
    acked: u64,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    topic: Topic,
    publication: Publication,
}

impl InFlight {
    /// Adds a publication that is about to be sent, and gives it its number.
    pub(super) fn push(&mut self, topic: Topic, publication: Publication) -> u64 {
        self.last += 1;
        self.bytes += publication.payload.len() + ITEM_BYTES;
        self.entries.push_back(Entry { sequence: self.last, topic, publication });
        self.last
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Redis has replied to the next `count` publications.
    pub(super) fn ack(&mut self, count: u64) {
        self.acked += count;
        debug_assert!(self.acked <= self.last, "replies belong to what was sent");
    }

    /// Forgets what needs no more care: Redis has replied, and it has come back as well, where the
    /// node is subscribed. Redis since 7.2 sends the reply first.
    pub(super) fn forget(&mut self, echoed: u64, is_wanted: impl Fn(&Topic) -> bool) {
        while let Some(entry) = self.entries.front() {
            let is_done = entry.sequence <= self.acked
                && (entry.sequence <= echoed || !is_wanted(&entry.topic));
            if !is_done {
                return;
            }
            self.bytes -= entry.publication.payload.len() + ITEM_BYTES;
            self.entries.pop_front();
        }
    }

    /// The connection is gone: takes out what has not come back, oldest first, with what is known
    /// of its reach.
    pub(super) fn settle(
        &mut self,
        echoed: u64,
    ) -> impl Iterator<Item = (Topic, Publication, Reach)> {
        let acked = std::mem::replace(&mut self.acked, self.last);
        self.bytes = 0;
        let entries = std::mem::take(&mut self.entries);
        entries.into_iter().filter(move |entry| entry.sequence > echoed).map(move |entry| {
            let reach = match entry.sequence <= acked {
                true => Reach::Everywhere,
                false => Reach::Unknown,
            };
            (entry.topic, entry.publication, reach)
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::publication::{ClientId, Kind, NodeId, Origin};

    fn sent(payloads: &[&'static str]) -> InFlight {
        let mut in_flight = InFlight::default();
        for payload in payloads {
            let origin = Origin { node: NodeId(1), client: ClientId(1) };
            let payload = Bytes::from_static(payload.as_bytes());
            let publication = Publication { kind: Kind::Text, origin, payload };
            in_flight.push(Topic::new("t").unwrap(), publication);
        }
        in_flight
    }

    fn settled(in_flight: &mut InFlight, echoed: u64) -> Vec<(Bytes, Reach)> {
        in_flight.settle(echoed).map(|(_, it, reach)| (it.payload, reach)).collect()
    }

    #[test]
    fn what_has_come_back_is_not_delivered_again() {
        let mut in_flight = sent(&["a", "b", "c"]);
        in_flight.ack(1);
        assert_eq!(
            settled(&mut in_flight, 1),
            [("b".into(), Reach::Unknown), ("c".into(), Reach::Unknown)]
        );
        assert_eq!((in_flight.bytes(), settled(&mut in_flight, 1)), (0, vec![]));
    }

    #[test]
    fn a_reply_without_its_push_still_reaches_the_node() {
        let mut in_flight = sent(&["a", "b"]);
        in_flight.ack(2);
        in_flight.forget(1, |_| true);
        assert_eq!(settled(&mut in_flight, 1), [("b".into(), Reach::Everywhere)]);
    }

    #[test]
    fn where_nobody_is_subscribed_the_reply_is_enough() {
        let mut in_flight = sent(&["a", "b"]);
        in_flight.ack(1);
        in_flight.forget(0, |_| false);
        assert_eq!(settled(&mut in_flight, 0), [("b".into(), Reach::Unknown)]);
    }

    #[test]
    fn numbers_go_on_after_a_break() {
        let mut in_flight = sent(&["a"]);
        settled(&mut in_flight, 0);
        assert_eq!(in_flight.last(), 1);
        let origin = Origin { node: NodeId(1), client: ClientId(1) };
        let publication = Publication { kind: Kind::Text, origin, payload: Bytes::new() };
        assert_eq!(in_flight.push(Topic::new("t").unwrap(), publication), 2);
        in_flight.ack(1);
        in_flight.forget(2, |_| true);
        assert_eq!(in_flight.bytes(), 0);
    }
}
