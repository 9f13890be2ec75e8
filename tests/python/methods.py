"""Calls every method that the introspection data of dlmgmt's objects names."""

import sys
import xml.etree.ElementTree as ElementTree

import dbus

bus = dbus.bus.BusConnection(sys.argv[1])
called = 0


def default(signature):
    """A value of that type, which says as little as possible."""
    kind = signature[0]
    if kind == "h":
        return dbus.types.UnixFd(sys.stdin)
    if signature.startswith("a{"):
        return dbus.Dictionary({}, signature=signature[2:-1])
    if kind == "a":
        return dbus.Array([], signature=signature[1:])
    return {"s": "", "t": dbus.UInt64(0), "u": dbus.UInt32(0), "o": "/"}[kind]


def walk(path):
    global called
    proxy = bus.get_object("org.dlmgmt1", path, introspect=False)
    xml = proxy.Introspect(dbus_interface="org.freedesktop.DBus.Introspectable")
    tree = ElementTree.fromstring(xml)
    for interface in tree.iter("interface"):
        for method in interface.iter("method"):
            name = method.get("name")
            takes = [arg.get("type") for arg in method if arg.get("direction") == "in"]
            if takes == ["s", "s", "v"]:
                values = ["", "", dbus.String("", variant_level=1)]
            else:
                values = [
                    dbus.Dictionary({}, signature=t[2:-1]) if t.startswith("a{") else default(t)
                    for t in takes
                ]
            try:
                proxy.get_dbus_method(name, interface.get("name"))(
                    *values, signature="".join(takes)
                )
            except dbus.DBusException as why:
                unknown = "org.freedesktop.DBus.Error.UnknownMethod"
                assert why.get_dbus_name() != unknown, (path, name, why)
            called += 1
    for node in tree.findall("node"):
        # What an object ends, such as a link by its Delete, is there no more.
        try:
            walk(path.rstrip("/") + "/" + node.get("name"))
        except dbus.DBusException as why:
            assert why.get_dbus_name().startswith("org.dlmgmt1.Error."), why


walk("/")
assert called > 60, called
print("done")
