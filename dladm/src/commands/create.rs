//! Virtual links are made, get and lose ports, and end.

use std::ffi::OsString;

use dlmgmt_proto::LinkRef;
use dlmgmt_proto::door::{ChangePorts, LinkOption, MakeLink, Peer};

use super::{Connect, link_ref, text, zone_name};
use crate::classes::{ClassCommand, Create};
use crate::failure::Failure;

/// Does what a command about links of a class asks for.
pub fn run(command: &ClassCommand, connect: impl Connect) -> Result<(), Failure> {
    match command {
        ClassCommand::Create(create) => {
            let call = make_call(create)?;
            connect()?.make_link(call)?;
        }
        ClassCommand::Delete { class, link } => {
            let link = link_ref(link)?;
            connect()?.delete_link(link, *class)?;
        }
        ClassCommand::Ports { class, are_added, ports, link } => {
            let (link, ports) = (link_ref(link)?, link_refs(ports)?);
            let (add, remove) = if *are_added { (ports, Vec::new()) } else { (Vec::new(), ports) };
            connect()?.call(&ChangePorts { link, class: *class, add, remove })?;
        }
    }
    Ok(())
}

fn make_call(create: &Create) -> Result<MakeLink, Failure> {
    let mut links = link_refs(&create.links)?;
    let over = if create.kind.has_ports { None } else { links.pop() };
    let peer_zone = create.peer_zone.as_deref().map(zone_name).transpose()?;
    let peer = create.peer.as_ref().map(|peer| text(peer)).transpose()?;
    let options = create.options.iter();
    Ok(MakeLink {
        name: text(&create.name)?.to_owned(),
        zone: create.zone.as_deref().map(zone_name).transpose()?,
        temporary: create.temporary,
        kind: create.kind.name.to_owned(),
        over,
        peer: peer.map(|peer| Peer { name: peer.to_owned(), zone: peer_zone }),
        ports: links,
        options: options.map(|(name, value)| LinkOption::new(*name, value)).collect(),
    })
}

fn link_refs(operands: &[OsString]) -> Result<Vec<LinkRef>, Failure> {
    operands.iter().map(|operand| link_ref(operand)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Parsed, parse};
    use dlmgmt_proto::ZoneName;

    fn asked(line: &str) -> Result<MakeLink, Failure> {
        match parse(line.split(' ').map(OsString::from)) {
            Ok(Parsed::Run(cli)) => match cli.into_parts().1 {
                Command::OfClass(ClassCommand::Create(create)) => make_call(&create),
                other => panic!("`{line}` is {other:?}"),
            },
            Ok(Parsed::Print(text)) => panic!("printed {text}"),
            Err(report) => panic!("{report}"),
        }
    }

    fn options(call: &MakeLink) -> Vec<(&str, &str)> {
        call.options.iter().map(|option| (&*option.name, &*option.value)).collect()
    }

    #[test]
    fn a_vnic_is_asked_for_over_its_link_with_its_address() {
        let call = asked("dladm create-vnic -t -l @7 -m 02:00:00:00:00:01 -z web v0").unwrap();
        let wanted = MakeLink {
            name: "v0".to_owned(),
            zone: ZoneName::new("web").ok(),
            temporary: true,
            kind: "macvlan".to_owned(),
            over: "@7".parse().ok(),
            options: vec![LinkOption::new("mac", "02:00:00:00:00:01")],
            ..MakeLink::default()
        };
        assert_eq!(call, wanted);
        assert_eq!(options(&asked("dladm create-vnic -l a -m auto v0").unwrap()), []);
    }

    #[test]
    fn each_end_of_a_pair_has_its_own_zone_and_a_bad_one_is_refused() {
        for class in ["veth", "simnet"] {
            let call = asked(&format!("dladm create-{class} -Z web a b")).unwrap();
            let zone = ZoneName::new("web").ok();
            assert_eq!(call.peer, Some(Peer { name: "b".to_owned(), zone }));
            assert_eq!((call.kind.as_str(), call.zone), (class, None));
            let bad = asked(&format!("dladm create-{class} -Z ../x a b"));
            assert!(matches!(bad, Err(Failure::BadZone(..))));
        }
    }

    #[test]
    fn links_below_are_ports_of_what_has_ports() {
        let call = asked("dladm create-bridge -P stp -p 4096 --vlan-filtering -l a -l b br0");
        let call = call.unwrap();
        assert_eq!(call.ports, ["a".parse().unwrap(), "b".parse().unwrap()]);
        assert_eq!(
            options(&call),
            [("protect", "stp"), ("priority", "4096"), ("vlan-filtering", "on")]
        );
        let call = asked("dladm create-vlan -l a -v 7 --protocol 802.1ad v7").unwrap();
        assert_eq!((call.over, call.ports.len()), ("a".parse().ok(), 0));
    }

    #[test]
    fn the_kind_is_the_first_of_the_class_or_the_one_that_is_named() {
        for (line, kind) in [
            ("dladm create-etherstub s0", "dummy"),
            ("dladm create-aggr -L active -l a -l b ag0", "bond"),
            ("dladm create-vnic --kind ipvlan --mode l3 -l a v0", "ipvlan"),
            ("dladm create-vnic -v 5 -l a v0", "vlan-vnic"),
            ("dladm create-overlay -v 7 --remote 192.0.2.1 o0", "vxlan"),
            ("dladm create-overlay -e geneve -v 7 --remote ::1 o0", "geneve"),
            ("dladm create-iptun -T 6to4 -a local=192.0.2.1 t0", "6to4"),
            ("dladm create-iptun -T ipv4 -a local=192.0.2.1,remote=192.0.2.2 t0", "ipip"),
            ("dladm create-tap --user 1000 tap0", "tap"),
        ] {
            assert_eq!(asked(line).unwrap().kind, kind, "{line}");
        }
    }

    #[test]
    fn a_vnic_on_a_vlan_is_asked_for_with_that_and_with_its_address() {
        let mac = "02:00:00:00:00:01";
        for (address, wanted) in
            [(mac, &[("mac", mac), ("vid", "5")][..]), ("auto", &[("vid", "5")])]
        {
            let call = asked(&format!("dladm create-vnic -l a -v 5 -m {address} v0")).unwrap();
            let mut told = options(&call);
            told.sort_unstable();
            assert_eq!((call.kind.as_str(), &told[..]), ("vlan-vnic", wanted));
        }
    }

    #[test]
    fn the_ends_of_a_tunnel_may_be_listed() {
        let call = asked("dladm create-iptun -T gre -a local=192.0.2.1,remote=192.0.2.2 --key 5 t");
        let wanted = [("key", "5"), ("local", "192.0.2.1"), ("remote", "192.0.2.2")];
        assert_eq!(options(&call.unwrap()), wanted);
    }
}
