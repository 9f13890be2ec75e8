//! The store in sled.
