//! The sources against the real kernel. Each test has a thread with a table of mounts of its own,
//! in which alone all names exist: what a test leaves behind ends with its thread.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

use super::*;

/// Only a hang lasts this long.
const GUARD: Duration = Duration::from_secs(60);

/// Runs a test in a thread with an own table of mounts, with an empty directory.
///
/// The directory belongs to the host's mounts: there it can be removed whatever the test mounted.
fn with_own_mounts<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    let body = move || {
        sys::enter_new_mount_namespace().unwrap();
        run("mount", ["--make-rprivate", "/"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(path));
    };
    let outcome = thread::spawn(body).join();
    dir.close().unwrap();
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", output.stderr.escape_ascii());
}

/// Makes a namespace and mounts it at `path`.
fn name_new(path: &Path) {
    fs::write(path, "").unwrap();
    mount_new(path);
}

fn mount_new(path: &Path) {
    run("unshare", [format!("--net={}", path.display()), "true".into()]);
}

fn bind(from: &Path, to: &Path) {
    run("mount", [OsStr::new("--bind"), from.as_os_str(), to.as_os_str()]);
}

/// Unmounts as `ip netns del` and others do: also while somebody just looks at the mount.
fn unmount(path: &Path) {
    run("umount", ["--lazy".as_ref(), path.as_os_str()]);
}

fn unname(path: &Path) {
    unmount(path);
    fs::remove_file(path).unwrap();
}

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

/// A process in a namespace of its own, ended when dropped.
struct Inmate(Child);

