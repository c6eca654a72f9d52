//! The bounded door between threads.
//!
//! A full mailbox never waits and never grows: the sender gets its item back and decides what that
//! means (a drop that is counted, an answer to its peer).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

/// The item that did not fit, or whose receiver is gone.
#[derive(Debug)]
pub struct Refused<T>(pub T);

/// The sending side; clone it for every thread that sends.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    refused: Arc<AtomicU64>,
}

/// The receiving side, owned by one thread.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
}

/// A mailbox for at most `capacity` items.
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Sender { queue: sender, refused: Arc::default() }, Receiver { queue: receiver })
}

impl<T> Sender<T> {
    /// Puts `item` into the mailbox, or gives it back at once.
    pub fn send(&self, item: T) -> Result<(), Refused<T>> {
        self.queue.try_send(item).map_err(|error| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Refused(error.into_inner())
        })
    }

    /// Waits for room. For the control plane only: a worker must not wait for another.
    pub async fn send_waiting(&self, item: T) -> Result<(), Refused<T>> {
        self.queue.send(item).await.map_err(|error| Refused(error.0))
    }

    /// Items that wait now.
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Items that were given back since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), refused: Arc::clone(&self.refused) }
    }
}

impl<T> Receiver<T> {
    /// The next item; `None` when every sender is gone.
    pub async fn recv(&mut self) -> Option<T> {
        self.queue.recv().await
    }

    /// Appends up to `limit` items to `items`, waiting for the first; 0 when every sender is gone.
    pub async fn recv_many(&mut self, items: &mut Vec<T>, limit: usize) -> usize {
        self.queue.recv_many(items, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_item_back_and_counts_it() {
        let (sender, _receiver) = mailbox(1);
        sender.send("first").unwrap();
        let Refused(item) = sender.send("second").unwrap_err();
        assert_eq!((item, sender.depth(), sender.refused()), ("second", 1, 1));
    }
}
