//! One simulated namespace: what the kernel allows and refuses.

use std::collections::BTreeMap;

use dlmgmt_proto::kind::{LinkKind, LinkOptions, OptionSpec};
use dlmgmt_proto::property::{Property, Teller, Value};
use dlmgmt_proto::{HwAddr, IfIndex, LinkName, LinkState, Media};

use crate::kernel::KernelError;
use crate::model::{
    AltName, Binding, KernelLink, LinkMode, Lower, MODE, NsCookie, OptionSetting, Readings,
    Settings, Tunables,
};

/// Longest alternative name in bytes (`ALTIFNAMSIZ` without its terminator).
const ALT_NAME_MAX: usize = 127;

/// The bounds of the MTU of an Ethernet link.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65535;

/// Most packets that a card keeps.
const RING_MAX: u64 = 4096;

/// The links of a namespace.
///
/// Names and alternative names are one name space in it; it gives an index never twice, but a link
/// that is moved in may bring an old one.
#[derive(Debug)]
pub struct Namespace {
    /// Whether anybody but daemons keeps it alive.
    pub has_users: bool,
    /// Whether it is dying: what happens to links in it then is not told.
    pub is_dying: bool,
    links: BTreeMap<IfIndex, KernelLink>,
    next_index: u32,
}

impl Namespace {
    /// A namespace with its loopback.
    pub fn new() -> Self {
        let mut namespace =
            Self { has_users: true, is_dying: false, links: BTreeMap::new(), next_index: 1 };
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

    /// Takes a link out.
    pub fn take(&mut self, ifindex: IfIndex) -> Result<KernelLink, KernelError> {
        let taken = self.links.remove(&ifindex).ok_or_else(|| refusal(libc::ENODEV))?;
        for port in self.links.values_mut().filter(|link| link.master == Some(ifindex)) {
            port.master = None;
        }
        Ok(taken)
    }

    /// Takes a link in, under its old index if that is free and nothing speaks against it.
    pub fn take_in(&mut self, link: KernelLink, changes_index: bool) -> IfIndex {
        let keeps = !changes_index && !self.links.contains_key(&link.ifindex);
        let mut ifindex = link.ifindex;
        while !keeps && ifindex == link.ifindex {
            ifindex = self.take_index();
        }
        self.links.insert(ifindex, KernelLink { ifindex, ..link });
        ifindex
    }

    /// Those of its links that lie over `lower`, or are its peer. `ns` is this namespace.
    pub fn links_over(
        &mut self,
        ns: NsCookie,
        lower: Binding,
    ) -> impl Iterator<Item = &mut KernelLink> {
        let is_over =
            move |link: &&mut KernelLink| link.lower.map(|l| place_of(ns, l)) == Some(lower);
        self.links.values_mut().filter(is_over)
    }

    /// Gives a link another name.
    pub fn rename(&mut self, ifindex: IfIndex, name: LinkName) -> Result<(), KernelError> {
        if self.existing(ifindex)?.name != name {
            self.check_free(&name)?;
        }
        self.existing(ifindex)?.name = name;
        Ok(())
    }

    /// Gives a link one more alternative name.
    pub fn add_altname(&mut self, ifindex: IfIndex, name: &AltName) -> Result<(), KernelError> {
        self.existing(ifindex)?;
        if name.0.len() > ALT_NAME_MAX {
            return Err(refusal(libc::ERANGE));
        }
        if self.has_name(&name.0) {
            return Err(refusal(libc::EEXIST));
        }
        let link = self.existing(ifindex)?;
        link.altnames.push(name.clone());
        link.altnames.sort_unstable();
        Ok(())
    }

    /// Takes an alternative name of a link away.
    pub fn drop_altname(&mut self, ifindex: IfIndex, name: &AltName) -> Result<(), KernelError> {
        let is_known = self.has_name(&name.0);
        let link = self.existing(ifindex)?;
        match link.altnames.iter().position(|altname| altname == name) {
            Some(at) => {
                link.altnames.remove(at);
                Ok(())
            }
            None if is_known => Err(refusal(libc::EINVAL)),
            None => Err(refusal(libc::ENOENT)),
        }
    }

    /// Sets a link's largest packet, which is `most` at most.
    pub fn set_mtu(&mut self, ifindex: IfIndex, mtu: u32, most: u32) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        check_mtu(mtu)?;
        if mtu > most {
            return Err(refusal(libc::EINVAL));
        }
        link.mtu = mtu;
        Ok(())
    }

