"""dlmgmtd as a service of systemd, as `make install` and `systemctl enable --now` leave it."""

import unittest

from case import VmTest
from vm import install


class Enabled(unittest.TestCase):
    """In a guest that was not started again since."""

    @classmethod
    def setUpClass(cls):
        cls.guest = install(cls.__name__)
        cls.addClassCleanup(cls.guest.stop)

    def test_it_runs_and_says_when_it_is_ready(self):
        self.assertEqual(self.guest.sh("systemctl is-active dlmgmtd"), "active")
        self.assertIn("Type=notify", self.guest.sh("systemctl show -p Type dlmgmtd"))

    def test_dladm_is_answered(self):
        self.assertIn("LINK", self.guest.sh("dladm"))

    def test_users_may_look(self):
        self.assertIn("LINK", self.guest.sh("setpriv --reuid nobody --clear-groups dladm"))

    def test_it_is_on_the_system_bus(self):
        self.assertIn("/org/dlmgmt1", self.guest.sh("busctl tree org.dlmgmt1"))

    def test_it_may_do_little_else(self):
        """systemd's rating of its exposure is 3.0 or better."""
        self.guest.sh("systemd-analyze security --threshold=30 dlmgmtd")

    def test_no_unit_failed(self):
        self.assertEqual(self.guest.sh("systemctl --failed --no-legend --plain"), "")


class Booted(VmTest):
    """In a guest that came up with it."""

    def test_it_is_ready_before_anything_configures_the_network(self):
        reached = {}
        for unit in ["dlmgmtd.service", "network-pre.target"]:
            shown = self.guest.sh(f"systemctl show --value -p ActiveEnterTimestampMonotonic {unit}")
            reached[unit] = int(shown)
        self.assertGreater(reached["dlmgmtd.service"], 0)
        self.assertGreater(reached["network-pre.target"], reached["dlmgmtd.service"])

    def test_to_stop_it_leaves_the_links_as_they_are(self):
        card = self.guest.plug(self.a_card())
        link = self.await_link(card)
        self.guest.sh(f"dladm rename-link @{link['linkid']} stays0 && systemctl stop dlmgmtd")
        self.assertEqual(self.kernel_name(card), "stays0")
        self.guest.sh("systemctl start dlmgmtd")
        self.assert_agreed(card, {**link, "link": "stays0"})
