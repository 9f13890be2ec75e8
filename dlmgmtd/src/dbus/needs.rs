//! Which permission a call needs, where its method alone does not tell.

use std::collections::HashMap;

use dlmgmt_proto::{Flags, LinkRef};

use super::calls::Given;
use super::object::Object;
use super::table::Method;
use super::{Call, Face, Failure};
use crate::auth::Action;
use crate::engine::is_zone;

impl Face {
    /// Of what a method may need, that which this call needs: all of one action of polkit.
    pub(super) fn needs(
        &self,
        object: Object,
        method: &'static Method,
        call: &Call<'_>,
    ) -> Result<&'static [Action], Failure> {
        let Some(first) = method.needs.first() else { return Ok(&[]) };
        let needed = match (object, method.name) {
            (Object::Manager, "SetProperties") => {
                let (_, values, _): (String, HashMap<String, String>, Given) = call.arguments()?;
                for_properties(values.keys())
            }
            (Object::Link(_), "SetProperties") => {
                let (values, _): (HashMap<String, String>, Given) = call.arguments()?;
                for_properties(values.keys())
            }
            (Object::Manager, "ResetProperties") => {
                let (_, names, _): (String, Vec<String>, Given) = call.arguments()?;
                for_properties(&names)
            }
            (Object::Link(_), "ResetProperties") => {
                let (names, _): (Vec<String>, Given) = call.arguments()?;
                for_properties(&names)
            }
            (Object::Link(id), "Delete") => {
                let is_removed = self.link(call, &LinkRef::Id(id))?.flags.contains(Flags::REMOVED);
                if is_removed { Action::DeletePhys } else { Action::Make }
            }
            _ => *first,
        };
        let mut rows = method.needs.chunk_by(|one, next| one.polkit_id() == next.polkit_id());
        Ok(rows.find(|row| row.contains(&needed)).unwrap_or_default())
    }
}

/// To set `zone`, which is set by itself, is to lend the link.
fn for_properties<'a>(names: impl IntoIterator<Item = &'a String>) -> Action {
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) if is_zone(name) => Action::Lend,
        _ => Action::SetProperties,
    }
}
