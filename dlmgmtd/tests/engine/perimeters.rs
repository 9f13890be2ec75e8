//! perimeters
