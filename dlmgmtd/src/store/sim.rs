//! A simulated store.
