"""Links of kinds that not every kernel has: Debian's has them all. SPEC.md section 2."""

from case import VmTest

# How `ip` makes a link of each kind over `base0`, and which class it is of.
KINDS = {
    "bond": ("type bond", "aggr"),
    "bridge": ("type bridge", "bridge"),
    "dummy": ("type dummy", "etherstub"),
    "geneve": ("type geneve id 7 remote 192.0.2.1", "overlay"),
    "gre": ("type gre local 192.0.2.2 remote 192.0.2.1", "iptun"),
    "ifb": ("type ifb", "misc"),
    "ip6tnl": ("type ip6tnl local 2001:db8::2 remote 2001:db8::1", "iptun"),
    "ipip": ("type ipip local 192.0.2.2 remote 192.0.2.3", "iptun"),
    "ipvlan": ("link base0 type ipvlan", "vnic"),
    "macvlan": ("link base1 type macvlan", "vnic"),
    "macvtap": ("link base1 type macvtap", "vnic"),
    "sit": ("type sit local 192.0.2.2 remote 192.0.2.4", "iptun"),
    "vlan": ("link base0 type vlan id 7", "vlan"),
    "vrf": ("type vrf table 7", "misc"),
    "vxlan": ("type vxlan id 7 dstport 4789 remote 192.0.2.1", "overlay"),
}


# How `dladm` makes a link of each kind over `base0`, what `ip -d` then says of it, and which class
# it is of.
MADE = {
    "bond": ("-L active -T short -P L2", "lacp_active on", "aggr"),
    "bridge": ("-P stp -p 4096 --vlan-filtering", "vlan_filtering 1", "bridge"),
    "dummy": ("--mac 02:00:00:00:00:07", "02:00:00:00:00:07", "etherstub"),
    "geneve": ("-e geneve -v 7 --remote 192.0.2.1", "geneve id 7", "overlay"),
    "gre": ("-T gre -a local=192.0.2.2,remote=192.0.2.1 --key 9", "0.0.0.9", "iptun"),
    "gretap": ("-T gretap -a remote=192.0.2.5", "gretap remote 192.0.2.5", "iptun"),
    "ip6gre": ("-T ip6gre -a remote=2001:db8::3", "remote 2001:db8::3", "iptun"),
    "ip6gretap": ("-T ip6gretap -a remote=2001:db8::4", "remote 2001:db8::4", "iptun"),
    "ip6tnl": ("-T ipv6 -a local=2001:db8::2,remote=2001:db8::1", "ip6tnl", "iptun"),
    "ipip": ("-T ipv4 -a local=192.0.2.2,remote=192.0.2.3", "ipip", "iptun"),
    "ipvlan": ("--kind ipvlan --mode l3 -l base0", "mode l3", "vnic"),
    "ipvtap": ("--kind ipvtap --mode l3 -l base0", "mode l3", "vnic"),
    "macvlan": ("--mode private -l base1", "mode private", "vnic"),
    "macvtap": ("--kind macvtap -l base1", "mode bridge", "vnic"),
    "sit": ("-T sit -a remote=192.0.2.4", "sit", "iptun"),
    "sixtofour": ("-T 6to4 -a local=192.0.2.7", "sit", "iptun"),
    "tun": ("--user 54321", "user 54321", "tap"),
    "vlan": ("-l base0 -v 7 --protocol 802.1ad", "802.1ad id 7", "vlan"),
    "vlan-vnic": ("-l base0 -v 7", "vlan protocol 802.1Q id 7", "vnic"),
    "vti": ("-T vti -a local=192.0.2.2,remote=192.0.2.6 --key 3", "vti", "iptun"),
    "vti6": ("-T vti6 -a local=2001:db8::2,remote=2001:db8::5 --key 4", "vti6", "iptun"),
    "vxlan": ("-v 7 -l base0 --group 239.0.0.1", "group 239.0.0.1", "overlay"),
}


