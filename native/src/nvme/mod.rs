//! NVMe and NVMe-oF wire formats: pure parsing and encoding.

pub mod async_event;
pub mod authentication;
pub mod bytes;
pub mod command;
pub mod completion;
pub mod data_pointer;
pub mod discovery_log;
pub mod fabrics;
pub mod features;
pub mod identify;
pub mod log_page;
pub mod opcode;
pub mod private_data;
pub mod properties;
pub mod qualified_name;
pub mod status;
