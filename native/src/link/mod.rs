//! The rtnetlink monitor.
