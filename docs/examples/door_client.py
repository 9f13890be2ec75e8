#!/usr/bin/env python3
"""A client of dlmgmt's door, written from docs/door.md alone.

usage: door_client.py DOOR LINK: tells LINK's linkid, then lists every link.
"""
import socket
import struct
import sys

HEADER = struct.Struct("<4sHBxHxxIQ")
CALL, REPLY, ERROR = 1, 2, 3
HELLO, GET_LINKID, LIST = 1, 16, 21


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def text(value):
    return varint(len(value.encode())) + value.encode()


class Body:
    """Takes a body apart, from its beginning."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def u8(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        number = shift = 0
        while True:
            byte = self.u8()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def bytes(self):
        length = self.varint()
        self.at += length
        return self.data[self.at - length : self.at]

    def text(self):
        return self.bytes().decode()

    def option(self, read):
        return read() if self.u8() else None

    def array(self, read):
        return [read() for _ in range(self.varint())]

    def link(self):
        """A LinkInfo; its fields are told here by their order."""
        lower = lambda: (self.bytes(), self.option(self.text))
        return {
            "id": self.varint(), "name": self.bytes(), "class": self.varint(),
            "kind": self.option(self.text), "media": self.varint(), "flags": self.varint(),
            "state": self.varint(), "mtu": self.option(self.varint),
            "ifindex": self.option(self.varint), "zone": self.text(), "owner": self.text(),
            "mac": self.option(self.bytes), "permanent_mac": self.option(self.bytes),
            "path": self.option(self.text), "device": self.option(self.bytes),
            "over": self.array(lower), "speed": self.option(self.varint),
            "duplex": self.option(self.varint), "generation": self.varint(),
        }


class Door:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(path)
        self.serial = 0
        self.call(HELLO, varint(1) + varint(1) + text("door_client.py"))

    def call(self, command, body):
        self.serial += 1
        header = HEADER.pack(b"DLDR", 1, CALL, command, len(body), self.serial)
        self.socket.send(header + body)
        packet = self.socket.recv(65536)
        if not packet:
            sys.exit("the daemon closed the connection")
        _, _, kind, _, _, _ = HEADER.unpack_from(packet)
        body = Body(packet[HEADER.size :])
        if kind == ERROR:
            code, errno, message = body.varint(), body.varint(), body.text()
            sys.exit(f"error {code} (errno {errno >> 1}): {message}")
        return body

    def linkid(self, name):
        return self.call(GET_LINKID, varint(0) + text(name)).varint()

    def links(self):
        filter, cursor = varint(0) + varint(0) + b"\0" + b"\0", b"\0"
        while cursor:
            page = self.call(LIST, filter + cursor)
            page.varint()
            yield from page.array(page.link)
            more = page.option(lambda: varint(page.varint()) + varint(page.varint()))
            cursor = more and b"\1" + more


door = Door(sys.argv[1])
print(sys.argv[2], "has linkid", door.linkid(sys.argv[2]))
for link in door.links():
    print("link", link["id"], link["name"].decode(errors="backslashreplace"), link["zone"])
