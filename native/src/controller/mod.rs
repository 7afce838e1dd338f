//! One association: `(state, command, now) -> (state, effects)` for fabrics, admin and I/O commands. Pure.
