//! Events on their way out: JSON lines in a bounded ring, and one descriptor that says there are some.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::engine::control::events::Report;

/// Fewest bytes a ring may have.
pub(super) const RING_BYTES_MIN: usize = 64 << 10;

/// One part in so many is kept for critical events.
const CRITICAL_SHARE: usize = 8;

#[derive(Debug, Serialize)]
struct Line<'a> {
    seq: u64,
    #[serde(flatten)]
    report: &'a Report,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    last_sequence: u64,
    dropped: u64,
    announced: bool,
}

/// A bounded ring. When it is full, events are dropped and counted; the sequence numbers show the gap.
#[derive(Debug)]
pub struct EventRing {
    ring: Mutex<Ring>,
    emptied: Condvar,
    bytes_max: usize,
    announce: UnixStream,
    readable: UnixStream,
}

/// Room for no line at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the buffer is shorter than the next event of {needed} bytes")]
pub struct BufferTooSmall {
    /// Bytes needed.
    pub needed: usize,
}

impl EventRing {
    /// An empty ring of about this many bytes.
    ///
    /// # Errors
    /// The system's, when there are no descriptors left.
    pub fn new(bytes_max: usize) -> io::Result<Self> {
        let (announce, readable) = UnixStream::pair()?;
        announce.set_nonblocking(true)?;
        readable.set_nonblocking(true)?;
        Ok(Self {
            ring: Mutex::default(),
            emptied: Condvar::new(),
            bytes_max: bytes_max.max(RING_BYTES_MIN),
            announce,
            readable,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A panic elsewhere must not keep the fatal event from leaving.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event in, or drops and counts it.
    pub fn push(&self, report: &Report) {
        let mut ring = self.lock();
        ring.last_sequence += 1;
        let line = Line {
            seq: ring.last_sequence,
            report,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else {
            ring.dropped += 1;
            return;
        };
        text.push(b'\n');
        let critical = report.event.is_critical();
        let room = if critical {
            self.bytes_max
        } else {
            self.bytes_max - self.bytes_max / CRITICAL_SHARE
        };
        if ring.bytes + text.len() > room {
            ring.dropped += 1;
            return;
        }
        ring.bytes += text.len();
        ring.lines.push_back(text);
        if !ring.announced {
            ring.announced = true;
            // A full socket is an announcement already.
            let _ = (&self.announce).write(&[1]);
        }
    }

    /// Takes whole lines, oldest first, as many as fit; the bytes written.
    ///
    /// # Errors
    /// When not even one line fits.
    pub fn take(&self, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let mut ring = self.lock();
        let mut written = 0;
        while let Some(line) = ring.lines.pop_front() {
            let end = written + line.len();
            if end > buffer.len() {
                let needed = line.len();
                ring.lines.push_front(line);
                return if written == 0 {
                    Err(BufferTooSmall { needed })
                } else {
                    Ok(written)
                };
            }
            buffer[written..end].copy_from_slice(&line);
            ring.bytes -= line.len();
            written = end;
        }
        ring.announced = false;
        self.emptied.notify_all();
        Ok(written)
    }

    /// Readable when there are events: one byte or more.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.readable.as_raw_fd()
    }

    /// Events dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits until everything was taken, but no longer than this.
    pub fn wait_until_empty(&self, timeout: Duration) {
        let ring = self.lock();
        let _ = self
            .emptied
            .wait_timeout_while(ring, timeout, |ring| !ring.lines.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::engine::control::events::{Event, Level};

    fn report(event: Event) -> Report {
        Report {
            time_ms: 1,
            level: Level::Info,
            event,
        }
    }

    fn link(up: bool) -> Report {
        report(Event::LinkState {
            listener: "storage".into(),
            netdev: "rdma0".into(),
            up,
        })
    }

    #[test]
    fn lines_come_out_whole_in_order_and_numbered() {
        let ring = EventRing::new(RING_BYTES_MIN).unwrap();
        ring.push(&link(false));
        ring.push(&link(true));
        let mut buffer = [0; 120];
        let first = ring.take(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..first].to_vec()).unwrap();
        assert!(
            text.starts_with(r#"{"seq":1,"timeMs":1,"level":"info","type":"linkState""#),
            "{text}"
        );
        assert!(text.ends_with("\"up\":false}\n"), "{text}");
        let second = ring.take(&mut buffer).unwrap();
        assert!(second > 0);
        assert_eq!(ring.take(&mut buffer), Ok(0));
    }

    #[test]
    fn a_buffer_too_short_for_a_line_is_told_how_long_it_is() {
        let ring = EventRing::new(RING_BYTES_MIN).unwrap();
        ring.push(&link(true));
        let Err(BufferTooSmall { needed }) = ring.take(&mut [0; 10]) else {
            panic!("it does not fit")
        };
        assert_eq!(ring.take(&mut vec![0; needed]), Ok(needed));
    }

    #[test]
    fn a_full_ring_drops_and_counts_but_keeps_room_for_what_is_critical() {
        let ring = EventRing::new(RING_BYTES_MIN).unwrap();
        for _ in 0..2000 {
            ring.push(&link(true));
        }
        let dropped = ring.dropped();
        assert!(dropped > 0);
        ring.push(&report(Event::Fatal {
            message: "end".into(),
            exit_code: 70,
        }));
        assert_eq!(ring.dropped(), dropped);
        let mut buffer = vec![0; RING_BYTES_MIN];
        let length = ring.take(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let last = text.lines().last().unwrap();
        assert!(last.contains(r#""seq":2001,"#) && last.contains("fatal"), "{last}");
    }

    #[test]
    fn the_descriptor_is_readable_exactly_when_there_is_something_new() {
        let ring = EventRing::new(RING_BYTES_MIN).unwrap();
        let mut byte = [0; 8];
        assert!((&ring.readable).read(&mut byte).is_err(), "nothing yet");
        ring.push(&link(true));
        ring.push(&link(false));
        assert_eq!((&ring.readable).read(&mut byte).unwrap(), 1);
        let mut buffer = [0; 4096];
        ring.take(&mut buffer).unwrap();
        ring.push(&link(true));
        assert_eq!((&ring.readable).read(&mut byte).unwrap(), 1);
    }
}
