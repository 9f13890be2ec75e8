"""What the tests have in common. Each class of tests has a guest of its own, in which dlmgmt was
installed; a test adds what it needs and need not clean up."""

import functools
import itertools
import json
import unittest

from vm import LOGS, WORK, Card, Guest, install, wait_until

# Those below are the guest's own.
FIRST_SLOT, LAST_SLOT = 0x08, 0x1F


@functools.cache
def installed():
    """The disk of a guest with dlmgmt, on which `dlmgmtd` is enabled."""
    disk = WORK / "installed.qcow2"
    disk.unlink(missing_ok=True)
    guest = install("making")
    guest.shut_down()
    guest.disk.rename(disk)
    return disk


class VmTest(unittest.TestCase):
    # What is in the slots when the guest is switched on first.
    cards = ()

    @classmethod
    def setUpClass(cls):
        cls._numbers = itertools.count(1)
        cls.guest = Guest(cls.__name__, installed())
        cls.addClassCleanup(cls.guest.stop)
        cls.guest.cards = {card.id: card for card in cls.cards}
        cls.guest.start()

    @classmethod
    def tearDownClass(cls):
        journal = cls.guest.sh("journalctl --no-pager --quiet -o short-precise")
        (LOGS / f"{cls.__name__}.journal").write_text(journal + "\n")

    def a_card(self, model="virtio-net-pci", slot=None, mac=None):
        """A card that no other test has, in a slot that none has, except for what is given."""
        number = next(self._numbers)
        slot = slot or FIRST_SLOT + number % (LAST_SLOT - FIRST_SLOT + 1)
        mac = mac or f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"
        return Card(f"card{number}", mac, slot, model)

    # -- what dladm shows

    def links(self):
        """All links of all zones, and the records of those that are away."""
        fields = "link,linkid,class,zone,owner,mac,mtu,flags"
        shown = [
            json.loads(self.guest.sh(f"dladm show-link {which} -Z --json -o {fields}"))
            for which in ["-P", ""]
        ]
        return {row["linkid"]: row for rows in shown for row in rows}

    def link(self, linkid):
        """What is known of a link; nothing, if it is not known."""
        return self.links().get(linkid)

    def find(self, card):
        """The link that a card is now; nothing, if it is none yet."""
        for row in self.links().values():
            if row["class"] == "phys" and row["mac"] == card.mac and "active" in row["flags"]:
                return row
        return None

    def await_link(self, card, **fields):
        """Waits until a card is an active link of which `fields` are true, and answers it."""

        def found():
            row = self.find(card)
            return row if row and fields.items() <= row.items() else None

        return self.wait_until(f"{card} is a link with {fields}", found)

    def await_settled(self, card):
        """Waits until a card is a link and udev is done with it."""
        self.await_link(card)
        self.guest.sh("udevadm settle")
        return self.await_link(card, link=self.kernel_name(card))

    def await_removed(self, linkid):
        self.wait_until(f"{linkid} is removed", lambda: "removed" in self.link(linkid)["flags"])

    def wait_until(self, what, is_so):
        """Waits for what dladm shows; tells what there is if it never does."""
        try:
            return wait_until(what, is_so)
        except TimeoutError as why:
            seen = self.guest.sh(
                "dladm show-link -Z -o all; dladm show-phys -P -o all; ip -br link; ip netns"
            )
            self.fail(f"{why}\n{seen}")

    # -- what the kernel has

    def kernel_name(self, card, zone=None):
        """The name of the device with that permanent address; empty if the namespace has none."""
        within = f"ip netns exec {zone} " if zone else ""
        for device in json.loads(self.guest.sh(f"{within}ip -d -j link")):
            if device.get("permaddr", device["address"]) == card.mac:
                return device["ifname"]
        return ""

    def assert_agreed(self, card, link):
        """The link is at home, active and of that card, and the kernel has it under its name."""
        self.await_link(card, link=link["link"], linkid=link["linkid"], zone="global")
        self.assertEqual(self.kernel_name(card), link["link"])

    def assert_no_fight(self, name):
        """Nobody renames a link to and fro: the kernel's journal has but few words on it."""
        said = self.guest.sh("journalctl -k -b --no-pager").split("\n")
        renames = [line for line in said if f" {name}: renamed from" in line]
        self.assertLessEqual(len(renames), 3, "\n".join(renames))
