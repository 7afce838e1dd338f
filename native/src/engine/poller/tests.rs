//! Tests of the poller against the simulated provider.
