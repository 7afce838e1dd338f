//! The desired model: subsystems, namespaces, hosts, listeners; and the difference of two models.
//!
//! [`spec`] is what arrives, [`validate`] what it must fulfil, [`derive`] what follows from it, [`model`] what is
//! served, [`difference`] what a change means to one host.

pub mod authentication;
pub mod cidr;
pub mod derive;
pub mod difference;
#[cfg(test)]
pub(crate) mod fixture;
mod integer;
pub mod model;
pub mod spec;
pub mod validate;
