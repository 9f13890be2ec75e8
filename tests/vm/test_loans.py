"""Cards and virtual links that are lent to zones which end: SPEC.md section 6."""

from case import VmTest


class Loans(VmTest):
    def own_card(self, name, model="e1000"):
        """A card that was plugged in now and renamed, dressed with what a loan must bring back."""
        card = self.guest.plug(self.a_card(model))
        link = self.await_settled(card)
        self.guest.sh(f"dladm rename-link {link['link']} {name}")
        self.guest.sh(f"ip link set {name} mtu 1400 up")
        return card, self.await_link(card, link=name, mtu=1400)

    def lend(self, name, zone):
        """Lends a link under another name to a zone that maltreats it."""
        self.guest.sh(f"dladm set-zone -n eth0 {name} {zone}")
        self.maltreat(f"ip netns exec {zone}")

    def maltreat(self, inside):
        self.guest.sh(f"{inside} ip link set eth0 down")
        self.guest.sh(f"{inside} ip link set eth0 mtu 1300 address 02:00:00:00:00:bb name lost0")

    def assert_home(self, card, link):
        """It is as it was before it was lent, and udev did not rename it."""
        self.await_link(card, link=link["link"], linkid=link["linkid"], zone="global", mtu=1400)
        self.guest.sh("udevadm settle")
        self.assert_agreed(card, link)
        device = f"/sys/class/net/{link['link']}"
        self.assertEqual(self.guest.sh(f"cat {device}/address {device}/mtu"), f"{card.mac}\n1400")
        self.assertTrue(self.guest.holds(f"ip link show up | grep -q {link['link']}:"), "it is up")
        self.assert_no_fight(link["link"])

    def test_a_card_comes_home_when_its_zone_ends(self):
        card, link = self.own_card("ended0")
        self.guest.sh("ip netns add ended")
        self.lend("ended0", "ended")
        self.guest.sh("ip netns del ended")
        self.assert_home(card, link)

    def test_a_card_is_found_when_its_zone_ended_while_the_daemon_was_stopped(self):
        """The kernel alone sent it home, under the name that it had there or `dev<N>`."""
        card, link = self.own_card("orphan0")
        self.guest.sh("ip netns add orphan")
        self.lend("orphan0", "orphan")
        self.guest.sh("systemctl stop dlmgmtd && ip netns del orphan")
        self.wait_until("the kernel sent it home", lambda: self.kernel_name(card))
        self.guest.sh("udevadm settle && systemctl start dlmgmtd")
        self.assert_home(card, link)

    def test_a_card_whose_zone_lives_stays_there_while_the_daemon_is_stopped(self):
        card, link = self.own_card("stay0")
        self.guest.sh("ip netns add stay && dladm set-zone -n eth0 stay0 stay")
        self.guest.sh("systemctl stop dlmgmtd && systemctl start dlmgmtd")
        self.await_link(card, link="eth0", linkid=link["linkid"], zone="stay")
        self.guest.sh("ip netns del stay")
        self.assert_agreed(card, link)

    def test_a_card_comes_home_when_its_container_is_killed(self):
        card, link = self.own_card("killed0", "virtio-net-pci")
        self.start_container("killed")
        self.lend_to_container("killed0", "killed")
        self.guest.sh("systemctl kill -s KILL killed")
        self.assert_home(card, link)

    def test_a_card_is_found_when_its_container_was_killed_while_the_daemon_was_stopped(self):
        card, link = self.own_card("late0", "virtio-net-pci")
        self.start_container("late")
        self.lend_to_container("late0", "late")
        self.guest.sh("systemctl stop dlmgmtd && systemctl kill -s KILL late")
        self.wait_until("the kernel sent it home", lambda: self.kernel_name(card))
        self.guest.sh("udevadm settle && systemctl start dlmgmtd")
        self.assert_home(card, link)

    def test_a_card_that_is_pulled_out_of_a_zone_is_removed_and_goes_there_again(self):
        card, link = self.own_card("torn0")
        self.guest.sh("ip netns add torn && dladm set-zone -n eth0 torn0 torn")
        self.guest.pull(card)
        self.await_removed(link["linkid"])
        self.guest.plug(card)
        self.await_link(card, link="eth0", linkid=link["linkid"], zone="torn")
        self.assertEqual(self.kernel_name(card, "torn"), "eth0")

    def start_container(self, name):
        """A process of a user's with a network of its own, which is a zone until it ends."""
        self.guest.sh(
            f"systemd-run --quiet --unit={name} -p PrivateNetwork=yes -p User=nobody sleep infinity"
        )
        self.guest.sh(f"dladm attach-zone --pid {self.main_pid(name)} {name}")

    def lend_to_container(self, link, name):
        self.guest.sh(f"dladm set-zone -n eth0 {link} {name}")
        self.maltreat(f"nsenter --net --target {self.main_pid(name)}")

    def main_pid(self, unit):
        return self.guest.sh(f"systemctl show --value -p MainPID {unit}")


