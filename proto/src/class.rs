//! What kind of thing a link is, and in what condition: SPEC.md section 2.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have one stable word each, shown, parsed and serialised to
/// people by that word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of their numbers on the wire.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands for this value everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("`{word}` is none of {}", known.join(", "))
                })
            }
        }
    };
}

pub(crate) use words;

words! {
    /// The class of a link.
    LinkClass {
        /// A device without a kernel link type.
        Phys = "phys",
        /// 802.1Q or 802.1ad.
        Vlan = "vlan",
        /// A bond.
        Aggr = "aggr",
        /// macvlan, macvtap or ipvlan, or a vlan that was made as one.
        Vnic = "vnic",
        /// A dummy.
        Etherstub = "etherstub",
        /// A bridge.
        Bridge = "bridge",
        /// ipip, sit, ip6tnl or gre.
        Iptun = "iptun",
        /// vxlan or geneve.
        Overlay = "overlay",
        /// One of a pair of simulated devices.
        Simnet = "simnet",
        /// One end of a veth pair.
        Veth = "veth",
        /// tun or tap.
        Tap = "tap",
        /// Any other kernel type, named by the link's `kind`.
        Misc = "misc",
    }
}

words! {
    /// The medium a link speaks.
    Media {
        /// Ethernet.
        Ethernet = "Ethernet",
        /// IEEE 802.11.
        WiFi = "WiFi",
        /// Infiniband.
        Infiniband = "Infiniband",
        /// An IPv4 tunnel.
        IPv4 = "IPv4",
        /// An IPv6 tunnel.
        IPv6 = "IPv6",
        /// A 6to4 tunnel.
        SixToFour = "6to4",
        /// The loopback device.
        Loopback = "Loopback",
        /// Anything else.
        Other = "Other",
    }
}

words! {
    /// Whether a link can carry traffic now.
    LinkState {
        /// It can.
        Up = "up",
        /// It cannot.
        Down = "down",
        /// The kernel does not say, or the link is not there.
        Unknown = "unknown",
    }
}

words! {
    /// Whether a physical link sends and receives at once.
    Duplex {
        /// One at a time.
        Half = "half",
        /// Both at once.
        Full = "full",
    }
}

words! {
    /// What a zone is doing.
    ZoneState {
        /// Its namespace is there.
        Ready = "ready",
        /// It ends: loans go home.
        ShuttingDown = "shutting-down",
        /// It is known by its name alone, for links wait for it.
        Down = "down",
    }
}

bitflags::bitflags! {
    /// The flags of SPEC.md section 2.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(transparent)]
    pub struct Flags: u16 {
        /// The kernel has it now.
        const ACTIVE = 1;
        /// It survives a reboot.
        const PERSISTENT = 1 << 1;
        /// It dies with its zone.
        const TRANSIENT = 1 << 2;
        /// A phys link whose hardware is absent.
        const REMOVED = 1 << 3;
        /// A client holds it.
        const HELD = 1 << 4;
        /// Made by somebody else and only observed.
        const FOREIGN = 1 << 5;
        /// Its own name is taken by another link.
        const CONFLICT = 1 << 6;
    }
}

impl Flags {
    /// The words of the flags that are set, in the order of SPEC.md.
    pub fn words(self) -> Vec<&'static str> {
        const WORDS: [(Flags, &str); 7] = [
            (Flags::ACTIVE, "active"),
            (Flags::PERSISTENT, "persistent"),
            (Flags::TRANSIENT, "transient"),
            (Flags::REMOVED, "removed"),
            (Flags::HELD, "held"),
            (Flags::FOREIGN, "foreign"),
            (Flags::CONFLICT, "conflict"),
        ];
        WORDS.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, word)| *word).collect()
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.words().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_parses_to_its_value() {
        for class in LinkClass::ALL {
            assert_eq!(class.as_str().parse(), Ok(*class));
        }
        assert!("nic".parse::<LinkClass>().is_err());
    }

    #[test]
    fn flags_are_shown_in_the_order_of_the_specification() {
        let flags = Flags::FOREIGN | Flags::ACTIVE | Flags::HELD;
        assert_eq!(flags.to_string(), "active,held,foreign");
    }
}