class Classes(VmTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.guest.sh("ip link add base0 type dummy && ip link add base1 type dummy")

    def shown(self, name):
        return next((row for row in self.links().values() if row["link"] == name), None)

    def test_links_that_others_make_are_shown_with_their_class_and_go_with_them(self):
        for kind, (how, link_class) in KINDS.items():
            with self.subTest(kind=kind):
                name = f"{kind}7"
                self.guest.sh(f"ip link add {name} {how}")
                row = self.wait_until(f"{name} is shown", lambda: self.shown(name))
                self.assertEqual(row["class"], link_class)
                self.assertIn("foreign", row["flags"])
                self.guest.sh(f"ip link del {name}")
                self.wait_until(f"{name} is gone", lambda: not self.shown(name))

    def test_links_of_every_kind_are_made_with_their_options_and_come_back_after_a_reboot(self):
        # What others made does not survive a reboot, so these lie over links of our own.
        self.guest.sh("dladm create-etherstub own0 && dladm create-etherstub own1")
        ids = {}
        for kind, (how, said, link_class) in MADE.items():
            with self.subTest(kind=kind):
                name = f"{kind}9"
                how = how.replace("base", "own")
                self.guest.sh(f"dladm create-{link_class} {how} {name}")
                row = self.shown(name)
                self.assertEqual(row["class"], link_class)
                self.assertIn("persistent", row["flags"])
                self.assertIn(said, self.guest.sh(f"ip -d link show {name}"))
                ids[name] = row["linkid"]
        macs = {name: self.shown(name)["mac"] for name in ["own0", "vlan-vnic9", "vlan9"]}
        self.assertEqual(macs["vlan9"], macs["own0"])
        self.assertNotEqual(macs["vlan-vnic9"], macs["own0"])
        self.assertEqual(self.guest.sh("dladm show-vnic -p -o vid vlan-vnic9"), "7")
        refused = self.guest.sh("dladm create-vlan -l own0 -v 7 twice9 2>&1 || true")
        self.assertIn("(kernel)", refused)
        self.assertFalse(self.guest.holds("ip link show twice9"))
        self.guest.sh("dladm create-simnet sim9 sim9b")
        self.guest.sh("dladm add-bridge -l sim9 bridge9 && dladm add-aggr -l sim9b bond9")
        self.guest.reboot()
        for kind, (how, said, link_class) in MADE.items():
            with self.subTest(kind=kind, after="a reboot"):
                name = f"{kind}9"
                self.assertEqual(self.shown(name)["linkid"], ids[name])
                self.assertIn("active", self.shown(name)["flags"])
                self.assertIn(said, self.guest.sh(f"ip -d link show {name}"))
        for name, mac in macs.items():
            self.assertEqual(self.shown(name)["mac"], mac)
        self.assertIn("sim9", self.guest.sh("ip link show master bridge9"))
        self.assertIn("sim9b", self.guest.sh("ip link show master bond9"))
        refused = self.guest.sh("dladm delete-etherstub own0 2>&1 || true")
        self.assertIn("vlan9", refused)
        for kind, (_, _, link_class) in MADE.items():
            with self.subTest(kind=kind, after="all"):
                self.guest.sh(f"dladm delete-{link_class} {kind}9")
                self.assertFalse(self.guest.holds(f"ip link show {kind}9"))
        # Those of the other tests were others', and ended with the boot.
        self.guest.sh("ip link add base0 type dummy && ip link add base1 type dummy")

    def test_options_of_links_that_are_there_are_changed(self):
        self.guest.sh("dladm create-etherstub own6 && dladm create-vlan -l own6 -v 6 vlan6")
        # The kernel changes the mode of a bond only while that is down.
        self.guest.sh("dladm create-aggr bond6 && ip link set bond6 down")
        for name, change, said in [
            ("bond6", "mode=active-backup", "mode active-backup"),
            ("bond6", "miimon=250", "miimon 250"),
            ("vlan6", "gvrp=on", "GVRP"),
        ]:
            with self.subTest(link=name, change=change):
                self.assertNotIn(said, self.guest.sh(f"ip -d link show {name}"))
                self.guest.sh(f"dladm set-linkprop -p {change} {name}")
                self.assertIn(said, self.guest.sh(f"ip -d link show {name}"))
        self.guest.sh("dladm delete-vlan vlan6 && dladm delete-etherstub own6")
        self.guest.sh("dladm delete-aggr bond6")

    def test_links_are_made_in_zones_under_names_that_links_at_home_have(self):
        # Debian's kernel looks for them at home, too.
        self.guest.sh("ip netns add same && ip link add same0 type dummy")
        self.guest.sh("dladm create-veth -t -z same same0 peer0")
        self.guest.sh("ip -n same link show same0 && ip link show peer0")
        self.guest.sh("ip -n same link del same0")
        self.guest.sh("dladm create-vnic -t -z same -l base1 same0")
        self.guest.sh("ip -n same link show same0 && ip link show same0")
        self.guest.sh("ip netns del same && ip link del same0")

    def test_what_the_kernel_moves_can_be_lent_and_comes_home_and_the_rest_is_refused(self):
        self.guest.sh("ip netns add trip")
        for kind, (how, _) in KINDS.items():
            with self.subTest(kind=kind):
                name = f"{kind}8"
                self.guest.sh(f"ip link add {name} {how}")
                before = self.wait_until(f"{name} is shown", lambda: self.shown(name))
                is_lent = self.guest.holds(f"dladm set-zone -t {name} trip")
                if is_lent:
                    self.guest.sh(f"ip -n trip link show {name} && dladm reset-zone trip/{name}")
                after = self.wait_until(f"{name} is at home", lambda: self.shown(name))
                self.assertEqual(after["zone"], "global")
                self.assertEqual(after["linkid"], before["linkid"])
                # The kernel has the last word on what can be moved.
                can_move = self.guest.holds(f"ip link set {name} netns trip")
                self.assertEqual(is_lent, can_move)
                self.guest.sh(f"ip {'-n trip' if can_move else ''} link del {name}")
