"""Lists the chains that nf_tables has for the links of this namespace, one a line.

With the argument `delete`, deletes the daemon's table instead, as any root of the namespace can.
"""

import socket
import struct
import sys

NETFILTER = 12
REQUEST, ACK, DUMP = 1, 4, 0x300
NFTABLES = 10
BATCH_BEGIN, BATCH_END = 16, 17
DELTABLE, NEWCHAIN, GETCHAIN = NFTABLES << 8 | 2, NFTABLES << 8 | 3, NFTABLES << 8 | 4
NETDEV = 5
DONE, ERROR = 3, 2
CHAIN_NAME = 3
TABLE_NAME = 1


def message(kind, flags, family=NETDEV, resource=0, attributes=b""):
    body = struct.pack("!BBH", family, 0, resource) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags | REQUEST, 1, 0) + body


def attributes(told):
    while len(told) >= 4:
        length, kind = struct.unpack("=HH", told[:4])
        yield kind, told[4:length]
        told = told[(length + 3) & ~3:]


def messages(datagram):
    while datagram:
        length, kind = struct.unpack("=IH", datagram[:6])
        yield kind, datagram[16:length]
        datagram = datagram[(length + 3) & ~3:]


def name(value):
    return value.split(b"\0")[0].decode()


rules = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
rules.bind((0, 0))

if sys.argv[1:] == ["delete"]:
    table = b"dlmgmt\0"
    table = struct.pack("=HH", 4 + len(table), TABLE_NAME) + table + b"\0"
    rules.send(
        message(BATCH_BEGIN, 0, 0, NFTABLES)
        + message(DELTABLE, ACK, attributes=table)
        + message(BATCH_END, 0, 0, NFTABLES)
    )
    for kind, payload in messages(rules.recv(1 << 16)):
        assert kind == ERROR and payload[:4] == bytes(4), payload
    sys.exit()

rules.send(message(GETCHAIN, DUMP))
while True:
    for kind, payload in messages(rules.recv(1 << 16)):
        if kind in (DONE, ERROR):
            sys.exit()
        if kind == NEWCHAIN:
            print(next(name(value) for kind, value in attributes(payload[4:]) if kind == CHAIN_NAME))
