"""A Debian guest under QEMU, whose cards are plugged and pulled and whose power is cut."""

import base64
import json
import os
import random
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

WORK = Path(os.environ.get("DLMGMT_VM_DIR", "target/vm"))
LOGS = WORK / "logs"

# QEMU translates every instruction, which works everywhere. `kvm` is many times faster where it
# works; a host that is a guest itself may offer it and hang.
ACCELERATOR = os.environ.get("DLMGMT_VM_ACCEL", "tcg")

# How long is waited, in seconds, for what is sure to happen, and for an answer, which may take a
# whole boot. No test measures time.
PATIENCE = 60
PATIENCE_AT_BOOT = 400


class Refused(Exception):
    """A command in the guest failed."""

    def __init__(self, script, status, out, err):
        super().__init__(f"{script.strip()!r} ended with {status}: {err.strip() or out.strip()}")
        self.status, self.out, self.err = status, out, err


def wait_until(what, is_so, pause=0.2):
    """Waits until `is_so()` answers something, and answers that."""
    end = time.monotonic() + PATIENCE
    while not (answer := is_so()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain: {what}")
        time.sleep(pause)
    return answer


@dataclass(frozen=True)
class Card:
    """A network card. No cable leads anywhere."""

    id: str
    mac: str
    slot: int
    model: str = "virtio-net-pci"

    def arguments(self):
        return {"driver": self.model, "id": self.id, "mac": self.mac, "addr": hex(self.slot)}


class Channel:
    """A stream between the host and a port of the guest, by lines."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_AT_BOOT)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r", encoding="utf-8", errors="replace")

    def send(self, line):
        self._socket.sendall(line.encode() + b"\n")

    def receive(self):
        line = self._lines.readline()
        if not line:
            raise EOFError("the guest is gone")
        return line.rstrip("\n")

    def rest(self):
        """What came before the end of the guest."""
        return self._lines.read()

    def close(self):
        self._lines.close()
        self._socket.close()


class Monitor:
    """QEMU's own door (QMP)."""

    def __init__(self, path):
        self._channel = Channel(path)
        self._events = []
        self._channel.receive()
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self._channel.send(json.dumps({"execute": command, "arguments": arguments}))
        while "event" in (answer := self._receive()):
            self._events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def wait_for(self, event, **data):
        """Waits for an event with that data that nobody has waited for yet."""
        seen = 0
        while True:
            for candidate in self._events[seen:]:
                if event == candidate["event"] and data.items() <= candidate["data"].items():
                    self._events.remove(candidate)
                    return
            seen = len(self._events)
            self._events.append(self._receive())

    def _receive(self):
        return {"data": {}} | json.loads(self._channel.receive())

    def close(self):
        self._channel.close()


class Guest:
    """A machine with a disk of its own, which starts as a copy of another one."""

    def __init__(self, name, origin):
        self.name = name
        self.disk = WORK / f"{name}.qcow2"
        copy_disk(origin, self.disk)
        self.cards = {}
        self._qemu = None
        self._channels = []
        self._ports = {port: WORK / f"{name}.{port}" for port in ["qmp", "agent", "stream"]}
        LOGS.mkdir(exist_ok=True)
        self._console = LOGS / f"{name}.console"
        self._console.unlink(missing_ok=True)
        # What QEMU itself complains of; that no cable leads anywhere, for one.
        self._complaints = LOGS / f"{name}.qemu"

    # -- power

    def start(self, drive=None):
        """Switches it on, and waits until it can be spoken to. `drive` is a file that it shall
        see as a second disk."""
        for path in self._ports.values():
            path.unlink(missing_ok=True)
        with self._complaints.open("w") as complaints:
            self._qemu = subprocess.Popen(
                self._command(drive), stdin=subprocess.DEVNULL, stderr=complaints
            )
        for path in self._ports.values():
            wait_until(f"{path} is there", lambda: path.exists() or self._has_ended(), pause=0.05)
        if self._has_ended():
            raise RuntimeError(f"QEMU ended: {self._complaints.read_text()}")
        self._monitor = self._opened(Monitor(self._ports["qmp"]))
        self._agent = self._opened(Channel(self._ports["agent"]))
        self.stream = self._opened(Channel(self._ports["stream"]))
        self._await_boot()

    def power_cut(self):
        """Switches it off as if the plug were pulled. What it had said on the stream is answered
        by lines, without one that has no end."""
        self._monitor.do("quit")
        self._qemu.wait(PATIENCE_AT_BOOT)
        said = self.stream.rest().split("\n")
        self._close()
        return said[:-1]

    def reset(self):
        """Presses the reset button. Answers as `power_cut` does."""
        self._monitor.do("system_reset")
        self._await_boot()
        self.sh(r"printf '\nbooted\n' >/dev/virtio-ports/stream")
        return list(iter(self.stream.receive, "booted"))[:-1]

    def reboot(self):
        self._say("systemctl reboot")
        self._await_boot()

    def shut_down(self):
        self._say("systemctl poweroff")
        self._qemu.wait(PATIENCE_AT_BOOT)
        self._close()

    def stop(self):
        """Ends it however it stands, and its disk with it."""
        if self._qemu and not self._has_ended():
            self._qemu.kill()
            self._qemu.wait()
        if self._qemu:
            self._close()
        self.disk.unlink(missing_ok=True)

    # -- what is done inside

    def sh(self, script):
        """Runs a script for bash as root, up to the first command that fails, and answers what it
        wrote."""
        number = self._say(script)
        while True:
            answer = self._agent.receive().split(" ")
            if answer[0] == number:
                break
        status = int(answer[1])
        out, err = (base64.b64decode(text[:-1]).decode(errors="replace") for text in answer[2:4])
        if status != 0:
            raise Refused(script, status, out, err)
        return out.rstrip("\n")

    def holds(self, script):
        """Whether a script ends well."""
        try:
            self.sh(script)
        except Refused:
            return False
        return True

    def write(self, path, text):
        """Writes a file of lines, without what indents them."""
        lines = "\n".join(line.strip() for line in text.strip().split("\n"))
        self.sh(f"mkdir -p $(dirname {path}) && cat >{path} <<'END'\n{lines}\nEND")

    # -- cards

    def plug(self, card):
        self._monitor.do("device_add", **card.arguments())
        self.cards[card.id] = card
        return card

    def pull(self, card):
        """Takes a card out, which the guest is asked for and may take its time for."""
        self._monitor.do("device_del", id=card.id)
        self._monitor.wait_for("DEVICE_DELETED", device=card.id)
        del self.cards[card.id]

    # -- how it is done

    def _command(self, drive):
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults"]
        command += ["-display", "none", "-machine", "pc", "-smp", "1", "-m", "768"]
        command += ["-accel", ACCELERATOR]
        command += ["-kernel", f"{WORK}/vmlinuz", "-initrd", f"{WORK}/initrd.img"]
        command += ["-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1"]
        command += ["-drive", f"file={self.disk},if=virtio,format=qcow2"]
        if drive:
            command += ["-drive", f"file={drive},if=virtio,format=raw,readonly=on"]
        command += ["-chardev", f"file,id=console,path={self._console},append=on"]
        command += ["-serial", "chardev:console", "-device", "virtio-serial-pci"]
        command += ["-qmp", f"unix:{self._ports['qmp']},server=on,wait=off"]
        for name in ["agent", "stream"]:
            command += ["-chardev", f"socket,id={name},path={self._ports[name]},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        for card in self.cards.values():
            options = card.arguments()
            driver = options.pop("driver")
            command += ["-device", ",".join([driver, *(f"{k}={v}" for k, v in options.items())])]
        return command

    def _has_ended(self):
        return self._qemu.poll() is not None

    def _await_boot(self):
        while self._agent.receive() != "boot":
            pass
        # The rest of the boot is to be over, however it went.
        self.sh("systemctl is-system-running --wait >/dev/null || true")

    def _say(self, script):
        number = str(random.randrange(1 << 32))
        self._agent.send(f"{number} {base64.b64encode(script.encode()).decode()}")
        return number

    def _opened(self, channel):
        self._channels.append(channel)
        return channel

    def _close(self):
        while self._channels:
            self._channels.pop().close()
        self._qemu = None
        for path in self._ports.values():
            path.unlink(missing_ok=True)


def copy_disk(origin, copy):
    """A copy that holds only what differs."""
    form = "raw" if origin.suffix == ".img" else "qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", origin.resolve(), "-F", form, copy]
    subprocess.run(command, check=True)


def install(guest_name):
    """A guest into which `make install` has put dlmgmt, as an administrator would have it."""
    files = WORK / "install.tar"
    with tarfile.open(files, "w") as archive:
        archive.add(WORK / "install", arcname=".", filter=owned_by_root)
    guest = Guest(guest_name, WORK / "disk.img")
    try:
        guest.start(drive=files)
        guest.sh("tar --extract --no-overwrite-dir --file /dev/vdb --directory /")
        guest.sh("systemctl daemon-reload && systemctl reload dbus")
        guest.sh("systemctl enable --now dlmgmtd")
    except BaseException:
        guest.stop()
        raise
    return guest


def owned_by_root(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
