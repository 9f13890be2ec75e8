//! A link's attributes by name: the fields of `show-link` and `show-phys` (SPEC.md section 10).

use crate::LinkInfo;

impl LinkInfo {
    /// The names of all attributes.
    pub const ATTRIBUTES: &'static [&'static str] = &[
        "link", "class", "mtu", "state", "over", "zone", "owner", "linkid", "mac", "ifindex",
        "kind", "media", "flags", "speed", "duplex", "device", "path",
    ];

    /// An attribute as text: empty where it is absent, `None` where there is no such attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        fn text<T: ToString>(value: Option<&T>) -> String {
            value.map(T::to_string).unwrap_or_default()
        }
        Some(match name {
            "link" => self.name.to_string(),
            "class" => self.class.to_string(),
            "mtu" => text(self.mtu.as_ref()),
            "state" => self.state.to_string(),
            "over" => {
                let names: Vec<String> = self.over.iter().map(ToString::to_string).collect();
                names.join(",")
            }
            "zone" => self.zone.to_string(),
            "owner" => self.owner.to_string(),
            "linkid" => self.id.to_string(),
            "mac" => text(self.mac.as_ref()),
            "ifindex" => text(self.ifindex.as_ref()),
            "kind" => self.kind.clone().unwrap_or_default(),
            "media" => self.media.to_string(),
            "flags" => self.flags.to_string(),
            "speed" => text(self.speed.as_ref()),
            "duplex" => text(self.duplex.as_ref()),
            "device" => text(self.device.as_ref()),
            "path" => text(self.path.as_ref()),
            _ => return None,
        })
    }
}