    /// Puts a link up or down.
    pub fn set_up(&mut self, ifindex: IfIndex, up: bool) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        link.admin_up = up;
        link.state = if up { LinkState::Up } else { LinkState::Down };
        Ok(())
    }

    /// Gives a link another address.
    pub fn set_mac(&mut self, ifindex: IfIndex, mac: HwAddr) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        check_mac(mac)?;
        link.mac = Some(mac);
        Ok(())
    }

    /// Gives a property that has no call of its own this value.
    pub fn set(
        &mut self,
        ifindex: IfIndex,
        property: Property,
        value: &Value,
    ) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        match (property, value) {
            (Property::Alias, Value::Text(_))
            | (Property::TxQueueLen | Property::MaxBw, Value::Number(_))
            | (Property::Promisc | Property::AllMulti, Value::Switch(_))
            | (Property::Protection | Property::AllowedIps, Value::Names(_)) => {
                link.take_setting(property, value);
                Ok(())
            }
            (Property::RxRing, Value::Number(1..=RING_MAX)) | (Property::Gro, Value::Switch(_))
                if is_hardware(link) =>
            {
                link.take_setting(property, value);
                Ok(())
            }
            _ => Err(refusal(libc::EINVAL)),
        }
    }

    /// A card that agrees with the other end tells no speed: there is no other end.
    pub fn set_mode(&mut self, ifindex: IfIndex, mode: LinkMode) -> Result<(), KernelError> {
        let link = self.existing(ifindex)?;
        if !is_hardware(link) {
            return Err(refusal(libc::EOPNOTSUPP));
        }
        let others = &mut link.tunables.others;
        if mode.autoneg == Some(true) {
            MODE.iter().for_each(|property| drop(others.remove(*property)));
        }
        *others = Settings::from(mode).over(others);
        Ok(())
    }

    /// Gives an option of a link's kind another value. A bond takes its mode only without ports.
    pub fn set_option(
        &mut self,
        ifindex: IfIndex,
        setting: &OptionSetting,
    ) -> Result<(), KernelError> {
        let has_ports = self.links.values().any(|link| link.master == Some(ifindex));
        let OptionSetting { kind, option, value } = setting;
        let options = self.existing(ifindex)?.tunables.options.as_mut();
        let options =
            options.filter(|options| options.kind().kernel == kind.kernel && option.is_changeable);
        let options = options.ok_or_else(|| refusal(libc::EOPNOTSUPP))?;
        if (kind.kernel, option.name) == ("bond", "mode") && has_ports {
            let text = "unable to set option because the bond device has slaves";
            return Err(refusal_saying(libc::ENOTEMPTY, text));
        }
        options.take(&LinkOptions::found(kind, [(*option, *value)]));
        Ok(())
    }

    /// Refuses to end hardware.
    pub fn check_deletable(&mut self, ifindex: IfIndex) -> Result<(), KernelError> {
        match self.existing(ifindex)?.kind {
            Some(_) => Ok(()),
            None => Err(refusal(libc::EOPNOTSUPP)),
        }
    }

    /// The link of an index, if the kernel lets it go to another namespace.
    pub fn check_movable(&mut self, ifindex: IfIndex) -> Result<&KernelLink, KernelError> {
        let link = self.existing(ifindex)?;
        let kind = link.kind.as_deref().and_then(LinkKind::of_kernel);
        if link.is_loopback() || kind.is_some_and(|kind| kind.pinned.is_some()) {
            return Err(refusal_saying(libc::EINVAL, "The interface netns is immutable"));
        }
        Ok(link)
    }

    /// Refuses a link that comes from another namespace and whose names are taken here.
    pub fn check_accepts(&self, link: &KernelLink, name: &LinkName) -> Result<(), KernelError> {
        if self.has_name(name.as_bytes()) {
            let text = format!("a link of the name {name} exists in the target namespace");
            return Err(refusal_saying(libc::EEXIST, &text));
        }
        self.check_free(name)?;
        if let Some(taken) = link.altnames.iter().find(|altname| self.has_name(&altname.0)) {
            let taken = taken.0.escape_ascii();
            let text = format!("An interface with the altname {taken} exists in the target netns");
            return Err(refusal_saying(libc::EEXIST, &text));
        }
        Ok(())
    }

    /// Refuses what the kernel would not make a link of.
    pub fn check_new(
        &self,
        name: &LinkName,
        mac: Option<HwAddr>,
        mtu: Option<u32>,
    ) -> Result<(), KernelError> {
        self.check_free(name)?;
        mac.map_or(Ok(()), check_mac)?;
        mtu.map_or(Ok(()), check_mtu)
    }

    /// Whether a link has this name, as its name or as an alternative one.
    pub fn has_name(&self, name: &[u8]) -> bool {
        self.links.values().any(|link| {
            link.name.as_bytes() == name || link.altnames.iter().any(|altname| altname.0 == name)
        })
    }

    /// The name under which this namespace takes hardware in whose namespace died.
    pub fn name_for_fallen(&self, link: &KernelLink) -> LinkName {
        let by_index = LinkName::numbered("dev", link.ifindex.get());
        let numbered = (0..u32::MAX).filter_map(|number| LinkName::numbered("dev", number));
        self.first_free([link.name].into_iter().chain(by_index).chain(numbered), link.name)
    }

    /// Refuses a name that the kernel would not give to a new link.
    pub fn check_free(&self, name: &LinkName) -> Result<(), KernelError> {
        if !is_kernel_name(name.as_bytes()) {
            return Err(refusal(libc::EINVAL));
        }
        if self.has_name(name.as_bytes()) {
            return Err(refusal(libc::EEXIST));
        }
        Ok(())
    }

    /// The name if it is free, else the first free one of its kind: `eth0` for hardware.
    pub fn free_name(&self, wanted: LinkName) -> LinkName {
        let numbered = (0..u32::MAX).filter_map(|number| LinkName::numbered("eth", number));
        self.first_free(std::iter::once(wanted).chain(numbered), wanted)
    }

    fn first_free(&self, mut names: impl Iterator<Item = LinkName>, or: LinkName) -> LinkName {
        names.find(|name| self.check_free(name).is_ok()).unwrap_or(or)
    }

    fn take_index(&mut self) -> IfIndex {
        loop {
            let number = self.next_index;
            self.next_index += 1;
            match IfIndex::new(number) {
                Some(ifindex) if !self.links.contains_key(&ifindex) => return ifindex,
                _ => {}
            }
        }
    }
}

