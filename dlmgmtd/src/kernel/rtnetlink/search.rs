//! Looking for an open door to a namespace that is known by its inode alone.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What namespaces are called while they live: after that, another one may be called the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// The inode of an open namespace.
    pub fn of(ns: impl AsFd) -> io::Result<Self> {
        let status = rustix::fs::fstat(ns)?;
        Ok(Self { device: status.st_dev, number: status.st_ino })
    }

    fn is_of(self, path: &Path) -> bool {
        let found = std::fs::metadata(path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.number))
    }
}

/// Descriptors of namespaces of this inode: by a name that it is mounted on, or by a process that
/// is in it.
pub fn descriptors(inode: Inode) -> impl Iterator<Item = OwnedFd> {
    places()
        .filter(move |place| inode.is_of(place))
        .filter_map(|place| File::open(place).ok().map(OwnedFd::from))
}

/// Every namespace that has a name or a process, once, with where it was found.
pub fn namespaces() -> impl Iterator<Item = (PathBuf, OwnedFd)> {
    let mut known = Vec::new();
    places().filter_map(move |place| {
        let ns = OwnedFd::from(File::open(&place).ok()?);
        let inode = Inode::of(&ns).ok()?;
        if known.contains(&inode) {
            return None;
        }
        known.push(inode);
        Some((place, ns))
    })
}

/// The process whose namespace lies at this place, if it is one's.
pub fn process_of(place: &Path) -> Option<i32> {
    place.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()
}

fn places() -> impl Iterator<Item = PathBuf> {
    mounted().into_iter().chain(processes())
}

/// Where namespaces are mounted.
fn mounted() -> Vec<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|byte| *byte == b'\n').filter_map(namespace_mounted).collect()
}

/// The place of a mount by its line in mountinfo (`ID PARENT DEVICE ROOT PLACE ...`), if what is
/// mounted is a network namespace: the root of that is called `net:[INODE]`.
fn namespace_mounted(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let root = fields.next()?;
    let place = fields.next()?;
    root.starts_with(b"net:[").then(|| PathBuf::from(OsString::from_vec(unescaped(place))))
}

/// Blanks and backslashes in a place are written as three octal digits after a backslash.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// The namespaces of all processes, as far as they can be seen.
fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &OsString| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries
        .filter(move |entry| is_number(&entry.file_name()))
        .map(|entry| entry.path().join("ns/net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_namespaces_are_found_among_mounts() {
        let named = b"93 31 0:4 net:[4026532281] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw";
        assert_eq!(namespace_mounted(named), Some(PathBuf::from("/run/netns/a b")));
        let other = b"94 31 0:4 mnt:[4026532282] /run/mnt rw - nsfs nsfs rw";
        assert_eq!(namespace_mounted(other), None);
        assert_eq!(namespace_mounted(b"95 31 0:24 / /run rw - tmpfs tmpfs rw"), None);
        assert_eq!(namespace_mounted(b""), None);
    }

    #[test]
    fn escapes_in_places_are_undone_and_what_is_none_stays() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped(b"/a\\9z\\04"), b"/a\\9z\\04");
    }

    #[test]
    fn the_namespace_of_this_process_is_found_by_it() {
        let own = File::open("/proc/self/ns/net").unwrap();
        let inode = Inode::of(&own).unwrap();
        let found = descriptors(inode).next().unwrap();
        assert_eq!(Inode::of(&found).unwrap(), inode);
    }
}
