//! What sysfs knows of hardware.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use dlmgmt_proto::{DevicePath, LinkName};

const SYSFS: &str = "/sys";

/// Whether a network device of this name is wireless.
pub fn is_wireless(name: &LinkName) -> bool {
    let device = Path::new(SYSFS).join("class/net").join(OsStr::from_bytes(name.as_bytes()));
    device.join("phy80211").exists()
}

/// The place of a device on its buses, in the words of udev's ID_PATH: `pci-0000:00:03.0`,
/// `pci-0000:00:14.0-usb-0:2:1.0`. `port` tells ports of one device apart.
pub fn path(bus: &[u8], device: &[u8], port: Option<&[u8]>) -> DevicePath {
    let (bus, device) = (String::from_utf8_lossy(bus), String::from_utf8_lossy(device));
    let mut path = place(Path::new(SYSFS), &bus, &device);
    if let Some(port) = port {
        path = format!("{path}-{}", String::from_utf8_lossy(port));
    }
    DevicePath(path)
}

/// A PCI address says it all. Elsewhere the device's own name may be a mere number in the order of
/// appearance (`virtio2`), or a place on a bus that has one (`1-2:1.0`): so the buses above are
/// asked too.
fn place(sysfs: &Path, bus: &str, device: &str) -> String {
    if bus == "pci" {
        return format!("pci-{device}");
    }
    let in_tree = sysfs.join("bus").join(bus).join("devices").join(device).canonicalize();
    let parts = in_tree.map(|directory| parts(&directory)).unwrap_or_default();
    if parts.is_empty() { format!("{bus}-{device}") } else { parts.join("-") }
}

/// What names the place of the device in `directory`, the outermost first.
fn parts(directory: &Path) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut below = None;
    for device in directory.ancestors() {
        let Some((bus, name)) = bus_and_name(device) else { continue };
        match bus.as_str() {
            // Its names are numbers in the order of appearance; what matters is what carries it.
            "virtio" => {}
            "pci" | "platform" => {
                parts.push(format!("{bus}-{name}"));
                break;
            }
            // Hubs on the way are in the name already, and the number of the bus is not stable.
            "usb" if below.as_deref() == Some("usb") => {}
            "usb" => parts.push(format!("usb-0:{}", name.split_once('-').unwrap_or(("", &name)).1)),
            // Of other buses only the device's own is known to say something that lasts.
            _ if parts.is_empty() => parts.push(format!("{bus}-{name}")),
            _ => {}
        }
        below = Some(bus);
    }
    parts.reverse();
    parts
}

fn bus_and_name(device: &Path) -> Option<(String, String)> {
    let bus = std::fs::read_link(device.join("subsystem")).ok()?;
    let text = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
    Some((text(&bus)?, text(device)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A sysfs with one device and what is above it, given as (bus, name), the outermost first.
    fn sysfs(devices: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        let mut directory = root.path().join("devices");
        for (bus, name) in devices {
            directory.push(name);
            let of_bus = root.path().join("bus").join(bus).join("devices");
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::create_dir_all(&of_bus).unwrap();
            symlink(of_bus.parent().unwrap(), directory.join("subsystem")).unwrap();
            symlink(&directory, of_bus.join(name)).unwrap();
        }
        root
    }

    fn place_of_last(devices: &[(&str, &str)]) -> String {
        let (bus, name) = devices.last().unwrap();
        place(sysfs(devices).path(), bus, name)
    }

    #[test]
    fn a_pci_device_is_where_its_address_says() {
        assert_eq!(place_of_last(&[("pci", "0000:00:03.0")]), "pci-0000:00:03.0");
        assert_eq!(place(Path::new("/nowhere"), "pci", "0000:00:03.0"), "pci-0000:00:03.0");
    }

    #[test]
    fn a_virtio_device_is_where_its_carrier_is() {
        let on_pci = [("pci", "0000:00:01.0"), ("pci", "0000:01:00.0"), ("virtio", "virtio2")];
        assert_eq!(place_of_last(&on_pci), "pci-0000:01:00.0");
        let on_mmio = [("platform", "virtio-mmio.1"), ("virtio", "virtio0")];
        assert_eq!(place_of_last(&on_mmio), "platform-virtio-mmio.1");
        let on_channel = [("css", "0.0.0003"), ("ccw", "0.0.0001"), ("virtio", "virtio0")];
        assert_eq!(place_of_last(&on_channel), "ccw-0.0.0001");
    }

    #[test]
    fn a_usb_device_is_at_a_port_of_a_controller_whatever_the_number_of_the_bus() {
        let devices = [
            ("pci", "0000:00:14.0"),
            ("usb", "usb3"),
            ("usb", "3-1"),
            ("usb", "3-1.2"),
            ("usb", "3-1.2:1.0"),
        ];
        assert_eq!(place_of_last(&devices), "pci-0000:00:14.0-usb-0:1.2:1.0");
    }

    #[test]
    fn elsewhere_bus_and_name_are_the_place() {
        assert_eq!(place_of_last(&[("acpi", "VMBUS:00"), ("vmbus", "a-guid")]), "vmbus-a-guid");
        assert_eq!(place(Path::new("/nowhere"), "virtio", "virtio2"), "virtio-virtio2");
    }

    #[test]
    fn ports_of_one_device_are_two_places() {
        let port = |name: &[u8]| path(b"pci", b"0000:00:03.0", Some(name));
        assert_eq!(port(b"p0").0, "pci-0000:00:03.0-p0");
        assert_ne!(port(b"p0"), port(b"p1"));
    }
}
