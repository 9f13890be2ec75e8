"""A user without any privilege that asks dlmgmt to import what is no file."""

import os
import sys

import dbus

NOBODY = 65534

os.setresuid(NOBODY, NOBODY, NOBODY)
bus = dbus.bus.BusConnection(sys.argv[1])
manager = dbus.Interface(bus.get_object("org.dlmgmt1", "/org/dlmgmt1"), "org.dlmgmt1.Manager")
pipe, _ = os.pipe()
try:
    manager.Import(dbus.types.UnixFd(pipe))
except dbus.DBusException as why:
    assert why.get_dbus_name() == "org.dlmgmt1.Error.Denied", why
    print("done")
