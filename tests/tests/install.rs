//! `make install` and what it installs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dlmgmt_tests::{Host, Output, bin, eventually};
use tempfile::TempDir;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What `make` with these words says, of the binaries in this directory.
#[track_caller]
fn make(words: &[&str], binaries: &Path) -> String {
    let mut make = Command::new("make");
    // Not the jobs of a make that runs the tests.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make.arg("-C").arg(project("")).args(words).arg(format!("BINARIES={}", binaries.display()));
    Output::from(make.output().unwrap()).ok()
}

/// What was installed, in a directory of its own.
struct Installed {
    dir: TempDir,
    destdir: String,
    prefix: String,
}

impl Installed {
    /// As a package is made: to be used below `prefix`, but put elsewhere.
    fn with_prefix(prefix: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let destdir = dir.path().to_str().unwrap().to_owned();
        let installed = Self { dir, destdir, prefix: prefix.to_owned() };
        installed.make("install");
        installed
    }

    /// To be used where it is.
    fn in_place() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().to_str().unwrap().to_owned();
        let installed = Self { dir, destdir: String::new(), prefix };
        installed.make("install");
        installed
    }

    #[track_caller]
    fn make(&self, target: &str) {
        let binaries = bin("dladm");
        let prefix = format!("PREFIX={}", self.prefix);
        let destdir = format!("DESTDIR={}", self.destdir);
        make(&["--silent", target, &prefix, &destdir], binaries.parent().unwrap());
    }

    fn path(&self, below_prefix: &str) -> PathBuf {
        Path::new(&format!("{}{}", self.destdir, self.prefix)).join(below_prefix)
    }

    fn text(&self, below_prefix: &str) -> String {
        fs::read_to_string(self.path(below_prefix)).unwrap()
    }

    /// Every file below the prefix, with its mode.
    fn files(&self) -> BTreeMap<String, u32> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let name = path.strip_prefix(self.path("")).expect("all is below the prefix");
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                files.insert(name.to_str().unwrap().to_owned(), mode);
            }
        }
        files
    }
}

#[test]
fn every_file_is_where_its_reader_looks_for_it_with_a_mode_that_suits() {
    let files = Installed::with_prefix("/usr").files();
    for path in [
        "sbin/dladm",
        "sbin/dlmgmtd",
        "share/man/man8/dladm.8",
        "share/man/man8/dlmgmtd.8",
        "share/man/man5/dlmgmtd.toml.5",
        "share/man/man5/org.dlmgmt1.5",
        "share/bash-completion/completions/dladm",
        "share/fish/vendor_completions.d/dladm.fish",
        "share/dbus-1/interfaces/org.dlmgmt1.Manager.xml",
        "share/dbus-1/interfaces/org.dlmgmt1.Link.xml",
        "share/dbus-1/interfaces/org.dlmgmt1.Zone.xml",
        "share/dbus-1/system.d/org.dlmgmt1.conf",
        "share/polkit-1/actions/org.dlmgmt1.policy",
        "lib/systemd/system/dlmgmtd.service",
        "share/doc/dlmgmt/README.md",
        "share/doc/dlmgmt/LICENSE-MIT",
        "share/doc/dlmgmt/LICENSE-APACHE",
        "share/doc/dlmgmt/examples/dlmgmtd.toml",
    ] {
        assert!(files.contains_key(path), "{path} is not in {files:#?}");
    }
    for (path, mode) in files {
        let wanted = if path.starts_with("sbin/") { 0o755 } else { 0o644 };
        assert_eq!(mode, wanted, "{path}: {mode:o}");
    }
}

#[test]
fn nothing_that_the_system_s_services_are_to_read_is_forgotten() {
    let files = Installed::with_prefix("/usr").files();
    for name in names_in(&project("systemd")) {
        let installed_as = match name.as_str() {
            "dlmgmt.sysusers" => "lib/sysusers.d/dlmgmt.conf".to_owned(),
            "dlmgmt.tmpfiles" => "lib/tmpfiles.d/dlmgmt.conf".to_owned(),
            _ => format!("/{name}"),
        };
        assert!(files.keys().any(|path| path.ends_with(&installed_as)), "{name}");
    }
}

#[test]
fn services_name_the_programs_where_these_were_installed() {
    let installed = Installed::with_prefix("/opt/dlmgmt");
    let unit = installed.text("lib/systemd/system/dlmgmtd.service");
    assert!(unit.contains("\nExecStart=/opt/dlmgmt/sbin/dlmgmtd"), "{unit}");
    for dir in ["lib/systemd/system", "lib/udev/rules.d", "share/dbus-1/system-services"] {
        let Ok(entries) = fs::read_dir(installed.path(dir)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(&path).unwrap();
            for program in ["dlmgmtd", "dladm"] {
                assert!(!text.contains(&format!("/usr/sbin/{program}")), "{}", path.display());
            }
        }
    }
}

#[test]
fn uninstall_leaves_nothing_but_what_was_there_before() {
    let installed = Installed::with_prefix("/usr/local");
    let foreign = installed.path("share/man/man8/other.8");
    fs::write(&foreign, "").unwrap();
    installed.make("uninstall");
    assert_eq!(installed.files().into_keys().collect::<Vec<_>>(), ["share/man/man8/other.8"]);
    assert_eq!(names_in(&installed.path("")), ["share"]);
    fs::remove_file(&foreign).unwrap();
    installed.make("uninstall");
    assert!(!installed.path("share/doc").exists());
}

