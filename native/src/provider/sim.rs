//! The deterministic provider.
