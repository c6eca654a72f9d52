//! A mailbox that is bounded in bytes: between workers, and between workers and a broker.
//!
//! A sender hears early when room gets scarce, so that it can stop reading from its client before
//! anything has to be refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidewire_runtime::mailbox::{self, Refused};

/// What an item holds while it waits.
pub(crate) trait Weigh {
    /// Its bytes, [`ITEM_BYTES`] included. 0 is for what steers and must get through: it is
    /// not counted against the bound.
    fn weight(&self) -> usize;
}

/// How much room a queue has after an item went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    Ample,
    /// More than half full: whoever can wait should.
    Scarce,
}

/// The sending side; clone it for every thread that sends.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    mailbox: mailbox::Sender<T>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The receiving side, owned by one task.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    mailbox: mailbox::Receiver<T>,
    bytes: Arc<AtomicUsize>,
}

/// A queue for items of `bytes_max` bytes together.
pub(crate) fn queue<T: Weigh>(bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    // The byte bound is met first, as no item weighs less than ITEM_BYTES.
    let capacity = bytes_max.div_ceil(ITEM_BYTES) + STEERING_ITEMS;
    let (sender, receiver) = mailbox::mailbox(capacity.min(MAILBOX_ITEMS_MAX));
    let bytes = Arc::new(AtomicUsize::new(0));
    (
        Sender { mailbox: sender, bytes: Arc::clone(&bytes), bytes_max },
        Receiver { mailbox: receiver, bytes },
    )
}

impl<T: Weigh> Sender<T> {
    /// Puts `item` in, or gives it back at once.
    pub(crate) fn send(&self, item: T) -> Result<Room, Refused<T>> {
        let weight = item.weight();
        let before = self.bytes.fetch_add(weight, Ordering::Relaxed);
        let after = before + weight;
        // One item that is bigger than the bound may pass alone.
        let refused = if weight > 0 && before > 0 && after > self.bytes_max {
            Err(Refused(item))
        } else {
            self.mailbox.send(item)
        };
        match refused {
            Ok(()) if after > self.bytes_max / 2 => Ok(Room::Scarce),
            Ok(()) => Ok(Room::Ample),
            Err(refused) => {
                self.bytes.fetch_sub(weight, Ordering::Relaxed);
                Err(refused)
            }
        }
    }

    /// Bytes that wait now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            bytes: Arc::clone(&self.bytes),
            bytes_max: self.bytes_max,
        }
    }
}

impl<T: Weigh> Receiver<T> {
    /// Appends up to `limit` items to `items`, which is empty, waiting for the first; 0 when every
    /// sender is gone.
    pub(crate) async fn recv_many(&mut self, items: &mut Vec<T>, limit: usize) -> usize {
        debug_assert!(items.is_empty(), "items are weighed once");
        let count = self.mailbox.recv_many(items, limit).await;
        let weight = items.iter().map(Weigh::weight).sum();
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
        count
    }
}

/// What an item costs besides its payload, about.
pub(crate) const ITEM_BYTES: usize = 128;

/// Items of weight 0 that fit besides a full load.
const STEERING_ITEMS: usize = 64 * 1024;

/// The most that the semaphore of a mailbox can count, with a margin.
const MAILBOX_ITEMS_MAX: usize = usize::MAX >> 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(usize);

    impl Weigh for Item {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_full_queue_gives_the_item_back_and_says_early_that_room_is_scarce() {
        let (sender, _receiver) = queue(1000);
        assert_eq!(sender.send(Item(400)).unwrap(), Room::Ample);
        assert_eq!(sender.send(Item(200)).unwrap(), Room::Scarce);
        let Refused(item) = sender.send(Item(401)).unwrap_err();
        assert_eq!(item, Item(401));
        assert_eq!(sender.send(Item(400)).unwrap(), Room::Scarce);
        assert_eq!(sender.bytes(), 1000);
    }

    #[test]
    fn what_steers_passes_a_full_queue() {
        let (sender, _receiver) = queue(1000);
        sender.send(Item(1000)).unwrap();
        sender.send(Item(0)).unwrap();
        assert!(sender.send(Item(128)).is_err());
    }

    #[test]
    fn an_item_bigger_than_the_queue_passes_alone() {
        let (sender, _receiver) = queue(1000);
        sender.send(Item(5000)).unwrap();
        assert!(sender.send(Item(128)).is_err());
    }

    #[tokio::test]
    async fn taking_items_makes_room() {
        let (sender, mut receiver) = queue(1000);
        sender.send(Item(600)).unwrap();
        sender.send(Item(300)).unwrap();
        let mut items = Vec::new();
        assert_eq!(receiver.recv_many(&mut items, 1).await, 1);
        assert_eq!(sender.bytes(), 300);
        assert_eq!(sender.send(Item(100)).unwrap(), Room::Ample);
    }
}