#[test]
fn the_introspection_data_and_the_policies_are_sound_xml() {
    let installed = Installed::with_prefix("/usr");
    let xml: Vec<PathBuf> = installed
        .files()
        .into_keys()
        .filter(|path| path.ends_with(".xml") || path.contains("org.dlmgmt1.conf"))
        .chain(["share/polkit-1/actions/org.dlmgmt1.policy".to_owned()])
        .map(|path| installed.path(&path))
        .collect();
    assert_eq!(xml.len(), 5, "{xml:?}");
    let parse = "import sys, xml.etree.ElementTree as x; [x.parse(p) for p in sys.argv[1:]]";
    let parsed = Command::new("/usr/bin/python3").args(["-c", parse]).args(xml).output();
    Output::from(parsed.unwrap()).ok();
}

/// Whether there is such a program; says so where a test has to do without.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {program} here");
    }
    found
}

#[test]
fn the_manual_pages_have_no_flaw() {
    let pages = names_in(&project("man")).into_iter().map(|name| project("man").join(name));
    let pages: Vec<PathBuf> = pages.collect();
    if is_there("groff") {
        let groff = ["-ww", "-mdoc", "-Tutf8", "-z"];
        let checked = Command::new("groff").args(groff).args(&pages).output();
        assert_eq!(Output::from(checked.unwrap()).ok(), "");
    }
    if is_there("mandoc") {
        let lint = ["-T", "lint", "-W", "warning"];
        let checked = Command::new("mandoc").args(lint).args(&pages).output();
        let checked = Output::from(checked.unwrap());
        assert_eq!((checked.status, checked.stdout.as_str()), (0, ""));
    }
}

#[test]
fn every_shell_takes_its_completions() {
    let installed = Installed::with_prefix("/usr/local");
    for (shell, script) in [
        ("bash", "share/bash-completion/completions/dladm"),
        ("zsh", "share/zsh/site-functions/_dladm"),
        ("fish", "share/fish/vendor_completions.d/dladm.fish"),
    ] {
        if is_there(shell) {
            let checked = Command::new(shell).arg("-n").arg(installed.path(script)).output();
            assert_eq!(Output::from(checked.unwrap()).ok(), "", "{shell}");
        }
    }
}

/// What a shell offers for the last of these words.
fn offered(host: &Host, shell: &str, script: &Path, words: &[&str]) -> Vec<String> {
    let ask = match shell {
        "bash" => {
            r#"
            . "$1"; shift
            complete -p dladm | grep -q -- '-F _clap_complete_dladm'
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
            _clap_complete_dladm dladm "${!#}" "${@: -2:1}"
            printf '%s\n' "${COMPREPLY[@]}"
            "#
        }
        _ => "source $argv[1]; complete --do-complete \"$argv[2..]\"",
    };
    let mut command = host.command(shell);
    command.env("DLMGMT_DOOR", host.door()).env("HOME", host.dir());
    match shell {
        "bash" => command.args(["-ec", ask, "bash"]),
        _ => command.args(["--no-config", "-c", ask]),
    };
    let told = Output::from(command.arg(script).args(words).output().unwrap()).ok();
    let words = told.lines().filter_map(|line| line.split_whitespace().next());
    words.map(str::to_owned).collect()
}

#[test]
fn shells_complete_commands_options_links_and_zones() {
    let host = Host::with_zones(&["web"]);
    host.dladm("create-veth -t -z web inner0 outer0").ok();
    let installed = Installed::in_place();
    for (shell, script) in [
        ("bash", "share/bash-completion/completions/dladm"),
        ("fish", "share/fish/vendor_completions.d/dladm.fish"),
    ] {
        if !is_there(shell) {
            continue;
        }
        let script = installed.path(script);
        for (words, completed) in [
            (&["dladm", "rename-"][..], "rename-link"),
            (&["dladm", "show-link", "--pers"], "--persistent"),
            (&["dladm", "show-link", "out"], "outer0"),
            (&["dladm", "reclaim", "web/"], "web/inner0"),
            (&["dladm", "set-zone", "outer0", "w"], "web"),
            (&["dladm", "show-link", "-z", "w"], "web"),
        ] {
            // Nobody at a prompt is kept waiting for a busy daemon: then nothing is offered.
            eventually(&format!("{shell} completes {words:?} by {completed}"), || {
                offered(&host, shell, &script, words) == [completed]
            });
        }
    }
}

#[test]
fn only_binaries_that_are_missing_are_built() {
    let would_do = |binaries: &Path| make(&["--dry-run", "install"], binaries);
    assert!(!would_do(bin("dladm").parent().unwrap()).contains("cargo"));
    assert!(would_do(Path::new("/nowhere")).contains("cargo build"));
}

#[test]
fn the_package_has_the_version_of_the_programs() {
    let changelog = fs::read_to_string(project("debian/changelog")).unwrap();
    let newest = format!("dlmgmt ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&newest), "{changelog}");
}
