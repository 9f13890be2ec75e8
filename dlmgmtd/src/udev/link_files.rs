//! Runtime `.link` files (systemd.link(5)), by which udev leaves alone what is the daemon's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dlmgmt_proto::{LinkClass, LinkName, ZoneId};

use crate::core::Registry;
use crate::model::{Lifetime, Link, Origin, PhysIdentity};

/// What each of our files has in its name, and no other file.
const MARK: &str = "-dlmgmt-";

/// A file's name.
pub type LinkFile = String;

/// The files that belong to these links, with their texts.
pub fn link_files(registry: &Registry) -> BTreeMap<LinkFile, String> {
    registry.links().filter_map(|link| file_of(link, registry.name_at_home(link))).collect()
}

/// The file of a link that is ours and that udev sees at home, if udev can be told what it is.
fn file_of(link: &Link, name: LinkName) -> Option<(LinkFile, String)> {
    let record = &link.record;
    if record.origin != Origin::Own || record.owner != ZoneId::GLOBAL {
        return None;
    }
    // Only such names need no quoting: others are matched as patterns.
    let name = LinkName::given_bytes(name.as_bytes()).ok()?;
    // The first file that matches a device is the only one. A virtual link is ours alone. What an
    // administrator says of hardware counts, except for the name, which our rule sees to: so the
    // file for hardware comes only before the default.
    let (priority, text) = match (&record.phys, &record.kind) {
        (Some(identity), _) if record.class == LinkClass::Phys => {
            (98, of_hardware(identity, name).filter(|_| record.lifetime == Lifetime::Persistent)?)
        }
        (_, Some(kind)) => (10, of_virtual(kind, name)),
        _ => return None,
    };
    let head = format!("# dlmgmtd keeps this file for its link {}; do not edit.\n", record.id);
    Some((format!("{priority}{MARK}{}.link", record.id), head + &text))
}

/// `keep` is for a device that comes back with its name; a new one has none yet, and gets it here.
fn of_hardware(identity: &PhysIdentity, name: LinkName) -> Option<String> {
    let known_by = match identity {
        PhysIdentity { mac: Some(mac), .. } => format!("PermanentMACAddress={mac}"),
        PhysIdentity { path: Some(path), .. } => format!("Path={}", path.0),
        PhysIdentity { .. } => return None,
    };
    Some(format!(
        "[Match]\n{known_by}\n\n[Link]\nNamePolicy=keep\nName={name}\n\
         AlternativeNamesPolicy=database onboard slot path\nMACAddressPolicy=none\n"
    ))
}

fn of_virtual(kind: &str, name: LinkName) -> String {
    format!(
        "[Match]\nOriginalName={name}\nKind={kind}\n\n\
         [Link]\nNamePolicy=keep\nMACAddressPolicy=none\n"
    )
}

/// The files of a directory that are ours.
#[derive(Debug)]
pub struct LinkFiles {
    directory: PathBuf,
    /// Those that are there; unknown at first.
    written: Option<BTreeMap<LinkFile, String>>,
    /// What went wrong last, which was told.
    said: Option<String>,
}

impl LinkFiles {
    /// The files of this directory, which is made when it is needed.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, written: None, said: None }
    }

    /// Makes the directory have these files of ours and no others. What cannot be done now, which is
    /// logged once, is tried again with the next call.
    pub fn set(&mut self, wanted: BTreeMap<LinkFile, String>) {
        let why = self.try_set(wanted).err().map(|why| why.to_string());
        if let Some(why) = &why
            && self.said.as_ref() != Some(why)
        {
            let directory = self.directory.display();
            tracing::warn!("udev cannot be told by files in {directory}: {why}");
        }
        self.said = why;
    }

    fn try_set(&mut self, wanted: BTreeMap<LinkFile, String>) -> io::Result<()> {
        let written = match self.written.take() {
            Some(written) => written,
            None => find(&self.directory)?,
        };
        for name in written.keys().filter(|name| !wanted.contains_key(*name)) {
            remove(&self.directory.join(name))?;
        }
        for (name, text) in &wanted {
            if written.get(name) != Some(text) {
                write(&self.directory.join(name), text)?;
            }
        }
        self.written = Some(wanted);
        Ok(())
    }
}

/// Our files, also those of an earlier run of the daemon. The directory is made when absent.
fn find(directory: &Path) -> io::Result<BTreeMap<LinkFile, String>> {
    fs::create_dir_all(directory)?;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(MARK) {
            // One that cannot be read is certainly not as it should be.
            found.insert(name, fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// udev never reads half a file, and may read it all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use dlmgmt_proto::{DevicePath, HwAddr, IfIndex, Seq};

    use super::*;
    use crate::core::{LinkIds, Look, observe};
    use crate::model::{KernelLink, NsCookie};

    const HOME: NsCookie = NsCookie(1);

    /// A registry that has seen one device.
    fn with_device(mac: Option<HwAddr>, path: Option<&str>, called: &str) -> Registry {
        let kernel = KernelLink {
            mac,
            permanent_mac: mac,
            path: path.map(|path| DevicePath(path.to_owned())),
            ..KernelLink::new(IfIndex::new(2).unwrap(), LinkName::found(called.as_bytes()).unwrap())
        };
        let registry = Registry::new(HOME, Seq(0));
        let look = Look::whole(HOME, [kernel]);
        let observed = observe(&registry, &mut LinkIds::starting_at(7), &look, true).unwrap();
        registry.with(&observed.plan.changes)
    }

    fn mac() -> Option<HwAddr> {
        Some(HwAddr::new(&[0x52, 0x54, 0, 0, 0, 1]).unwrap())
    }

    #[test]
    fn hardware_is_told_by_its_address_wherever_it_is() {
        let files = link_files(&with_device(mac(), Some("pci-0000:00:03.0"), "lan"));
        let text = "# dlmgmtd keeps this file for its link 7; do not edit.\n\
             [Match]\nPermanentMACAddress=52:54:00:00:00:01\n\n\
             [Link]\nNamePolicy=keep\nName=lan\n\
             AlternativeNamesPolicy=database onboard slot path\nMACAddressPolicy=none\n";
        assert_eq!(files, BTreeMap::from([("98-dlmgmt-7.link".to_owned(), text.to_owned())]));
    }

    #[test]
    fn hardware_without_an_address_is_told_by_its_place_and_without_either_not_at_all() {
        let files = link_files(&with_device(None, Some("pci-0000:00:03.0"), "lan"));
        assert!(files["98-dlmgmt-7.link"].contains("\nPath=pci-0000:00:03.0\n"), "{files:?}");
        assert!(link_files(&with_device(None, None, "lan")).is_empty());
    }

    #[test]
    fn a_name_that_udev_would_read_as_something_else_is_not_told() {
        assert!(link_files(&with_device(mac(), None, "l\n[Link]")).is_empty());
        assert!(link_files(&with_device(mac(), None, "eth*")).is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_now_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("network");
        fs::write(&inside, "a file").unwrap();
        let mut files = LinkFiles::new(inside.clone());
        let wanted = BTreeMap::from([("10-dlmgmt-1.link".to_owned(), "text".to_owned())]);
        files.set(wanted.clone());
        fs::remove_file(&inside).unwrap();
        files.set(wanted);
        assert_eq!(fs::read_to_string(inside.join("10-dlmgmt-1.link")).unwrap(), "text");
    }
}
