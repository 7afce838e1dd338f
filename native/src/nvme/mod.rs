//! NVMe and NVMe-oF wire formats: pure parsing and encoding.

pub mod bytes;
pub mod command;
pub mod completion;
pub mod data_pointer;
pub mod fabrics;
pub mod opcode;
pub mod private_data;
pub mod properties;
pub mod qualified_name;
pub mod status;
