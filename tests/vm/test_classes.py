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
