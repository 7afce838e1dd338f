//! The desired model: subsystems, namespaces, hosts, listeners; and the difference of two models.

pub mod model;
