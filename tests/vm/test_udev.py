"""Names at boot, and dlmgmt beside udev and the files of the administrator.

What dlmgmt knows has the name that it has there. A `.link` file names a card that dlmgmt does not
know yet, and all else in it counts always."""

from case import VmTest
from vm import Card


class NamesAtBoot(VmTest):
    cards = (Card("built-in", "52:54:00:00:ff:01", 0x10, "e1000"),)

    # Writes down what the first user of the network would see.
    FIRST_USER = """
        [Unit]
        After=network-pre.target
        Before=network.target
        Wants=network-pre.target
        DefaultDependencies=no
        [Service]
        Type=oneshot
        ExecStart=sh -c 'ls /sys/class/net >/run/first-user'
        [Install]
        WantedBy=multi-user.target
    """

    def test_a_renamed_card_has_its_name_before_anybody_uses_it(self):
        card = self.cards[0]
        link = self.await_settled(card)
        self.guest.sh(f"dladm rename-link {link['link']} uplink0")
        self.guest.write("/etc/systemd/system/first-user.service", self.FIRST_USER)
        self.guest.sh("systemctl enable first-user")
        self.guest.reboot()
        self.assertEqual(self.guest.sh("cat /run/first-user"), "lo\nuplink0")
        self.assert_agreed(card, {**link, "link": "uplink0"})
        self.assert_no_fight("uplink0")


class LinkFiles(VmTest):
    def policy(self, card, *settings):
        """An administrator's file for a card."""
        lines = ["[Match]", f"MACAddress={card.mac}", "[Link]", *settings]
        self.guest.write(f"/etc/systemd/network/10-{card.id}.link", "\n".join(lines))
        self.guest.sh("udevadm control --reload")

    def test_a_file_names_a_card_that_is_not_known(self):
        card = self.a_card()
        self.policy(card, "Name=policy0")
        self.guest.plug(card)
        self.assertEqual(self.await_settled(card)["link"], "policy0")

    def test_a_name_given_by_dladm_wins_over_a_file(self):
        card = self.a_card()
        self.policy(card, "Name=rule0")
        self.guest.plug(card)
        link = self.await_settled(card)
        self.guest.sh(f"dladm rename-link {link['link']} mine0")
        self.guest.pull(card)
        self.await_removed(link["linkid"])
        self.guest.plug(card)
        self.guest.sh("udevadm settle")
        self.assert_agreed(card, {**link, "link": "mine0"})
        self.guest.reboot()
        self.assert_agreed(card, {**link, "link": "mine0"})
        self.assert_no_fight("mine0")

    def test_all_else_in_a_file_counts(self):
        card = self.a_card()
        self.policy(card, "MTUBytes=1300")
        self.guest.plug(card)
        link = self.await_settled(card)
        self.guest.sh(f"dladm rename-link {link['link']} small0")
        self.guest.pull(card)
        self.await_removed(link["linkid"])
        self.guest.plug(card)
        self.await_link(card, link="small0", linkid=link["linkid"], mtu=1300)

    def test_a_name_given_by_ip_is_shown_and_kept(self):
        card = self.guest.plug(self.a_card())
        link = self.await_settled(card)
        self.guest.sh(f"ip link set {link['link']} name theirs0")
        self.await_link(card, link="theirs0", linkid=link["linkid"])
        self.guest.sh("udevadm trigger --action=add /sys/class/net/theirs0 && udevadm settle")
        self.assert_agreed(card, {**link, "link": "theirs0"})
        self.assert_no_fight("theirs0")

    def test_the_address_of_a_virtual_link_stays_as_it_was_made(self):
        """udev gives fresh virtual links addresses of its own making."""
        self.guest.sh("dladm create-veth addr0 addr1")
        made = self.guest.sh("cat /sys/class/net/addr0/address")
        self.guest.sh("udevadm settle")
        self.assertEqual(self.guest.sh("cat /sys/class/net/addr0/address"), made)
        shown = [row["mac"] for row in self.links().values() if row["link"] == "addr0"]
        self.assertEqual(shown, [made])
