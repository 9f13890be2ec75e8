"""Descriptors of dlmgmt on D-Bus: holds, namespaces, files, and a part in zone ends."""

import json
import os
import sys

import dbus
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
manager = dbus.Interface(bus.get_object("org.dlmgmt1", "/org/dlmgmt1"), "org.dlmgmt1.Manager")
objects = dbus.Interface(
    bus.get_object("org.dlmgmt1", "/org/dlmgmt1"), "org.freedesktop.DBus.ObjectManager"
)


def refused(name, call, *args):
    try:
        call(*args)
    except dbus.DBusException as why:
        assert why.get_dbus_name() == "org.dlmgmt1.Error." + name, why
        return str(why)
    raise AssertionError("it was not refused")


def wait_until(condition):
    loop = GLib.MainLoop()

    def look():
        if condition():
            loop.quit()
            return False
        return True

    GLib.timeout_add(10, look)
    giving_up = GLib.timeout_add_seconds(60, loop.quit)
    loop.run()
    GLib.source_remove(giving_up)
    assert condition()


def is_held(link):
    path = manager.GetLink(link)
    return "held" in objects.GetManagedObjects()[path]["org.dlmgmt1.Link"]["Flags"]


# A hold lasts as long as its descriptor, by whomever it is kept.
hold = manager.Hold("a").take()
copy = os.dup(hold)
os.close(hold)
assert is_held("a")
assert "python3" in refused("Busy", manager.Rename, [("a", "b2")])
os.close(copy)
wait_until(lambda: not is_held("a"))
manager.Rename([("a", "lan")])

# A namespace comes as a descriptor, and goes as one.
ns = os.open(f"/proc/{sys.argv[2]}/ns/net", os.O_RDONLY)
manager.AttachZone("box", {"fd": dbus.types.UnixFd(ns)})
opened = manager.OpenZone("box").take()
assert os.fstat(opened).st_ino == os.fstat(ns).st_ino
refused("Invalid", manager.AttachZone, "box2", {"fd": dbus.types.UnixFd(ns), "pid": dbus.Int32(1)})
refused("Invalid", manager.AttachZone, "box2", {"wrong": "option"})

# Export and import are files.
text = open(manager.Export().take(), "rb").read()
assert json.loads(text)["format"] >= 1
with open("/run/links", "w+b") as file:
    file.write(text)
    file.flush()
    manager.Import(dbus.types.UnixFd(file))

# A participant is told of the zones that are there, then of an end, which waits for it.
told = []
for signal in ["ZoneReady", "ZoneShuttingDown", "ZoneGone"]:
    bus.add_signal_receiver(
        lambda zoneid, zone, signal=signal: told.append((signal, int(zoneid), str(zone))),
        signal_name=signal,
        dbus_interface="org.dlmgmt1.Manager",
    )
part = manager.TakePart()
wait_until(lambda: any(name == "ZoneReady" and zone == "box" for name, _, zone in told))
manager.DetachZone("box", reply_handler=lambda seq: None, error_handler=sys.exit)
wait_until(lambda: any(name == "ZoneShuttingDown" for name, _, _ in told))
assert not any(name == "ZoneGone" for name, _, _ in told)
zoneid = next(zoneid for name, zoneid, _ in told if name == "ZoneShuttingDown")
manager.Acknowledge(dbus.UInt32(zoneid))
wait_until(lambda: ("ZoneGone", zoneid, "box") in told)
refused("Stale", manager.Acknowledge, dbus.UInt32(zoneid))
os.close(part.take())
print("done")
