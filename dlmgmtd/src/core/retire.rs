//! The end of physical links' records: SPEC.md section 5.

use dlmgmt_proto::{Error, ErrorCode, LinkClass, LinkId, Result};

use super::lookup::{Scope, known, title};
use super::plan::{LinkChange, Plan};
use super::registry::Registry;
use super::rename::refuse_held;
use super::stacking::refuse_under_others;

/// Ends the record of a physical link whose hardware is absent.
pub fn plan_delete_phys(registry: &Registry, id: LinkId) -> Result<Plan> {
    let link = known(registry, id)?;
    if link.record.class != LinkClass::Phys {
        let text = format!("{} is no physical link", title(registry, link));
        return Err(Error::new(ErrorCode::Invalid, text));
    }
    if !link.is_removed() {
        let what = title(registry, link);
        let text = format!("{what} is present: only a removed link can be deleted");
        return Err(Error::new(ErrorCode::Busy, text));
    }
    refuse_held(registry, link)?;
    refuse_under_others(registry, Scope::GLOBAL, link)?;
    Ok(Plan { changes: vec![LinkChange::end(id)], ..Plan::default() })
}
