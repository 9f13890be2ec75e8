//! Who a caller is, and what each may do: one table, the same as in `docs/security.md`.

mod process;

use dlmgmt_proto::{Error, ErrorCode, Result, ZoneId};

use crate::core::Scope;
use crate::engine::Caller;

pub use process::Process;

/// What a caller asks to do, as far as permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read links and events.
    See,
    /// Give links other names.
    Rename,
    /// End the record of a removed physical link.
    DeletePhys,
    /// Claim a link.
    Hold,
    /// Read the whole persistent registry.
    Export,
    /// Bring in a persistent registry.
    Import,
    /// Lend links to zones, and take them back.
    Lend,
    /// Bring home a link that somebody moved away.
    Reclaim,
    /// Make and end virtual links anywhere.
    Make,
    /// Make and end transient links in one's own zone.
    MakeInside,
    /// Register and unregister zones.
    ManageZones,
    /// Take part in zone ends.
    Participate,
    /// Set properties of links.
    SetProperties,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Every caller in a zone, as with `ip link`.
    Anybody,
    /// User 0 in the global zone.
    GlobalRoot,
    /// User 0 in whatever zone.
    Root,
}

impl Action {
    fn allowed_to(self) -> Who {
        match self {
            Self::See => Who::Anybody,
            Self::Rename
            | Self::DeletePhys
            | Self::Hold
            | Self::Export
            | Self::Import
            | Self::Lend
            | Self::Reclaim
            | Self::Make
            | Self::ManageZones
            | Self::Participate
            | Self::SetProperties => Who::GlobalRoot,
            Self::MakeInside => Who::Root,
        }
    }

    /// The polkit action that stands for it; none for what everybody may.
    pub fn polkit_id(self) -> Option<&'static str> {
        Some(match self {
            Self::See => return None,
            Self::Rename => "org.dlmgmt1.rename",
            Self::DeletePhys => "org.dlmgmt1.delete-phys",
            Self::Hold => "org.dlmgmt1.hold",
            Self::Export => "org.dlmgmt1.export",
            Self::Import => "org.dlmgmt1.import",
            Self::Lend => "org.dlmgmt1.lend",
            Self::Reclaim => "org.dlmgmt1.reclaim",
            Self::Make | Self::MakeInside => "org.dlmgmt1.make",
            Self::ManageZones => "org.dlmgmt1.manage-zones",
            Self::Participate => "org.dlmgmt1.participate",
            Self::SetProperties => "org.dlmgmt1.set-properties",
        })
    }

    fn words(self) -> &'static str {
        match self {
            Self::See => "see links",
            Self::Rename => "rename links",
            Self::DeletePhys => "delete physical links",
            Self::Hold => "hold links",
            Self::Export => "export the registry",
            Self::Import => "import a registry",
            Self::Lend => "lend links",
            Self::Reclaim => "reclaim links",
            Self::Make => "make or delete links",
            Self::MakeInside => "make or delete transient links",
            Self::ManageZones => "register zones",
            Self::Participate => "take part in zone ends",
            Self::SetProperties => "set properties of links",
        }
    }
}

/// Lets a caller do something, and says what it can see meanwhile.
pub fn authorise(caller: &Caller, action: Action) -> Result<Scope> {
    let Some(zone) = caller.zone else {
        let text = "the caller's network namespace is no zone of this daemon";
        return Err(Error::new(ErrorCode::NoZone, text));
    };
    let may = match action.allowed_to() {
        Who::Anybody => true,
        Who::GlobalRoot => zone == ZoneId::GLOBAL && caller.uid == 0,
        Who::Root => caller.uid == 0,
    };
    let is_granted = zone == ZoneId::GLOBAL && caller.granted.contains(&action);
    if may || is_granted {
        return Ok(Scope { zone });
    }
    let who = if action.allowed_to() == Who::Root { "root" } else { "root in zone global" };
    let text = format!("user {} may not {}: only {who} may", caller.uid, action.words());
    Err(Error::new(ErrorCode::Denied, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(zone: Option<ZoneId>, uid: u32) -> Caller {
        Caller { zone, uid, gid: uid, client: "test".to_owned(), ..Caller::default() }
    }

    #[test]
    fn everybody_in_a_zone_sees_and_only_root_in_global_changes() {
        let user = caller(Some(ZoneId::GLOBAL), 1000);
        let root = caller(Some(ZoneId::GLOBAL), 0);
        let inside = caller(Some(ZoneId(1)), 0);
        for action in
            [Action::Rename, Action::DeletePhys, Action::Hold, Action::Export, Action::Import]
        {
            assert!(authorise(&root, action).is_ok());
            for refused in [&user, &inside] {
                assert_eq!(authorise(refused, action).unwrap_err().code, ErrorCode::Denied);
            }
        }
        assert!(authorise(&user, Action::See).is_ok());
    }

    #[test]
    fn a_namespace_that_is_no_zone_sees_nothing() {
        let stranger = caller(None, 0);
        assert_eq!(authorise(&stranger, Action::See).unwrap_err().code, ErrorCode::NoZone);
    }

    const ALL: [Action; 13] = [
        Action::See,
        Action::Rename,
        Action::DeletePhys,
        Action::Hold,
        Action::Export,
        Action::Import,
        Action::Lend,
        Action::Reclaim,
        Action::Make,
        Action::MakeInside,
        Action::ManageZones,
        Action::Participate,
        Action::SetProperties,
    ];

    #[test]
    fn the_polkit_actions_are_those_of_the_policy_file() {
        let policy = include_str!("../../../systemd/org.dlmgmt1.policy");
        let mut described: Vec<&str> = policy
            .split("<action id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let mut known: Vec<&str> = ALL.iter().filter_map(|action| action.polkit_id()).collect();
        described.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(described, known);
    }

    /// What is done and by whom, of each row of the table in `docs/security.md`.
    fn documented() -> Vec<(&'static str, &'static str)> {
        let rows = include_str!("../../../docs/security.md").lines();
        let cells = rows.filter(|line| line.starts_with("| ")).skip(1).map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0], cells[cells.len() - 1])
        });
        cells.collect()
    }

    #[test]
    fn the_table_of_the_documentation_is_the_one_here() {
        let who = |action: Action| match action.allowed_to() {
            Who::Anybody => "everybody in a zone",
            Who::GlobalRoot => "root in zone `global`",
            Who::Root => "root in a zone",
        };
        let table: Vec<_> = ALL.iter().map(|action| (action.words(), who(*action))).collect();
        assert_eq!(documented(), table);
    }
}