/// A link on the way to another namespace is put down, and its queue stays where it was.
pub fn unsettle(link: &mut KernelLink) {
    link.admin_up = false;
    link.state = LinkState::Down;
    link.tunables.others.remove(Property::MaxBw);
}

/// A link that nobody has done anything to yet.
pub fn bare_link(ifindex: IfIndex, name: LinkName) -> KernelLink {
    KernelLink {
        tunables: Tunables {
            txqueuelen: 1000,
            mtu_min: MTU_MIN,
            mtu_max: MTU_MAX,
            ..Tunables::default()
        },
        ..KernelLink::new(ifindex, name)
    }
}

/// What a link tells only when it is asked.
pub fn readings(link: &KernelLink) -> Readings {
    let told = |property, by_itself| (property, link.setting(property).unwrap_or(by_itself));
    let mut values = vec![
        told(Property::MaxBw, Value::Number(0)),
        told(Property::Protection, Value::Names(Vec::new())),
        told(Property::AllowedIps, Value::Names(Vec::new())),
    ];
    let mut limits = Settings::default();
    if is_hardware(link) {
        values.push(told(Property::RxRing, Value::Number(256)));
        values.push(told(Property::Gro, Value::Switch(true)));
        values.push(told(Property::Autoneg, Value::Switch(true)));
        let mode = [Property::Speed, Property::Duplex];
        values.extend(mode.into_iter().filter_map(|of| Some((of, link.setting(of)?))));
        limits.insert(Property::RxRing, Value::Number(RING_MAX));
    }
    Readings {
        values: values.into_iter().collect(),
        limits,
        options: link.tunables.options.clone(),
    }
}

