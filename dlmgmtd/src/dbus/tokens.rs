//! Descriptors that stand for something: a hold, or a part in zone ends. It lasts until every copy
//! of the descriptor is closed, by whomever it was passed to.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlmgmt_proto::{Error, ErrorCode, Event, Result, ZoneId};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::names::OwnedUniqueName;

use super::signals;
use crate::engine::EventStream;
use crate::sys::Watched;

/// A descriptor for a caller, as long as whose copies are open `kept` lives.
pub fn keep(kept: impl Send + 'static) -> io::Result<OwnedFd> {
    let (token, closed) = token()?;
    tokio::spawn(async move {
        closed.wait().await;
        drop(kept);
    });
    Ok(token)
}

fn token() -> io::Result<(OwnedFd, Closed)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((theirs, Closed(Watched::new(ours)?)))
}

/// The other end of a token.
struct Closed(Watched);

impl Closed {
    /// Waits until no copy of the token is open. What is written to it is thrown away.
    async fn wait(&self) {
        let mut thrown_away = [0; 64];
        // Waiting fails only when the runtime goes down.
        while let Ok(mut ready) = self.0.readable().await {
            let read = ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut thrown_away)?));
            match read {
                Ok(Ok(0)) | Ok(Err(_)) => return,
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

/// An acknowledgement, and where it is told what became of it.
type Acknowledgement = (ZoneId, oneshot::Sender<Result<()>>);

/// Who takes part in zone ends.
#[derive(Clone, Default)]
pub struct Participants(Arc<Mutex<HashMap<OwnedUniqueName, mpsc::Sender<Acknowledgement>>>>);

impl Participants {
    /// Lets a caller take part with its own stream of events; the answer is its token. A caller
    /// that takes part already does so anew.
    pub fn join(
        &self,
        connection: &Connection,
        caller: OwnedUniqueName,
        stream: Box<dyn EventStream>,
    ) -> io::Result<OwnedFd> {
        let (token, closed) = token()?;
        let (tell, told) = mpsc::channel(1);
        self.lock().insert(caller.clone(), tell.clone());
        let (all, connection) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = closed.wait() => {}
                () = take_part(&connection, &caller, stream, told) => {}
            }
            all.leave(&caller, &tell);
        });
        Ok(token)
    }

    /// Passes on that a participant is done with a zone.
    pub async fn acknowledge(&self, caller: &OwnedUniqueName, zone: ZoneId) -> Result<()> {
        let nobody = || {
            let text = "the caller takes no part in zone ends: see TakePart";
            Error::new(ErrorCode::Invalid, text)
        };
        let participant = self.lock().get(caller).cloned().ok_or_else(nobody)?;
        let (answer, answered) = oneshot::channel();
        participant.send((zone, answer)).await.map_err(|_| nobody())?;
        answered.await.unwrap_or_else(|_| Err(nobody()))
    }

    fn leave(&self, caller: &OwnedUniqueName, own: &mpsc::Sender<Acknowledgement>) {
        let mut all = self.lock();
        if all.get(caller).is_some_and(|tell| tell.same_channel(own)) {
            all.remove(caller);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, mpsc::Sender<Acknowledgement>>> {
        // Every statement leaves the map whole, so a poisoned lock does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the participant alone of the zones, until the daemon goes down.
async fn take_part(
    connection: &Connection,
    caller: &OwnedUniqueName,
    mut stream: Box<dyn EventStream>,
    mut told: mpsc::Receiver<Acknowledgement>,
) {
    loop {
        tokio::select! {
            event = stream.next() => {
                let Some(event) = event else { return };
                tell_zone(connection, caller, &event.event).await;
            }
            Some((zone, answer)) = told.recv() => {
                // Who does not wait for it does not mind.
                let _ = answer.send(stream.acknowledge(zone));
            }
        }
    }
}

/// Everybody is told of what happens; the participant alone of what there was before it.
async fn tell_zone(connection: &Connection, caller: &OwnedUniqueName, event: &Event) {
    if let Some(signal) = signals::of_zone(event, Some(caller))
        && let Err(why) = signals::send(connection, signal).await
    {
        tracing::debug!("a participant cannot be told: {why}");
    }
}
