//! dlmgmt.
