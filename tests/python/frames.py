"""Makes a frame by hand, and tells whether it arrives at the other end of a pair.

Arguments: a namespace to send it in (a path), the link to send it by, the one of this namespace
where it may arrive, its source address (`own` for that of the link), and its protocol in digits.
"""

import ctypes
import os
import select
import socket
import sys
import time

TO = bytes.fromhex("02ffffffffff")
ALL = 3
PATIENCE = 60

namespace, sender, receiver, source, protocol = sys.argv[1:]


def opened(link):
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    packets.bind((link, ALL))
    return packets


def enter(path):
    with open(path) as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


into = opened(receiver)
enter(namespace)
out = opened(sender)
own = out.getsockname()[4]


def send(frame):
    try:
        out.send(frame)
    except OSError:
        # It is dropped, or the link has only just been put up.
        pass


def arrives(frame, within):
    """Whether a frame arrives, and whether the other one came before it."""
    until = time.monotonic() + within
    seen = []
    while True:
        ready, _, _ = select.select([into], [], [], max(0, until - time.monotonic()))
        if not ready:
            return False, seen
        seen.append(into.recv(2000))
        if seen[-1] == frame:
            return True, seen


def marker(text):
    """A packet from 0.0.0.0, which nothing keeps a link from sending."""
    packet = bytes.fromhex("45000014000000000963000000000000") + bytes([10, 0, 0, 99])
    return TO + own + bytes.fromhex("0800") + packet + text


first, last = marker(b"first"), marker(b"last")
for _ in range(PATIENCE * 5):
    send(first)
    if arrives(first, 0.2)[0]:
        break
else:
    sys.exit("the link sends nothing at all")

address = own if source == "own" else bytes.fromhex(source.replace(":", ""))
frame = TO + address + bytes.fromhex(protocol) + b"made by hand"
send(frame)
send(last)
ended, seen = arrives(last, PATIENCE)
assert ended, "the last frame is lost"
print("arrived" if frame in seen else "dropped")
