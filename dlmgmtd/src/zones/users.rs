//! Who has a namespace.
//!
//! What the service manager has open is what this process gave it to keep, and does not count.
//!
//! A namespace that the daemon itself keeps open, since links are lent to it, does not die with its
//! last user, and the kernel tells nobody who that was. So where neither a name nor a process ends
//! a zone, its users are looked for.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::source::identify;
use crate::model::NsCookie;

/// Whether anybody but this process is in the network namespace with this inode, has it open or
/// has it mounted, as far as this process may look into others.
pub(super) fn is_used(inode: u64) -> bool {
    let ns = format!("net:[{inode}]");
    // Nearly always there is a process inside, and the rest of the way is long.
    others().any(|process| is_link_to(&process.join("ns/net"), &ns))
        || others().any(|process| has_thread_in(&process, &ns) || has_open(&process, &ns))
        || is_mounted(&ns)
}

/// The namespace with this cookie, if a process is in it.
pub(super) fn find(cookie: NsCookie) -> Option<OwnedFd> {
    let mut seen = HashSet::new();
    others().map(|process| process.join("ns/net")).find_map(|place| {
        if !seen.insert(fs::read_link(&place).ok()?) {
            return None;
        }
        let (ns, found) = identify(File::open(&place).ok()?.into()).ok()?;
        (found == cookie).then_some(ns)
    })
}

/// The directories of all other processes that can be seen.
fn others() -> impl Iterator<Item = PathBuf> {
    let own = std::process::id();
    let pid = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let is_other = move |entry: &fs::DirEntry| pid(entry).is_some_and(|pid| pid != own);
    fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_other).map(|e| e.path())
}

fn has_thread_in(process: &Path, ns: &str) -> bool {
    any_entry(&process.join("task"), |thread| is_link_to(&thread.join("ns/net"), ns))
}

fn has_open(process: &Path, ns: &str) -> bool {
    service_manager().as_deref() != Some(process)
        && any_entry(&process.join("fd"), |file| is_link_to(file, ns))
}

fn is_mounted(ns: &str) -> bool {
    let mut seen = HashSet::new();
    others().any(|process| {
        let unseen = fs::read_link(process.join("ns/mnt")).ok().filter(|mnt| !seen.contains(mnt));
        let read = unseen.and_then(|mnt| Some((mnt, fs::read(process.join("mountinfo")).ok()?)));
        read.is_some_and(|(mnt, mounts)| seen.insert(mnt) && has_root(&mounts, ns))
    })
}

/// Whether a table of mounts has one whose root is called so. Places in it may be called by any bytes.
fn has_root(mounts: &[u8], root: &str) -> bool {
    let is_so = |line: &[u8]| line.split(|byte| *byte == b' ').nth(3) == Some(root.as_bytes());
    mounts.split(|byte| *byte == b'\n').any(is_so)
}

/// The service manager, if there is one.
fn service_manager() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let parent = rustix::process::getppid()?;
    Some(Path::new("/proc").join(parent.as_raw_pid().to_string()))
}

fn any_entry(directory: &Path, is_wanted: impl Fn(&Path) -> bool) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|entry| is_wanted(&entry))
}

fn is_link_to(link: &Path, target: &str) -> bool {
    fs::read_link(link).is_ok_and(|found| found.as_os_str() == target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command, Stdio};

    /// A process with a mount table and a network namespace of its own, ended when dropped.
    struct Other(Child);

    impl Other {
        fn run(script: &str) -> Self {
            let mut command = Command::new("unshare");
            command
                .args(["--net", "--mount", "sh", "-ec"])
                .arg(format!("{script}; echo ready; exec cat"));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            Self(child)
        }

        fn inode(&self) -> u64 {
            File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap().metadata().unwrap().ino()
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_process_inside_is_a_user_and_what_this_process_has_open_is_none() {
        let inside = Other::run("true");
        let inode = inside.inode();
        let own = File::open(format!("/proc/{}/ns/net", inside.0.id())).unwrap();
        assert!(is_used(inode));
        drop(inside);
        assert_eq!(own.metadata().unwrap().ino(), inode, "it lives as long as this is open");
        assert!(!is_used(inode));
    }

    #[test]
    fn who_has_it_open_or_mounted_is_a_user_too() {
        let inside = Other::run("true");
        let (pid, inode) = (inside.0.id(), inside.inode());
        let open = Other::run(&format!("exec 7</proc/{pid}/ns/net"));
        let place = tempfile::NamedTempFile::new().unwrap();
        let path = place.path().display();
        let mounted = Other::run(&format!("mount --bind /proc/{pid}/ns/net {path}"));
        drop(inside);
        assert!(is_used(inode));
        drop(mounted);
        assert!(is_used(inode));
        drop(open);
        assert!(!is_used(inode));
    }

    #[test]
    fn who_has_it_mounted_is_a_user_also_where_places_are_called_by_odd_bytes() {
        let inside = Other::run("true");
        let (pid, inode) = (inside.0.id(), inside.inode());
        let place = tempfile::NamedTempFile::new().unwrap();
        let odd = tempfile::tempdir().unwrap();
        let (path, odd) = (place.path().display(), odd.path().display());
        let mounted = Other::run(&format!(
            "odd={odd}/$(printf '\\377'); mkdir $odd; mount --bind $odd $odd;
             mount --bind /proc/{pid}/ns/net {path}"
        ));
        drop(inside);
        assert!(is_used(inode));
        drop(mounted);
        assert!(!is_used(inode));
    }
}
