//! Zones whose namespaces were kept while the daemon was not there.
//!
//! They come up before the sources of zones are heard, and wait for theirs to claim them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{Error, ErrorCode, Result, ZoneId, ZoneName};

use super::{Arrival, ZoneKeeper};
use crate::core::plan_zone_up;
use crate::model::{NsCookie, ZoneUp};
use crate::zones::{Found, identify};

/// A zone that was taken back. Its namespace lives until this is dropped and the zone is claimed.
pub(super) struct Kept {
    zone: ZoneId,
    cookie: NsCookie,
    ns: Arc<OwnedFd>,
}

impl Kept {
    /// Opens its namespace.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        self.ns.try_clone().ok()
    }
}

/// Zones that were taken back, until their sources are found again.
pub(super) type Unclaimed = Mutex<BTreeMap<ZoneName, Kept>>;

impl ZoneKeeper {
    /// Namespaces that were kept while the daemon was not there are zones again at once: what is in
    /// them must not be lost, whatever has happened to their names.
    pub async fn take_back_what_was_kept(&self) {
        for (name, ns) in self.pipeline.custody.take_back() {
            match self.take_back(&name, ns).await {
                Ok(kept) => _ = self.unclaimed().insert(name, kept),
                Err(why) => {
                    tracing::warn!(ZONE = name.as_str(), "zone {name} is not taken back: {why}");
                    self.pipeline.custody.let_go(&name);
                }
            }
        }
    }

    async fn take_back(&self, name: &ZoneName, ns: OwnedFd) -> Result<Kept> {
        let invalid = |why: String| Error::new(ErrorCode::Invalid, why);
        let identified = tokio::task::spawn_blocking(move || identify(ns));
        let identified = identified.await.map_err(|why| invalid(why.to_string()))?;
        let (ns, cookie) = identified.map_err(|why| invalid(why.to_string()))?;
        let ns = Arc::new(ns);
        let registry = self.pipeline.registry();
        let known = registry.zone_by_name(name).and_then(|id| registry.zone(id));
        let attached = known.and_then(|zone| zone.record.attached.clone());
        let door = ns.clone();
        let arrival = Arrival {
            name: name.clone(),
            ns: ns.try_clone().map_err(|why| invalid(why.to_string()))?,
            opener: Arc::new(move || door.try_clone()),
            pid: None,
            path: None,
            attached: attached.filter(|attached| attached.ns == cookie).map(|it| it.by),
        };
        let zone = self.bring_up(arrival).await?;
        // Its source may know no way in.
        if let Err(why) = self.pipeline.kernel.pin(cookie).await {
            tracing::warn!(ZONE = name.as_str(), "zone {name} cannot be entered: {why}");
        }
        Ok(Kept { zone, cookie, ns })
    }

    /// A zone that was taken back has its source again.
    pub(super) async fn claim(self: &Arc<Self>, found: Found) -> Result<ZoneId> {
        let Arrival { name, ns, opener, pid, path, attached } = found.into();
        let (zone, ns) = {
            let _birth = self.births.lock().await;
            let watched = self.pipeline.kernel.watch(ns, opener).await;
            let ns = watched.map_err(|why| Error::kernel(why.errno, why.to_string()))?;
            let up = ZoneUp { ns, is_ending: false, pid, path };
            let plan = plan_zone_up(&self.pipeline.registry(), &name, up, attached);
            let zone = plan.zones[0].record.id;
            self.pipeline.carry_out_always(plan).await?;
            (zone, ns)
        };
        tracing::info!(ZONE = name.as_str(), "zone {name} is up again");
        self.send_loans(zone).await;
        // The last loan may have come home without its custodian being told.
        self.pipeline.using([ns].into()).end();
        Ok(zone)
    }

    /// Takes the kept zone that has this name and namespace; one that has only one of the two ended
    /// meanwhile, and gives way.
    pub(super) async fn claimed_by(&self, found: &Found) -> Option<Kept> {
        let mut claimed = None;
        for (name, kept) in self.unclaimed_like(found) {
            if name == found.name && kept.cookie == found.cookie {
                claimed = Some(kept);
            } else {
                self.take_down(kept.zone, kept.cookie).await;
            }
        }
        claimed
    }

    fn unclaimed_like(&self, found: &Found) -> BTreeMap<ZoneName, Kept> {
        let mut unclaimed = self.unclaimed();
        let (like, others) = std::mem::take(&mut *unclaimed)
            .into_iter()
            .partition(|(name, kept)| *name == found.name || kept.cookie == found.cookie);
        *unclaimed = others;
        like
    }

    /// Zones that were taken back, and that nothing leads to any more, ended meanwhile.
    pub async fn end_unclaimed(&self) {
        let ended = std::mem::take(&mut *self.unclaimed());
        for (name, kept) in ended {
            tracing::info!(ZONE = name.as_str(), "zone {name} ended meanwhile");
            self.take_down(kept.zone, kept.cookie).await;
        }
    }

    pub(super) fn unclaimed(&self) -> MutexGuard<'_, BTreeMap<ZoneName, Kept>> {
        // Every statement leaves the map whole, so a poisoned lock does no harm.
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
