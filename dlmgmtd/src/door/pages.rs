//! Lists that are longer than a packet.

use dlmgmt_proto::door::{Details, List, ListCursor, Page, Zones, body_len};
use dlmgmt_proto::{LinkDetails, LinkInfo, Result, ZoneId, ZoneInfo};

use crate::engine::{Caller, Snapshot};

/// Bytes of items in one page: what is left of a packet is more than the rest of a page takes.
const PAGE_BYTES: usize = 60 * 1024;

/// The page of `snapshot` that begins where `call` says.
pub(super) fn links(snapshot: &dyn Snapshot, caller: &Caller, call: &List) -> Result<Page> {
    let (seq, mut after) = (snapshot.seq(), call.cursor.map(|cursor| cursor.after));
    let mut links: Vec<LinkInfo> = Vec::new();
    let mut room = PAGE_BYTES;
    while let Some(link) = snapshot.next(caller, &call.filter, after)? {
        let len = body_len(&link);
        if let (true, Some(after)) = (len > room, after) {
            return Ok(Page { seq, links, next: Some(ListCursor { seq, after }) });
        }
        room = room.saturating_sub(len);
        after = Some(link.id);
        links.push(link);
    }
    Ok(Page { seq, links, next: None })
}

/// The first of the details that fit in a packet.
pub(super) fn details(mut all: Details) -> Details {
    let mut room = PAGE_BYTES;
    let mut fits = |link: &LinkDetails| {
        let len = body_len(link);
        let fits = len <= room;
        room = room.saturating_sub(len);
        fits
    };
    let fitting = all.links.iter().take_while(|link| fits(link)).count();
    all.links.truncate(fitting.max(1));
    all
}

/// The page of `all`, which are in the order of their numbers, that begins after `after`.
pub(super) fn zones(all: Vec<ZoneInfo>, after: Option<ZoneId>) -> Zones {
    let mut zones: Vec<ZoneInfo> = Vec::new();
    let mut room = PAGE_BYTES;
    for zone in all.into_iter().filter(|zone| after.is_none_or(|after| zone.id > after)) {
        let len = body_len(&zone);
        if let (true, Some(last)) = (len > room, zones.last()) {
            return Zones { next: Some(last.id), zones };
        }
        room = room.saturating_sub(len);
        zones.push(zone);
    }
    Zones { zones, next: None }
}
