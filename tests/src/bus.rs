//! A bus of a host's own: a real dbus-daemon, set up as the system bus is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Guest, Host, Output, bin, eventually};

/// What the stock system bus allows, before a service's own policy.
const POLICY: &str = r#"
<policy context="default">
  <allow user="*"/>
  <deny own="*"/>
  <deny send_type="method_call"/>
  <allow send_type="signal"/>
  <allow send_requested_reply="true" send_type="method_return"/>
  <allow send_requested_reply="true" send_type="error"/>
  <allow receive_type="method_call"/>
  <allow receive_type="method_return"/>
  <allow receive_type="error"/>
  <allow receive_type="signal"/>
  <allow send_destination="org.freedesktop.DBus"/>
</policy>"#;

/// A running bus; it ends with this value.
pub struct Bus {
    child: Child,
    address: String,
}

impl Bus {
    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

impl Host {
    /// Starts a bus with the project's policy, and what else is to be in its configuration.
    ///
    /// # Panics
    /// When there is no dbus-daemon.
    #[track_caller]
    pub fn start_bus(&self, more: &str) -> Bus {
        let policy = fs::read_to_string(project("systemd/org.dlmgmt1.conf")).expect("the policy");
        let policy_file = self.dir().join("org.dlmgmt1.conf");
        fs::write(&policy_file, policy).expect("a copy of the policy");
        let config = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             {POLICY}<include>{}</include>{more}</busconfig>",
            self.dir().join("bus").display(),
            policy_file.display(),
        );
        let config_file = self.dir().join("bus.conf");
        fs::write(&config_file, config).expect("a configuration");
        let mut command = self.command("dbus-daemon");
        command.arg(format!("--config-file={}", config_file.display()));
        command.args(["--nofork", "--nopidfile", "--print-address"]);
        let log = fs::File::create(self.dir().join("bus.log")).expect("a log");
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("dbus-daemon runs");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("its output is piped");
        BufReader::new(stdout).read_line(&mut address).expect("its output can be read");
        assert!(!address.is_empty(), "there is no bus");
        // With its GUID the address would be that of this one bus, and of none that follows it.
        let address = address.split(",guid=").next().unwrap_or_default();
        Bus { child, address: address.trim().to_owned() }
    }

    /// Starts the real polkitd on a bus, with the project's actions and this rule alone; it ends
    /// with what is answered.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_polkit(&self, bus: &Bus, rule: &str) -> Guest {
        let actions = project("systemd/org.dlmgmt1.policy");
        fs::write(self.dir().join("rule"), rule).expect("a rule");
        self.sh(&format!(
            "mount -t tmpfs tmpfs /usr/share/polkit-1/actions
             cp {} /usr/share/polkit-1/actions
             mkdir -p /etc/polkit-1/rules.d
             mount -t tmpfs tmpfs /etc/polkit-1/rules.d
             cp {} /etc/polkit-1/rules.d/50-test.rules
             chmod -R a+rX /etc/polkit-1/rules.d /usr/share/polkit-1/actions",
            actions.display(),
            self.dir().join("rule").display(),
        ));
        let mut command = self.command("/usr/lib/polkit-1/polkitd");
        command.arg("--no-debug").env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
        let log = fs::File::create(self.dir().join("polkit.log")).expect("a log");
        let polkit = command.stderr(log).spawn().expect("polkitd runs");
        eventually("polkitd is on the bus", || {
            let name = "org.freedesktop.PolicyKit1";
            let ping = ["call", name, "/", "org.freedesktop.DBus.Peer", "Ping"];
            self.busctl(bus, &ping).status == 0
        });
        Guest::from(polkit)
    }

    /// Starts the daemon on a bus, and waits until it has its name there.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    pub fn start_daemon_on(&mut self, bus: &Bus) {
        let mut command = self.command(bin("dlmgmtd"));
        self.add_daemon_args_with_bus(&mut command, bus.address());
        self.start_daemon_as(command);
        eventually("the daemon is on the bus", || self.is_on(bus));
    }

    /// Whether the daemon has its name on a bus.
    pub fn is_on(&self, bus: &Bus) -> bool {
        let ping = ["call", "org.dlmgmt1", "/", "org.freedesktop.DBus.Peer", "Ping"];
        self.busctl(bus, &ping).status == 0
    }

    /// Runs `busctl` on a bus.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn busctl(&self, bus: &Bus, words: &[&str]) -> Output {
        self.busctl_command(bus).args(words).output().expect("busctl runs").into()
    }

    /// `busctl`, about to run on a bus.
    pub fn busctl_command(&self, bus: &Bus) -> Command {
        let mut command = self.command("busctl");
        command.arg(format!("--address={}", bus.address()));
        command
    }

    /// Runs a method of the manager with `busctl`.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn manager(&self, bus: &Bus, words: &[&str]) -> Output {
        let object = ["call", "org.dlmgmt1", "/org/dlmgmt1", "org.dlmgmt1.Manager"];
        self.busctl(bus, &[&object[..], words].concat())
    }

    /// Runs one of the Python clients in `tests/python` on a bus, with this argument.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn python(&self, bus: &Bus, client: &str, argument: &str) -> Output {
        // Debian's own Python has the modules that Debian's packages bring.
        let mut command = self.command("/usr/bin/python3");
        command.arg(project("tests/python").join(client)).arg(bus.address()).arg(argument);
        command.output().expect("python3 runs").into()
    }
}