impl Inmate {
    fn new() -> Self {
        let script = "echo ready; exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).stdout(Stdio::piped());
        let mut child = Self(command.spawn().unwrap());
        let mut ready = [0; 6];
        io::Read::read_exact(child.0.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap()
    }

    fn ns(&self) -> OwnedFd {
        fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap().into()
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

struct Watch {
    sources: ZoneSources,
    events: SourceEvents,
}

impl Watch {
    fn new<const N: usize>(directories: [&Path; N]) -> Self {
        let directories = directories.into_iter().map(Path::to_owned).collect();
        let (sources, events) = ZoneSources::start(directories).unwrap();
        Self { sources, events }
    }

    /// Watches directories without zones.
    async fn settled<const N: usize>(directories: [&Path; N]) -> Self {
        let mut watch = Self::new(directories);
        assert!(matches!(watch.next().await, SourceEvent::Settled));
        watch
    }

    async fn next(&mut self) -> SourceEvent {
        tokio::time::timeout(GUARD, self.events.next()).await.expect("an event").unwrap()
    }

    async fn appeared(&mut self, name: &str) -> Found {
        match self.next().await {
            SourceEvent::Appeared(found) if found.name.as_str() == name => found,
            other => panic!("{name} should appear, not {other:?}"),
        }
    }

    async fn ended(&mut self, name: &str) -> EndReason {
        match self.next().await {
            SourceEvent::Ended { name: ended, why, .. } if ended.as_str() == name => why,
            other => panic!("{name} should end, not {other:?}"),
        }
    }
}

#[test]
fn what_is_there_at_the_start_is_told_before_settled() {
    with_own_mounts(|dir| async move {
        name_new(&dir.join("a"));
        name_new(&dir.join("b"));
        let mut watch = Watch::new([&*dir]);
        let mut names = Vec::new();
        while let SourceEvent::Appeared(found) = watch.next().await {
            names.push(found.name.to_string());
        }
        names.sort();
        assert_eq!(names, ["a", "b"]);
    });
}

#[test]
fn a_name_is_a_zone_from_its_mount_to_its_unmount() {
    with_own_mounts(|dir| async move {
        let mut watch = Watch::settled([&*dir]).await;
        let (early, late) = (dir.join("early"), dir.join("late"));
        fs::write(&early, "").unwrap();
        name_new(&late);
        watch.appeared("late").await;
        mount_new(&early);
        watch.appeared("early").await;
        unmount(&early);
        assert_eq!(watch.ended("early").await, EndReason::NameRemoved);
        unname(&late);
        assert_eq!(watch.ended("late").await, EndReason::NameRemoved);
        mount_new(&early);
        watch.appeared("early").await;
    });
}

/// `ip netns add` mounts the directory over itself before it makes the first name.
#[test]
fn names_of_ip_netns_are_zones() {
    with_own_mounts(|_| async move {
        let dir = Path::new("/run/netns");
        // The table of mounts is private by now: this hides the host's names, if there are any.
        run("mount", ["-t", "tmpfs", "tmpfs", "/run"]);
        let mut watch = Watch::settled([dir]).await;
        for round in 0..3 {
            run("ip", ["netns", "add", "first"]);
            let found = watch.appeared("first").await;
            assert!(matches!(found.source, Source::Directory(at) if at == dir.join("first")));
            run("ip", ["netns", "add", "second"]);
            watch.appeared("second").await;
            run("ip", ["netns", "del", "first"]);
            assert_eq!(watch.ended("first").await, EndReason::NameRemoved, "round {round}");
            run("ip", ["netns", "del", "second"]);
            watch.ended("second").await;
        }
    });
}

#[test]
fn many_names_come_and_go_and_none_stays() {
    with_own_mounts(|dir| async move {
        let mut watch = Watch::settled([&*dir]).await;
        let script = r#"cd "$1" || exit 1
            for n in $(seq 100); do : >z$n; unshare --net=z$n true || exit 1; done
            for n in $(seq 100); do umount --lazy z$n && rm z$n || exit 1; done
            : >last; unshare --net=last true"#;
        let mut child = Command::new("sh").args(["-c", script, "sh"]).arg(&dir).spawn().unwrap();
        let mut up = BTreeSet::new();
        // What is gone when `last` is there has been told before it.
        while !up.contains(&zone("last")) {
            match watch.next().await {
                SourceEvent::Appeared(found) => assert!(up.insert(found.name)),
                SourceEvent::Ended { name, .. } => assert!(up.remove(&name)),
                SourceEvent::Settled => panic!("told once already"),
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(up, BTreeSet::from([zone("last")]));
    });
}

#[test]
fn another_namespace_under_the_name_is_an_end_and_a_new_zone() {
    with_own_mounts(|dir| async move {
        let path = dir.join("a");
        name_new(&path);
        let mut watch = Watch::new([&*dir]);
        let before = watch.appeared("a").await;
        assert!(matches!(watch.next().await, SourceEvent::Settled));
        mount_new(&path);
        watch.ended("a").await;
        let after = watch.appeared("a").await;
        assert_ne!(before.cookie, after.cookie);
        // The mount below comes to light again.
        unmount(&path);
        watch.ended("a").await;
        assert_eq!(watch.appeared("a").await.cookie, before.cookie);
    });
}

#[test]
fn a_directory_may_come_late_go_and_come_again() {
    with_own_mounts(|dir| async move {
        let (way, names) = (dir.join("x"), dir.join("x/y/names"));
        let mut watch = Watch::settled([&*names]).await;
        fs::create_dir_all(&names).unwrap();
        name_new(&names.join("a"));
        watch.appeared("a").await;
        fs::rename(&names, dir.join("away")).unwrap();
        watch.ended("a").await;
        fs::rename(dir.join("away"), &names).unwrap();
        watch.appeared("a").await;
        unname(&names.join("a"));
        watch.ended("a").await;
        fs::remove_dir_all(&way).unwrap();
        fs::create_dir_all(&names).unwrap();
        name_new(&names.join("b"));
        watch.appeared("b").await;
    });
}

#[test]
fn a_directory_may_be_mounted_over() {
    with_own_mounts(|dir| async move {
        name_new(&dir.join("below"));
        let mut watch = Watch::new([&*dir]);
        watch.appeared("below").await;
        watch.next().await;
        run("mount", [OsStr::new("-t"), "tmpfs".as_ref(), "tmpfs".as_ref(), dir.as_ref()]);
        watch.ended("below").await;
        name_new(&dir.join("above"));
        watch.appeared("above").await;
        unmount(&dir);
        watch.ended("above").await;
        watch.appeared("below").await;
    });
}

#[test]
fn whatever_else_lies_in_a_directory_is_ignored() {
    with_own_mounts(|dir| async move {
        let at = |name: &str| dir.join(name);
        let inmate = Inmate::new();
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", inmate.pid()), at("link")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), "text").unwrap();
        run("mkfifo", [at("fifo")]);
        run("mknod", [at("device").as_os_str(), "c".as_ref(), "1".as_ref(), "5".as_ref()]);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("mounts"), "").unwrap();
        bind(Path::new("/proc/self/ns/uts"), &at("mounts"));
        fs::write(at("home"), "").unwrap();
        bind(Path::new("/proc/self/ns/net"), &at("home"));
        for name in ["global", "-x", ".x", "two words", &"n".repeat(65)] {
            name_new(&at(name));
        }
        let not_utf8 = dir.join(OsStr::from_bytes(b"caf\xe9"));
        fs::write(&not_utf8, "").unwrap();
        bind(&at("-x"), &not_utf8);
        name_new(&at("good"));

        let mut watch = Watch::new([&*dir]);
        watch.appeared("good").await;
        assert!(matches!(watch.next().await, SourceEvent::Settled));
        unname(&at("good"));
        watch.ended("good").await;
    });
}

#[test]
fn a_name_belongs_to_the_first_directory_until_it_ends_there() {
    with_own_mounts(|dir| async move {
        let (one, two) = (dir.join("1"), dir.join("2"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        name_new(&one.join("a"));
        name_new(&two.join("a"));
        let mut watch = Watch::new([&*one, &*two]);
        let first = watch.appeared("a").await;
        assert!(matches!(first.source, Source::Directory(path) if path == one.join("a")));
        assert!(matches!(watch.next().await, SourceEvent::Settled));
        unname(&one.join("a"));
        watch.ended("a").await;
        let second = watch.appeared("a").await;
        assert!(matches!(second.source, Source::Directory(path) if path == two.join("a")));
        // It stays there, though the first directory has the name again.
        name_new(&one.join("a"));
        name_new(&one.join("b"));
        watch.appeared("b").await;
        unname(&two.join("a"));
        watch.ended("a").await;
        watch.appeared("a").await;
    });
}

#[test]
fn a_namespace_has_one_name_and_its_other_name_takes_over() {
    with_own_mounts(|dir| async move {
        let (one, two) = (dir.join("one"), dir.join("two"));
        let mut watch = Watch::settled([&*dir]).await;
        name_new(&one);
        let before = watch.appeared("one").await;
        fs::write(&two, "").unwrap();
        bind(&one, &two);
        unname(&one);
        watch.ended("one").await;
        assert_eq!(watch.appeared("two").await.cookie, before.cookie);
    });
}

/// The other end of a veth shows it: the kernel removes it when the namespace dies.
#[test]
fn watching_keeps_no_namespace_alive() {
    with_own_mounts(|dir| async move {
        sys::enter_new_network_namespace().unwrap();
        let path = dir.join("a");
        let mut watch = Watch::settled([&*dir]).await;
        name_new(&path);
        drop(watch.appeared("a").await);
        let inside = format!("--net={}", path.display());
        run("ip", ["link", "add", "here", "type", "veth", "peer", "name", "there"]);
        let holder = Command::new("nsenter").args([&*inside, "sleep", "1000"]).spawn().unwrap();
        let holder = Inmate(holder);
        while fs::read_link(format!("/proc/{}/ns/net", holder.pid())).unwrap()
            == fs::read_link("/proc/thread-self/ns/net").unwrap()
        {
            tokio::task::yield_now().await;
        }
        run("ip", ["link", "set", "there", "netns", &holder.pid().to_string()]);
        drop(holder);
        // Nothing has it but the mount: neither the watch nor what was opened by it.
        unname(&path);
        watch.ended("a").await;
        let is_there = || {
            let shown = Command::new("ip").args(["link", "show", "here"]).output().unwrap();
            shown.status.success()
        };
        let gone = async {
            while is_there() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(GUARD, gone).await.expect("the namespace dies");
    });
}

#[test]
fn a_found_namespace_does_not_keep_its_mount_busy() {
    with_own_mounts(|dir| async move {
        let path = dir.join("a");
        let mut watch = Watch::settled([&*dir]).await;
        name_new(&path);
        let found = watch.appeared("a").await;
        let opened = found.source.opener(found.cookie).unwrap()().unwrap();
        // The watching thread may be having a short look at it, again and again but not for long.
        let free = async {
            while !Command::new("umount").arg(&path).status().unwrap().success() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(GUARD, free).await.expect("the mount is free");
        watch.ended("a").await;
        assert_eq!(source::identify(opened).unwrap().1, found.cookie);
    });
}

#[test]
fn an_opener_opens_its_namespace_or_nothing() {
    with_own_mounts(|dir| async move {
        let path = dir.join("a");
        let mut watch = Watch::settled([&*dir]).await;
        name_new(&path);
        let found = watch.appeared("a").await;
        let open = found.source.opener(found.cookie).unwrap();
        assert_eq!(source::identify(open().unwrap()).unwrap().1, found.cookie);
        mount_new(&path);
        assert!(open().unwrap_err().to_string().contains("another namespace"));
        unmount(&path);
        assert!(open().is_ok());
        unname(&path);
        assert_eq!(open().unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn the_zone_of_a_process_ends_with_it() {
    with_own_mounts(|dir| async move {
        let mut watch = Watch::settled([&*dir]).await;
        let (one, two) = (Inmate::new(), Inmate::new());
        let found = watch.sources.add_process(&zone("one"), one.pid()).unwrap();
        watch.sources.add_pidfd(&zone("two"), two.pidfd()).unwrap();
        let open = found.source.opener(found.cookie).unwrap();
        assert!(open().is_ok());
        drop(one);
        assert_eq!(watch.ended("one").await, EndReason::ProcessExited);
        assert!(open().is_err());
        drop(two);
        assert_eq!(watch.ended("two").await, EndReason::ProcessExited);
    });
}

#[test]
fn the_zone_of_a_path_ends_when_it_is_unmounted() {
    with_own_mounts(|dir| async move {
        let mut watch = Watch::settled([]).await;
        let path = dir.join("anything at all");
        name_new(&path);
        watch.sources.add_path(&zone("a"), path.clone()).unwrap();
        unmount(&path);
        assert_eq!(watch.ended("a").await, EndReason::NameRemoved);
    });
}

#[test]
fn what_is_registered_ends_on_request_and_once() {
    with_own_mounts(|_| async move {
        let mut watch = Watch::settled([]).await;
        let (one, two) = (Inmate::new(), Inmate::new());
        let sources = watch.sources.clone();
        let found = sources.add_descriptor(&zone("one"), one.ns()).unwrap();
        assert!(found.source.opener(found.cookie).is_none());
        sources.add_process(&zone("two"), two.pid()).unwrap();
        sources.remove(&zone("two")).unwrap();
        drop(two);
        assert_eq!(watch.ended("two").await, EndReason::Unregistered);
        sources.remove(&zone("one")).unwrap();
        assert_eq!(watch.ended("one").await, EndReason::Unregistered);
        assert!(matches!(sources.remove(&zone("one")), Err(SourceError::Unknown(_))));
    });
}

#[test]
fn a_name_is_free_when_its_end_has_been_taken() {
    with_own_mounts(|_| async move {
        let mut watch = Watch::settled([]).await;
        let (inmate, sources) = (Inmate::new(), watch.sources.clone());
        sources.add_process(&zone("a"), inmate.pid()).unwrap();
        sources.remove(&zone("a")).unwrap();
        let again = sources.add_process(&zone("a"), inmate.pid());
        assert!(matches!(again, Err(SourceError::Ending(_))), "{again:?}");
        watch.ended("a").await;
        sources.add_process(&zone("a"), inmate.pid()).unwrap();
    });
}

#[test]
fn a_registered_name_hides_that_of_a_directory_until_it_ends() {
    with_own_mounts(|dir| async move {
        let mut watch = Watch::settled([&*dir]).await;
        let inmate = Inmate::new();
        watch.sources.add_process(&zone("a"), inmate.pid()).unwrap();
        name_new(&dir.join("a"));
        name_new(&dir.join("b"));
        watch.appeared("b").await;
        let taken = watch.sources.add_process(&zone("b"), inmate.pid());
        assert!(matches!(taken, Err(SourceError::NameTaken(_))));
        let removed = watch.sources.remove(&zone("b"));
        assert!(matches!(removed, Err(SourceError::FromDirectory(_))));
        drop(inmate);
        watch.ended("a").await;
        watch.appeared("a").await;
    });
}

#[test]
fn what_is_no_namespace_of_a_zone_is_refused() {
    with_own_mounts(|dir| async move {
        let watch = Watch::settled([]).await;
        let (inmate, sources) = (Inmate::new(), &watch.sources);
        let refusal = |result: Result<Found, SourceError>| result.unwrap_err().to_string();
        let name = zone("a");

        let own = sources.add_process(&name, std::process::id().cast_signed());
        assert!(refusal(own).contains("zone global"));
        let reserved = sources.add_process(&ZoneName::global(), inmate.pid());
        assert!(refusal(reserved).contains("reserved"));
        for pid in [0, -1, i32::MAX] {
            assert!(refusal(sources.add_process(&name, pid)).contains("process"));
        }
        assert!(refusal(sources.add_pidfd(&name, inmate.ns())).contains("pidfd"));
        let relative = sources.add_path(&name, "ns".into());
        assert!(refusal(relative).contains("starts with"));
        let link = sources.add_path(&name, format!("/proc/{}/ns/net", inmate.pid()).into());
        assert!(refusal(link).contains("symbolic link"));
        let missing = sources.add_path(&name, dir.join("missing"));
        assert!(refusal(missing).contains("No such file"));
        let other_kind = fs::File::open("/proc/self/ns/uts").unwrap();
        assert!(refusal(sources.add_descriptor(&name, other_kind.into())).contains("another kind"));
        let file = fs::File::open("/dev/null").unwrap();
        assert!(refusal(sources.add_descriptor(&name, file.into())).contains("plain file"));

        sources.add_descriptor(&name, inmate.ns()).unwrap();
        let twice = sources.add_process(&zone("b"), inmate.pid());
        assert!(refusal(twice).contains("zone a"));
    });
}

#[test]
fn watching_ends_with_its_receiver() {
    with_own_mounts(|dir| async move {
        let Watch { sources, events } = Watch::settled([&*dir]).await;
        drop(events);
        let alone = async {
            while Arc::strong_count(&sources.shared) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(GUARD, alone).await.expect("the thread ends");
    });
}