/// A link as it is told to who does not ask for more.
pub fn told(link: &KernelLink) -> KernelLink {
    let mut told = link.clone();
    let others = link.tunables.others.iter();
    let is_of_port = |of: &Property| of.description().applies.told_by == Teller::Bridge;
    told.tunables.others = others
        .filter(|(property, _)| is_of_port(property))
        .map(|(property, value)| (property, value.clone()))
        .collect();
    told.tunables.options = None;
    told
}

/// As [`told`], of a link that is elsewhere than who asks: that it is WiFi is seen only where it is.
pub fn told_elsewhere(link: &KernelLink) -> KernelLink {
    let mut told = told(link);
    if told.media == Media::WiFi {
        told.media = Media::Ethernet;
    }
    told
}

/// What a link of a kind has of options that nobody gave.
pub fn standards(kind: &'static LinkKind) -> LinkOptions {
    let standard = |option: &'static OptionSpec| Some((option, option.standard()?));
    LinkOptions::found(kind, kind.properties().filter_map(standard))
}

/// Whether a link is more than software, and outlives its namespace.
pub fn is_hardware(link: &KernelLink) -> bool {
    link.kind.is_none() && !link.is_loopback()
}

fn check_mtu(mtu: u32) -> Result<(), KernelError> {
    match mtu {
        ..MTU_MIN => Err(refusal_saying(libc::EINVAL, "mtu less than device minimum")),
        MTU_MIN..=MTU_MAX => Ok(()),
        _ => Err(refusal_saying(libc::EINVAL, "mtu greater than device maximum")),
    }
}

/// Only the addresses of single Ethernet stations are taken.
fn check_mac(mac: HwAddr) -> Result<(), KernelError> {
    let is_group = mac.as_bytes().first().is_some_and(|first| first & 1 != 0);
    if mac.as_bytes().len() != 6 {
        Err(refusal(libc::EINVAL))
    } else if is_group || mac.is_zero() {
        Err(refusal(libc::EADDRNOTAVAIL))
    } else {
        Ok(())
    }
}

/// A refusal without words.
pub fn refusal(errno: i32) -> KernelError {
    KernelError { errno, text: None }
}

pub fn refusal_saying(errno: i32, text: &str) -> KernelError {
    KernelError { errno, text: Some(text.to_owned()) }
}

/// The kernel's `dev_valid_name`; templates such as `eth%d`, which it would fill in, are refused.
fn is_kernel_name(name: &[u8]) -> bool {
    // 0xa0 is the space of Latin-1, which the kernel's isspace() knows.
    let bad = |byte: &u8| matches!(byte, b'/' | b':' | b'%' | b' ' | 0x09..=0x0d | 0xa0 | 0);
    !matches!(name, b"." | b"..") && !name.iter().any(bad)
}

/// Where the link is that one in `ns` lies over.
pub fn place_of(ns: NsCookie, lower: Lower) -> Binding {
    let ns = lower.nsid.map_or(ns, |nsid| NsCookie(nsid.unsigned_abs().into()));
    Binding { ns, ifindex: lower.ifindex }
}
