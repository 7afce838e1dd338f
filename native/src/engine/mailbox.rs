//! Bounded mailboxes between the control thread and the pollers. Neither side ever blocks on the other: a full mailbox
//! gives the message back.

use std::fmt;
use std::sync::Arc;

#[cfg(not(feature = "simulation"))]
use std::sync::mpsc;
#[cfg(feature = "simulation")]
use visible as mpsc;

/// Wakes the thread that reads a mailbox. The runtime writes to an eventfd; tests count.
pub trait Wake: fmt::Debug + Send + Sync {
    /// May be called from any thread, any number of times; must not block.
    fn wake(&self);
}

/// For readers that never sleep, and for tests that step by hand.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// The mailbox is full, or its reader is gone: the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// No room now: try again after the reader took some.
    Full(T),
    /// Nobody will ever read it.
    Disconnected(T),
}

/// Writing end.
#[derive(Debug)]
pub struct Sender<T> {
    channel: mpsc::SyncSender<T>,
    wake: Arc<dyn Wake>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            channel: self.channel.clone(),
            wake: Arc::clone(&self.wake),
        }
    }
}

impl<T> Sender<T> {
    /// Puts a message in and wakes the reader.
    ///
    /// # Errors
    /// Gives the message back when there is no room or no reader.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.channel.try_send(message) {
            Ok(()) => {
                self.wake.wake();
                Ok(())
            }
            Err(mpsc::TrySendError::Full(message)) => Err(SendError::Full(message)),
            Err(mpsc::TrySendError::Disconnected(message)) => Err(SendError::Disconnected(message)),
        }
    }
}

/// Reading end.
#[derive(Debug)]
pub struct Receiver<T> {
    channel: mpsc::Receiver<T>,
}

impl<T> Receiver<T> {
    /// The next message, if there is one now.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.channel.try_recv().ok()
    }
}

/// A mailbox with room for `capacity` messages; `wake` wakes its reader.
#[must_use]
pub fn mailbox<T>(capacity: usize, wake: Arc<dyn Wake>) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox without room hands messages over, which blocks");
    let (sender, receiver) = mpsc::sync_channel(capacity);
    (Sender { channel: sender, wake }, Receiver { channel: receiver })
}

/// The same channel for simulations, which have to see what is under way in it.
#[cfg(feature = "simulation")]
mod visible {
    use std::collections::VecDeque;
    use std::fmt;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    pub(super) struct SyncSender<T>(Arc<Mutex<VecDeque<T>>>, usize);
    pub(super) struct Receiver<T>(Arc<Mutex<VecDeque<T>>>);
    pub(super) struct Empty;

    pub(super) enum TrySendError<T> {
        Full(T),
        Disconnected(T),
    }

    pub(super) fn sync_channel<T>(capacity: usize) -> (SyncSender<T>, Receiver<T>) {
        let queue = Arc::new(Mutex::new(VecDeque::with_capacity(capacity)));
        (SyncSender(Arc::clone(&queue), capacity), Receiver(queue))
    }

    fn locked<T>(queue: &Mutex<VecDeque<T>>) -> MutexGuard<'_, VecDeque<T>> {
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl<T> SyncSender<T> {
        pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            // The sender is never cloned in a simulation: the other handle is the receiver.
            if Arc::strong_count(&self.0) == 1 {
                return Err(TrySendError::Disconnected(message));
            }
            let mut queue = locked(&self.0);
            if queue.len() >= self.1 {
                return Err(TrySendError::Full(message));
            }
            queue.push_back(message);
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(super) fn try_recv(&self) -> Result<T, Empty> {
            locked(&self.0).pop_front().ok_or(Empty)
        }
    }

    impl<T> Clone for SyncSender<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0), self.1)
        }
    }

    impl<T> fmt::Debug for SyncSender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SyncSender")
        }
    }

    impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_list().entries(locked(&self.0).iter()).finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_does_not_block() {
        let (sender, receiver) = mailbox(1, Arc::new(NeverAsleep));
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Err(SendError::Full(2)));
        assert_eq!(receiver.take(), Some(1));
        assert_eq!(sender.send(3), Ok(()));
        drop(receiver);
        assert_eq!(sender.send(4), Err(SendError::Disconnected(4)));
    }

    #[test]
    fn each_message_wakes_the_reader() {
        let bell = Arc::new(Bell::default());
        let (sender, receiver) = mailbox(4, bell.clone());
        assert_eq!(receiver.take(), None);
        sender.send('a').unwrap();
        sender.send('b').unwrap();
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
        assert_eq!(
            (receiver.take(), receiver.take(), receiver.take()),
            (Some('a'), Some('b'), None)
        );
    }
}
