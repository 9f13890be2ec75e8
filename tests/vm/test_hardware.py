"""Cards that come, go, move and are replaced: SPEC.md section 5."""

from case import VmTest


class Hardware:
    """The rules, for cards of one model."""

    model = None

    def a_card(self, **given):
        return super().a_card(self.model, **given)

    def plug_and_rename(self, name):
        """A card that was plugged in now, and the link that it is, under a given name."""
        card = self.guest.plug(self.a_card())
        link = self.await_settled(card)
        self.guest.sh(f"dladm rename-link {link['link']} {name}")
        return card, self.await_link(card, link=name, linkid=link["linkid"])

    def pull(self, card, link):
        self.guest.pull(card)
        self.await_removed(link["linkid"])

    def test_a_card_is_known_by_the_name_that_udev_gives_it(self):
        card = self.guest.plug(self.a_card())
        link = self.await_link(card, link=f"ens{card.slot}")
        self.assert_agreed(card, link)

    def test_a_card_that_was_renamed_keeps_its_name_and_linkid_in_the_same_slot(self):
        card, link = self.plug_and_rename("same0")
        self.pull(card, link)
        self.guest.plug(card)
        self.assert_agreed(card, link)

    def test_a_card_that_moves_to_another_slot_keeps_name_and_linkid(self):
        card, link = self.plug_and_rename("moved0")
        self.pull(card, link)
        elsewhere = self.a_card(mac=card.mac)
        self.guest.plug(elsewhere)
        self.assert_agreed(elsewhere, link)

    def test_a_new_card_in_the_slot_of_one_that_is_gone_takes_over_its_link(self):
        card, link = self.plug_and_rename("slot0")
        self.pull(card, link)
        another = self.a_card(slot=card.slot)
        self.guest.plug(another)
        self.assert_agreed(another, link)

    def test_a_new_card_in_another_slot_is_a_new_link(self):
        card, link = self.plug_and_rename("gone0")
        self.pull(card, link)
        another = self.a_card()
        self.guest.plug(another)
        self.assertNotEqual(self.await_link(another)["linkid"], link["linkid"])
        self.await_removed(link["linkid"])

    def test_a_new_card_that_is_renamed_to_a_removed_link_becomes_that_link(self):
        card, link = self.plug_and_rename("heir0")
        self.pull(card, link)
        another = self.guest.plug(self.a_card())
        new = self.await_settled(another)
        self.guest.sh(f"dladm rename-link {new['link']} heir0")
        self.assert_agreed(another, link)
        self.assertIsNone(self.link(new["linkid"]))

    def test_a_name_given_before_udev_gives_one_stays(self):
        card = self.guest.plug(self.a_card())
        link = self.await_link(card)
        self.guest.sh(f"dladm rename-link @{link['linkid']} early0; udevadm settle")
        self.assert_agreed(card, {**link, "link": "early0"})

    def test_the_record_of_a_card_that_is_gone_can_be_deleted(self):
        card, link = self.plug_and_rename("ended0")
        self.pull(card, link)
        self.guest.sh("dladm delete-phys ended0")
        self.assertIsNone(self.link(link["linkid"]))

    def test_two_cards_that_change_places_keep_their_names(self):
        one, first = self.plug_and_rename("first0")
        two, second = self.plug_and_rename("second0")
        self.pull(one, first)
        self.pull(two, second)
        moved = self.a_card(mac=one.mac, slot=two.slot), self.a_card(mac=two.mac, slot=one.slot)
        for card, link in zip(moved, [first, second]):
            self.guest.plug(card)
            self.assert_agreed(card, link)

    def test_what_happened_while_the_daemon_was_stopped_is_found_out(self):
        stayed, here = self.plug_and_rename("here0")
        pulled, away = self.plug_and_rename("away0")
        moved, there = self.plug_and_rename("there0")
        self.guest.sh("systemctl stop dlmgmtd")
        self.guest.pull(pulled)
        self.guest.pull(moved)
        moved = self.guest.plug(self.a_card(mac=moved.mac))
        self.guest.sh("udevadm settle && systemctl start dlmgmtd")
        self.assert_agreed(stayed, here)
        self.assert_agreed(moved, there)
        self.await_removed(away["linkid"])


class E1000(Hardware, VmTest):
    model = "e1000"

    def test_what_its_driver_was_told_a_new_card_in_its_slot_is_told_too(self):
        card, link = self.plug_and_rename("rings0")
        self.guest.sh("dladm set-linkprop -p rx_ring=512,tx_ring=1024,tso=off rings0")
        self.assertEqual(self.told("rings0", "rx_ring,tx_ring,tso"), ["512", "1024", "off"])
        self.pull(card, link)
        card = self.guest.plug(self.a_card(slot=card.slot))
        self.await_link(card, link="rings0", linkid=link["linkid"])
        self.assertEqual(self.told("rings0", "rx_ring,tx_ring,tso"), ["512", "1024", "off"])
        self.guest.sh("dladm reset-linkprop -p rx_ring,tx_ring,tso rings0")
        self.assertEqual(self.told("rings0", "rx_ring,tx_ring,tso"), ["256", "256", "on"])

    def test_speed_and_duplex_are_set_together_and_agreed_on_again(self):
        """QEMU's card runs at one speed, whatever it is told; but it can be told."""
        self.plug_and_rename("forced0")
        self.guest.sh("dladm set-linkprop -p autoneg=off,speed=100,duplex=full forced0")
        self.assertEqual(self.told("forced0", "autoneg"), ["off"])
        self.guest.sh("dladm set-linkprop -p autoneg=on forced0")
        self.assertEqual(self.told("forced0", "autoneg"), ["on"])

    def told(self, name, properties):
        shown = self.guest.sh(f"dladm show-linkprop -c -o effective -p {properties} {name}")
        return shown.split("\n")


class Virtio(Hardware, VmTest):
    """Between the slot and the link is a device of virtio's own, with a number as it comes."""

    model = "virtio-net-pci"
