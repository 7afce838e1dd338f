//! Threads, CPU pinning, the event ring, the real clock.
