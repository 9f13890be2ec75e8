//! Permissions of those who are not root, as polkit gives them. Where there is no polkit, nobody
//! has any.

use std::collections::HashMap;

use dlmgmt_proto::ZoneId;
use zbus::message::{Flags, Header};
use zbus::{Connection, Variant};

use crate::auth::Action;
use crate::engine::Caller;

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";

/// Lets polkit ask the user.
const ALLOW_USER_INTERACTION: u32 = 1;

/// Who decides.
pub struct Authority {
    connection: Connection,
}

impl Authority {
    /// Polkit, as it is found on this bus.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Grants the caller what a call needs, which is of one action of polkit, if that says so. It is
    /// asked only for who could do it as root: a user of the daemon's own zone.
    pub async fn ask(&self, header: &Header<'_>, needs: &'static [Action], caller: &mut Caller) {
        let Some(action) = needs.first().and_then(|action| action.polkit_id()) else {
            return;
        };
        if caller.uid == 0 || caller.zone != Some(ZoneId::GLOBAL) {
            return;
        }
        match self.check(header, action).await {
            Ok(true) => caller.granted = needs,
            Ok(false) => {}
            Err(why) => tracing::debug!("polkit does not decide {action}: {why}"),
        }
    }

    async fn check(&self, header: &Header<'_>, action: &str) -> zbus::Result<bool> {
        let sender = header.sender().map_or("", |sender| sender.as_str());
        let subject: (&str, HashMap<&str, Variant<'_>>) =
            ("system-bus-name", HashMap::from([("name", sender.into())]));
        let details: HashMap<&str, &str> = HashMap::new();
        let may_ask = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let flags = if may_ask { ALLOW_USER_INTERACTION } else { 0 };
        let question = (subject, action, details, flags, "");
        let answer = self
            .connection
            .call_method(Some(NAME), PATH, Some(INTERFACE), "CheckAuthorization", &question)
            .await?;
        let body = answer.body();
        let (is_authorised, _, _): (bool, bool, HashMap<String, String>) = body.deserialize()?;
        Ok(is_authorised)
    }
}
