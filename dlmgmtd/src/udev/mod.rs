//! What the daemon and udev must agree on: the names of devices, from the moment when they appear.
//!
//! udev names a device by its rules and `.link` files, once it has appeared and whenever it comes
//! back from another namespace. A rule of ours asks for the name of a physical device (`name`), and
//! `.link` files keep udev's hands off the links that are the daemon's own (`link_files`).

mod link_files;
mod name;

pub use link_files::{LinkFile, LinkFiles, link_files};
pub use name::{NameError, Question};
