"""What was acknowledged is there after the machine went down, however it did (SPEC.md, rule 3.3).

A power cut takes what the guest had not given to its disk yet. What the disk has is kept, though
it may not have been told to: a disk that lies is not tested here."""

import json
import os
import random
import time

from case import VmTest

CUTS = int(os.environ.get("DLMGMT_VM_CUTS", "20"))


class Reboots(VmTest):
    def test_names_and_loans_are_there_after_a_reboot(self):
        models = ["e1000", "virtio-net-pci", "e1000"]
        cards = [self.guest.plug(self.a_card(model)) for model in models]
        links = [self.await_settled(card) for card in cards]
        for link, name in zip(links, ["first0", "second0", "third0"]):
            self.guest.sh(f"dladm rename-link {link['link']} {name}")
        self.guest.sh("ip netns add web && dladm set-zone -n eth0 third0 web")
        self.guest.reboot()
        for card, link, name in zip(cards, links, ["first0", "second0", "third0"]):
            self.assert_agreed(card, {**link, "link": name})
        self.guest.sh("ip netns add web")
        self.await_link(cards[2], link="eth0", linkid=links[2]["linkid"], zone="web")

    def test_virtual_links_are_made_again_after_a_reboot(self):
        self.guest.sh("dladm create-veth kept0 kept1 && dladm create-veth web0 home0")
        self.guest.sh("ip netns add pair && dladm set-zone web0 pair")
        before = self.by_name("kept0", "kept1", "web0", "home0")
        self.guest.reboot()
        self.assertEqual(self.by_name("kept0", "kept1", "web0", "home0"), before)
        self.guest.sh("ip netns add pair")
        self.wait_until("it is lent", lambda: self.guest.holds("ip -n pair link show web0"))

    def by_name(self, *names):
        linkids = {row["link"]: row["linkid"] for row in self.links().values()}
        return {name: linkids[name] for name in names}


class PowerCuts(VmTest):
    """The power is cut while names and the loan of three cards are changed all the time."""

    # Renames two links in one change, then lends the third or takes it home, and so on, and says
    # what was acknowledged. $1 to $3 are linkids, $4 an odd number to begin with.
    CHANGES = """
        exec >/dev/virtio-ports/stream
        for ((n = $4; ; n++)); do
            dladm rename-link @$1 a$n @$2 b$n
            echo "renamed $n"
            if ((n % 2)); then dladm set-zone @$3 web; else dladm reset-zone @$3; fi
            echo "moved $n"
        done
    """

    def test_what_was_acknowledged_is_there_after_a_power_cut(self):
        cards = [self.guest.plug(self.a_card("e1000")) for _ in range(3)]
        linkids = [self.await_settled(card)["linkid"] for card in cards]
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        for cut in range(1, CUTS + 1):
            with self.subTest(cut=cut, seed=seed):
                # Numbers that no other cut has.
                self.start_changes(linkids, 1000 * cut + 1)
                said = self.cut_the_power(chance)
                self.check(cards, linkids, said)

    def start_changes(self, linkids, begin):
        self.guest.sh(f"ip netns add web; dladm reset-zone @{linkids[2]} || true")
        arguments = " ".join(map(str, [*linkids, begin]))
        self.guest.sh(f"systemd-run --quiet bash -euc '{self.CHANGES}' changes {arguments}")

    def cut_the_power(self, chance):
        """Answers what was acknowledged until then."""
        first = self.guest.stream.receive()
        # When the power goes, the changes may be anywhere. There is nothing to wait for.
        time.sleep(chance.uniform(0, 5))
        if chance.random() < 0.5:
            return [first, *self.guest.reset()]
        said = self.guest.power_cut()
        self.guest.start()
        return [first, *said]

    def check(self, cards, linkids, said):
        """What was said last is so; only what would have been said next may be so, too."""
        what, number = said[-1].split()
        number = int(number)
        found = self.number_in_names(cards[:2], linkids)
        is_lent = self.is_lent(linkids[2])
        if what == "renamed":
            self.assertEqual(found, number, said[-1])
        else:
            self.assertIn(found, {number, number + 1}, said[-1])
            self.assertEqual(is_lent, number % 2 == 1, said[-1])
        self.guest.sh("ip netns add web")
        self.await_link(cards[2], linkid=linkids[2], zone="web" if is_lent else "global")
        self.guest.sh("ip netns del web")

    def number_in_names(self, cards, linkids):
        """The one number that is in the names of the two links, which are the kernel's, too."""
        names = [self.link(linkid)["link"] for linkid in linkids[:2]]
        self.assertEqual([self.kernel_name(card) for card in cards], names)
        self.assertEqual(names[0][1:], names[1][1:], "one change of both names")
        return int(names[0][1:])

    def is_lent(self, linkid):
        entries = json.loads(self.guest.sh("dladm export"))["links"]
        return any("loan" in entry for entry in entries if entry["linkid"] == linkid)
