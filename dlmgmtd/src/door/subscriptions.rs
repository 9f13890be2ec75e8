//! A connection's subscriptions.

use std::future::{pending, poll_fn};
use std::task::Poll;

use dlmgmt_proto::door::{Acknowledge, Acknowledged, Unsubscribe, Unsubscribed};
use dlmgmt_proto::{Error, ErrorCode, Result, Seq, SequencedEvent};

use super::socket::{Address, invalid};
use crate::engine::EventStream;

struct Subscription {
    /// Where its events go: the `subscribe` call.
    to: Address,
    /// What was told of the past, when it began, ends here.
    began: Seq,
    stream: Box<dyn EventStream>,
}

/// Streams of events, known by the serials of their `subscribe` calls.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: Vec<Subscription>,
    /// The one whose turn it is.
    turn: usize,
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one more, of which there may be `most`, can be known by `serial`.
    pub(super) fn check_room(&self, serial: u64, most: usize) -> Result<()> {
        if self.all.len() >= most {
            let why = format!("a connection has at most {most} subscriptions");
            return Err(Error::new(ErrorCode::Quota, why));
        }
        match self.position(serial) {
            Ok(_) => Err(invalid(format!("serial {serial} names a subscription already"))),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn add(&mut self, to: Address, began: Seq, stream: Box<dyn EventStream>) {
        self.all.push(Subscription { to, began, stream });
    }

    pub(super) fn remove(&mut self, call: &Unsubscribe) -> Result<Unsubscribed> {
        let at = self.position(call.serial)?;
        self.all.remove(at);
        Ok(Unsubscribed {})
    }

    /// Ends the subscription whose events go there, if it had begun before `seq`.
    pub(super) fn end(&mut self, to: Address, seq: Seq) {
        self.all.retain(|subscription| subscription.to != to || subscription.began >= seq);
    }

    pub(super) fn acknowledge(&self, call: &Acknowledge) -> Result<Acknowledged> {
        let at = self.position(call.serial)?;
        self.all[at].stream.acknowledge(call.zone)?;
        Ok(Acknowledged {})
    }

    fn position(&self, serial: u64) -> Result<usize> {
        let found = self.all.iter().position(|subscription| subscription.to.serial == serial);
        found.ok_or_else(|| {
            let why = format!("serial {serial} names no subscription of this connection");
            Error::new(ErrorCode::NotFound, why)
        })
    }

    /// The next event of any subscription and where it goes; they take turns. A stream that ends
    /// takes its subscription along. Dropping the future loses no event.
    pub(super) async fn next(&mut self) -> (Address, SequencedEvent) {
        loop {
            if self.all.is_empty() {
                pending::<()>().await;
            }
            let (at, event) = next_of(&mut self.all, self.turn).await;
            self.turn = at + 1;
            match event {
                Some(event) => return (self.all[at].to, event),
                None => drop(self.all.remove(at)),
            }
        }
    }
}

/// The next event of any stream, and which one's, asked in turn from `turn` on.
async fn next_of(all: &mut [Subscription], turn: usize) -> (usize, Option<SequencedEvent>) {
    let mut waiting: Vec<_> = all.iter_mut().map(|s| s.stream.next()).collect();
    let count = waiting.len();
    poll_fn(|cx| {
        for at in (turn..turn + count).map(|place| place % count) {
            if let Poll::Ready(event) = waiting[at].as_mut().poll(cx) {
                return Poll::Ready((at, event));
            }
        }
        Poll::Pending
    })
    .await
}
