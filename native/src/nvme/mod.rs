//! Wire formats of NVMe and NVMe-oF. Pure: no I/O, no clock.
