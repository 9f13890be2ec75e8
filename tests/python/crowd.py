"""A user with more calls of dlmgmt under way than it may have, which polkit never decides."""

import os
import select
import signal
import sys

import dbus
import dbus.lowlevel
from dbus.mainloop import NULL_MAIN_LOOP
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

NOBODY = 65534
CALLS = 600
ADMITTED = 256


def polkit():
    """Has polkit's name, and reads nothing that is sent to it."""
    bus = dbus.bus.BusConnection(sys.argv[1], mainloop=NULL_MAIN_LOOP)
    bus.request_name("org.freedesktop.PolicyKit1")
    return bus


def crowd(full):
    """Makes all calls at once, and says so by `full` when the last has been refused."""
    os.setresuid(NOBODY, NOBODY, NOBODY)
    bus = dbus.bus.BusConnection(sys.argv[1], mainloop=DBusGMainLoop())
    answers = []

    def answered(message):
        answers.append(message.get_error_name())
        if len(answers) == CALLS - ADMITTED:
            assert set(answers) == {"org.freedesktop.DBus.Error.LimitsExceeded"}, set(answers)
            os.write(full, b".")

    for _ in range(CALLS):
        call = dbus.lowlevel.MethodCallMessage(
            "org.dlmgmt1", "/org/dlmgmt1", "org.dlmgmt1.Manager", "Reclaim"
        )
        call.append("a")
        bus.send_message_with_reply(call, answered, 3600)
    GLib.MainLoop().run()


authority = polkit()
is_full, full = os.pipe()
child = os.fork()
if child == 0:
    os.close(is_full)
    crowd(full)
os.close(full)
try:
    assert select.select([is_full], [], [], 60)[0], "the crowd is not answered"
    assert os.read(is_full, 1), "the crowd failed"
    bus = dbus.bus.BusConnection(sys.argv[1], mainloop=NULL_MAIN_LOOP)
    manager = dbus.Interface(bus.get_object("org.dlmgmt1", "/org/dlmgmt1"), "org.dlmgmt1.Manager")
    manager.Rename([("a", "lan")])
    print("done")
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
