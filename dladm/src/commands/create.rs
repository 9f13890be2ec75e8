//! `create-vnic`, `create-veth`, and the deletion of what they make.

use dlmgmt_proto::door::CreateLink;
use dlmgmt_proto::{LinkClass, LinkSpec, MacvlanMode};

use super::{Connect, link_ref, text, zone_name};
use crate::cli;
use crate::failure::Failure;

/// Makes a macvlan.
pub fn vnic(args: &cli::CreateVnic, connect: impl Connect) -> Result<(), Failure> {
    let call = vnic_call(args)?;
    connect()?.create_link(call)?;
    Ok(())
}

fn vnic_call(args: &cli::CreateVnic) -> Result<CreateLink, Failure> {
    let (over, mode) = (link_ref(&args.over)?, MacvlanMode::default());
    Ok(CreateLink {
        name: text(&args.name)?.to_owned(),
        zone: args.zone.as_deref().map(zone_name).transpose()?,
        temporary: args.temporary,
        spec: LinkSpec::Vnic { over, mac: args.mac.0, mode },
    })
}

/// Makes a pair of links.
pub fn veth(args: &cli::CreateVeth, connect: impl Connect) -> Result<(), Failure> {
    let call = veth_call(args)?;
    connect()?.create_link(call)?;
    Ok(())
}

fn veth_call(args: &cli::CreateVeth) -> Result<CreateLink, Failure> {
    let peer_zone = args.peer_zone.as_deref().map(zone_name).transpose()?;
    Ok(CreateLink {
        name: text(&args.name)?.to_owned(),
        zone: args.zone.as_deref().map(zone_name).transpose()?,
        temporary: args.temporary,
        spec: LinkSpec::Veth { peer: text(&args.peer)?.to_owned(), peer_zone },
    })
}

/// Deletes a virtual link of this class.
pub fn delete(args: &cli::Delete, class: LinkClass, connect: impl Connect) -> Result<(), Failure> {
    let link = link_ref(&args.link)?;
    connect()?.delete_link(link, class)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dlmgmt_proto::ZoneName;

    #[test]
    fn a_vnic_is_asked_for_over_its_link_with_its_address() {
        let mac = "02:00:00:00:00:01".parse().ok();
        let args = cli::CreateVnic {
            temporary: true,
            over: "@7".into(),
            mac: cli::Mac(mac),
            zone: Some("web".to_owned()),
            name: "v0".into(),
        };
        let (over, mode) = ("@7".parse().unwrap(), MacvlanMode::Bridge);
        let spec = LinkSpec::Vnic { over, mac, mode };
        let zone = ZoneName::new("web").ok();
        let wanted = CreateLink { name: "v0".to_owned(), zone, temporary: true, spec };
        assert_eq!(vnic_call(&args).unwrap(), wanted);
    }

    #[test]
    fn each_end_of_a_pair_has_its_own_zone_and_a_bad_one_is_refused() {
        let args = |peer_zone: &str| cli::CreateVeth {
            temporary: false,
            zone: None,
            peer_zone: Some(peer_zone.to_owned()),
            name: "a".into(),
            peer: "b".into(),
        };
        let call = veth_call(&args("web")).unwrap();
        let peer_zone = ZoneName::new("web").ok();
        assert_eq!(call.spec, LinkSpec::Veth { peer: "b".to_owned(), peer_zone });
        assert_eq!(call.zone, None);
        assert!(matches!(veth_call(&args("../x")), Err(Failure::BadZone(..))));
    }
}
