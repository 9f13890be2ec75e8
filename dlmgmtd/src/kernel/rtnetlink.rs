//! The real kernel, over rtnetlink.
