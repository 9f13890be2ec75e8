//! One simulated namespace: what the kernel allows and refuses.

use std::collections::BTreeMap;

use dlmgmt_proto::{IfIndex, LinkName, LinkState, Media};

use crate::kernel::KernelError;
use crate::model::{Action, AltName, KernelLink};

/// Longest alternative name in bytes (`ALTIFNAMSIZ` without its terminator).
const ALT_NAME_MAX: usize = 127;

/// The links of a namespace.
///
/// Names and alternative names are one name space in it; an index is never given twice.
#[derive(Debug)]
pub struct Namespace {
    links: BTreeMap<IfIndex, KernelLink>,
    next_index: u32,
}

impl Namespace {
    /// A namespace with its loopback.
    pub fn new() -> Self {
        let mut namespace = Self { links: BTreeMap::new(), next_index: 1 };
        if let Ok(lo) = LinkName::found(b"lo") {
            namespace.add(|ifindex| KernelLink {
                media: Media::Loopback,
                mtu: 65536,
                ..bare_link(ifindex, lo)
            });
        }
        namespace
    }

    /// Its links in the order of their indexes.
    pub fn links(&self) -> impl Iterator<Item = &KernelLink> {
        self.links.values()
    }

    /// The link of an index.
    pub fn link(&self, ifindex: IfIndex) -> Option<&KernelLink> {
        self.links.get(&ifindex)
    }

    /// The link of an index, or ENODEV.
    pub fn existing(&mut self, ifindex: IfIndex) -> Result<&mut KernelLink, KernelError> {
        self.links.get_mut(&ifindex).ok_or_else(|| refusal(libc::ENODEV))
    }

    /// Adds the link that `make` makes of the index it gets.
    pub fn add(&mut self, make: impl FnOnce(IfIndex) -> KernelLink) -> IfIndex {
        let ifindex = self.take_index();
        self.links.insert(ifindex, make(ifindex));
        ifindex
    }

    /// Takes out a link and all that lie over it, and tells their indexes.
    pub fn remove_with_uppers(&mut self, ifindex: IfIndex) -> Result<Vec<IfIndex>, KernelError> {
        self.existing(ifindex)?;
        let mut ending = vec![ifindex];
        let mut next = 0;
        while let Some(lower) = ending.get(next).copied() {
            self.links.remove(&lower);
            let over = |link: &&KernelLink| link.lower.is_some_and(|l| l.ifindex == lower);
            ending.extend(self.links.values().filter(over).map(|link| link.ifindex));
            next += 1;
        }
        Ok(ending)
    }

    /// Does what a step says, or refuses it and changes nothing.
    pub fn act(&mut self, ifindex: IfIndex, action: &Action) -> Result<(), KernelError> {
        match action {
            Action::Rename(name) => self.rename(ifindex, *name),
            Action::AddAltName(name) => self.add_altname(ifindex, name),
            Action::DropAltName(name) => self.drop_altname(ifindex, name),
            Action::SetMtu(mtu) => self.set_mtu(ifindex, *mtu),
            Action::SetUp(up) => self.set_up(ifindex, *up),
        }
    }

    /// Refuses a name that the kernel would not give to a new link.
    pub fn check_free(&self, name: &LinkName) -> Result<(), KernelError> {
        if !is_kernel_name(name.as_bytes()) {
            return Err(refusal(libc::EINVAL));
        }
        if self.holder(name.as_bytes()).is_some() {
            return Err(refusal(libc::EEXIST));
        }
        Ok(())
    }

    /// The name if it is free, else the first free one of its kind: `eth0` for hardware.
    pub fn free_name(&self, wanted: LinkName) -> LinkName {
        let numbered = (0..u32::MAX).filter_map(|number| LinkName::numbered("eth", number));
        std::iter::once(wanted)
            .chain(numbered)
            .find(|name| self.check_free(name).is_ok())
            .unwrap_or(wanted)
    }

    fn rename(&mut self, ifindex: IfIndex, name: LinkName) -> Result<(), KernelError> {
        if self.existing(ifindex)?.name != name {
            self.check_free(&name)?;
        }
        self.existing(ifindex)?.name = name;
        Ok(())
    }

    fn add_altname(&mut self, ifindex: IfIndex, name: &AltName) -> Result<(), KernelError> {
        self.existing(ifindex)?;
        if name.0.len() > ALT_NAME_MAX {
            return Err(refusal(libc::ERANGE));
        }
        if self.holder(&name.0).is_some() {
            return Err(refusal(libc::EEXIST));
        }
        let link = self.existing(ifindex)?;
        link.altnames.push(name.clone());
        link.altnames.sort_unstable();
        Ok(())
    }

    fn drop_altname(&mut self, ifindex: IfIndex, name: &AltName) -> Result<(), KernelError> {
        let holder = self.holder(&name.0);
        let link = self.existing(ifindex)?;
        match link.altnames.iter().position(|altname| altname == name) {
            Some(at) => {
                link.altnames.remove(at);
                Ok(())
            }
            None if holder.is_some() => Err(refusal(libc::EINVAL)),
            None => Err(refusal(libc::ENOENT)),
        }
    }

    fn set_mtu(&mut self, ifindex: IfIndex, mtu: u32) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        if mtu < 68 {
            return Err(refusal_saying(libc::EINVAL, "mtu less than device minimum"));
        }
        if mtu > 65535 {
            return Err(refusal_saying(libc::EINVAL, "mtu greater than device maximum"));
        }
        link.mtu = mtu;
        Ok(())
    }

    fn set_up(&mut self, ifindex: IfIndex, up: bool) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        link.admin_up = up;
        link.state = if up { LinkState::Up } else { LinkState::Down };
        Ok(())
    }

    fn holder(&self, name: &[u8]) -> Option<IfIndex> {
        let has = |link: &KernelLink| {
            link.name.as_bytes() == name || link.altnames.iter().any(|altname| altname.0 == name)
        };
        self.links.values().find(|link| has(link)).map(|link| link.ifindex)
    }

    fn take_index(&mut self) -> IfIndex {
        loop {
            let number = self.next_index;
            self.next_index += 1;
            if let Some(ifindex) = IfIndex::new(number) {
                return ifindex;
            }
        }
    }
}

/// A link that nobody has done anything to yet.
pub fn bare_link(ifindex: IfIndex, name: LinkName) -> KernelLink {
    KernelLink {
        ifindex,
        name,
        kind: None,
        media: Media::Ethernet,
        mac: None,
        permanent_mac: None,
        path: None,
        mtu: 1500,
        admin_up: false,
        state: LinkState::Down,
        lower: None,
        master: None,
        altnames: Vec::new(),
    }
}

/// A refusal without words.
pub fn refusal(errno: i32) -> KernelError {
    KernelError { errno, text: None }
}

fn refusal_saying(errno: i32, text: &str) -> KernelError {
    KernelError { errno, text: Some(text.to_owned()) }
}

/// The kernel's `dev_valid_name`; templates such as `eth%d`, which it would fill in, are refused.
fn is_kernel_name(name: &[u8]) -> bool {
    // 0xa0 is the space of Latin-1, which the kernel's isspace() knows.
    let bad = |byte: &u8| matches!(byte, b'/' | b':' | b'%' | b' ' | 0x09..=0x0d | 0xa0 | 0);
    !matches!(name, b"." | b"..") && !name.iter().any(bad)
}