class Restarts(VmTest):
    """The daemon is started anew while zones have what it gave them."""

    def test_loans_and_transient_links_stay(self):
        card = self.guest.plug(self.a_card())
        link = self.await_settled(card)
        self.guest.sh(f"ip netns add kept && dladm set-zone -n eth0 {link['link']} kept")
        self.guest.sh("dladm create-veth -t -z kept in0 out0")
        before = self.of_zone("kept")
        self.guest.sh("systemctl restart dlmgmtd")
        self.assertEqual(self.of_zone("kept"), before)
        self.guest.sh("ip netns del kept")
        self.assert_agreed(card, link)
        self.wait_until("the pair ended", lambda: not self.guest.holds("ip link show out0"))

    def test_a_card_comes_home_though_its_zone_ended_during_the_restart(self):
        card = self.guest.plug(self.a_card())
        link = self.await_settled(card)
        self.guest.sh(f"ip netns add gone && dladm set-zone -n eth0 {link['link']} gone")
        self.restart_and_meanwhile("ip netns del gone")
        self.assert_agreed(card, link)

    def test_a_virtual_link_comes_home_though_its_zone_ended_during_the_restart(self):
        """It is the same one: the zone did not end before."""
        self.guest.sh("dladm create-veth net0 net1")
        self.guest.sh("ip netns add brief && dladm set-zone net0 brief")
        before = self.guest.sh("ip netns exec brief cat /sys/class/net/net0/address")
        self.restart_and_meanwhile("ip netns del brief")
        self.assertEqual(self.guest.sh("cat /sys/class/net/net0/address"), before)

    def test_a_link_of_somebody_else_comes_home_though_its_zone_ended_during_the_restart(self):
        """Nobody could make it again."""
        self.guest.sh("ip link add theirs0 type veth peer name theirs1")
        self.guest.sh("ip netns add short && dladm set-zone -t theirs0 short")
        self.restart_and_meanwhile("ip netns del short")
        self.assertTrue(self.guest.holds("ip link show theirs0"))

    def test_transient_links_end_though_their_zone_ended_during_the_restart(self):
        self.guest.sh("ip netns add fleet && dladm create-veth -t -z fleet in0 away0")
        self.restart_and_meanwhile("ip netns del fleet")
        self.wait_until("the pair ended", lambda: not self.guest.holds("ip link show away0"))
        self.assertNotIn("away0", [row["link"] for row in self.links().values()])

    def test_a_daemon_that_is_killed_is_started_again_and_knows_its_loans(self):
        card = self.guest.plug(self.a_card())
        link = self.await_settled(card)
        self.guest.sh(f"ip netns add crash && dladm set-zone -n eth0 {link['link']} crash")
        killed = self.guest.sh("systemctl show --value -p MainPID dlmgmtd")
        self.guest.sh("systemctl kill -s KILL dlmgmtd")
        self.wait_until(
            "systemd started another one",
            lambda: self.guest.holds(f"systemctl is-active dlmgmtd && ! kill -0 {killed}"),
        )
        self.await_link(card, link="eth0", linkid=link["linkid"], zone="crash")
        self.guest.sh("ip netns del crash")
        self.assert_agreed(card, link)

    def restart_and_meanwhile(self, command):
        """Restarts the daemon, and runs a command when the old one is gone and the new one is
        not there yet."""
        drop_in = "/run/systemd/system/dlmgmtd.service.d/meanwhile.conf"
        wait = "touch /run/dlmgmt/meanwhile; while [ -e /run/dlmgmt/meanwhile ]; do sleep 0.1; done"
        self.guest.write(drop_in, f"[Service]\nExecStartPre=sh -c '{wait}'")
        self.guest.sh(
            f"""systemctl daemon-reload
            systemctl restart --no-block dlmgmtd
            until [ -e /run/dlmgmt/meanwhile ]; do sleep 0.1; done
            rm {drop_in} && systemctl daemon-reload
            {command}
            rm /run/dlmgmt/meanwhile
            systemctl start dlmgmtd"""
        )

    def of_zone(self, zone):
        return [row for row in self.links().values() if row["zone"] == zone]
