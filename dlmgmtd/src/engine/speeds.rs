//! How fast physical links are, for those who list them or hear of changes.
//!
//! Drivers are asked when a link came or its carrier changed, beside all else: whoever changes or
//! looks at links never waits for one. Who must know what holds at this moment asks for details.

use std::sync::Arc;

use dlmgmt_proto::{Event, LinkClass, LinkId};

use super::pipeline::Pipeline;
use crate::core::Registry;
use crate::model::Binding;

/// Follows what is told of links for as long as that goes on.
pub async fn follow(pipeline: Arc<Pipeline>) {
    let mut told = pipeline.hub.subscribe(Vec::new(), Box::new(is_of_interest));
    refresh_all(&pipeline).await;
    while let Some(event) = told.next().await {
        match event.event {
            Event::Added(link) | Event::Moved { link, .. } => refresh(&pipeline, link.id).await,
            Event::State { id, .. } => refresh(&pipeline, id).await,
            _ => refresh_all(&pipeline).await,
        }
    }
}

fn is_of_interest(event: &Event) -> bool {
    match event {
        Event::Added(link) | Event::Moved { link, .. } => link.class == LinkClass::Phys,
        Event::State { .. } | Event::Lost { .. } => true,
        _ => false,
    }
}

async fn refresh_all(pipeline: &Pipeline) {
    let ids: Vec<LinkId> = pipeline.registry().links().map(|link| link.record.id).collect();
    for id in ids {
        refresh(pipeline, id).await;
    }
}

async fn refresh(pipeline: &Pipeline, id: LinkId) {
    let Some(at) = place(&pipeline.registry(), id) else { return };
    // A driver that does not tell now is asked again when the link changes.
    let Ok(modes) = pipeline.kernel.link_modes(at.ns, &[at.ifindex]).await else { return };
    let mode = modes.into_iter().next().unwrap_or_default();
    let is_new = |registry: &Registry| {
        let known = registry.link(id).map(|link| registry.link_mode(link));
        place(registry, id) == Some(at) && known != Some(mode)
    };
    if is_new(&pipeline.registry()) {
        pipeline.commit_with(|registry| match is_new(registry) {
            true => (registry.with_link_mode(id, mode), [id].into()),
            false => (registry.clone(), [].into()),
        });
    }
}

/// Where the kernel has a physical link.
fn place(registry: &Registry, id: LinkId) -> Option<Binding> {
    let link = registry.link(id).filter(|link| link.record.class == LinkClass::Phys)?;
    link.binding().filter(|_| !link.is_loopback())
}
