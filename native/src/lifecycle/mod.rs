//! The port reducer: `(phase, event, now) -> (phase, actions)`. Pure.
