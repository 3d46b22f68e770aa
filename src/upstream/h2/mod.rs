//! Shared connections: requests to an instance that speaks HTTP/2 go side by side over one connection, or a few.
//!
//! Each worker has its own, and makes them on demand: one at a time per instance, so that a burst of requests does not make
//! a burst of connections. A request takes a [`Place`] on the first connection that has room; where all are full another
//! one is made up to `h2_connections_max`, and then requests wait, as long as a connection may take to be made. Whatever
//! fails here has sent nothing of the request.

mod link;
mod watched;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use h2::client::ResponseFuture;
use http::Request;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::ConnectError;
use super::{Connection, Reused};
use crate::config::model::PoolConnection;
use crate::http2::head::Follows;
use crate::http2::stream::Stream;
use crate::pool::instance::{Instance, InstanceId};
use crate::tls::client::Dialer;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, Ring};
use link::Link;

/// A worker's shared connections.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<InstanceId, Rc<Group>>);

/// Those to one instance.
#[derive(Debug, Default)]
struct Group {
    links: RefCell<Vec<Rc<Link>>>,
    /// A connection was made or has ended, a place became free, or somebody answered.
    changed: Notify,
}

/// How sure a request must be that its connection is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It may be repeated.
    Usual,
    /// It may not: a connection that was silent for `unsafe_reuse_max` has to answer a ping before.
    Great,
}

/// Whether only HTTP/2 will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It is spoken without TLS, or must be agreed on over it.
    Http2,
    /// HTTP/1.1 is as good, if the instance prefers it.
    Negotiated,
}

/// A place on a shared connection, free again when dropped.
#[derive(Debug)]
pub struct Place {
    link: Rc<Link>,
    group: Rc<Group>,
}

/// The connection has ended, or takes no more streams: nothing was sent.
#[derive(Debug, Error)]
#[error("the connection takes no more streams")]
pub struct NotSent;

impl Place {
    /// Sends the head of a request.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn send(&self, request: Request<()>, follows: Follows) -> Result<(ResponseFuture, Stream), NotSent> {
        let mut sender = self.link.sender().ok_or(NotSent)?;
        match sender.send_request(request, follows == Follows::Nothing) {
            Ok((response, body)) => {
                let body = (follows == Follows::Body).then_some(body);
                Ok((response, Stream::sent(body)))
            }
            Err(error) => {
                tracing::debug!(instance = %self.link.instance.address, %error, "a shared connection takes no more");
                self.link.retire();
                Err(NotSent)
            }
        }
    }

    /// Whether a ping was not answered, which is why the connection has ended.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.link.is_silent()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.link.leave();
        self.group.changed.notify_one();
    }
}

/// What a request finds.
enum Found {
    /// A place.
    Place(Place, Reused),
    /// It has to wait; for this connection, if there is one in the making.
    Wait(Option<Rc<Link>>),
    /// There should be another connection.
    NeedsAnother,
}

impl Group {
    fn find(
        self: &Rc<Self>,
        dialer: Option<&Arc<Dialer>>,
        settings: &PoolConnection,
        care: Care,
        now: Instant,
    ) -> Found {
        let links = self.links.borrow();
        let mut count = 0;
        for link in links.iter().filter(|link| !link.is_closing() && link.is_made_by(dialer)) {
            count += 1;
            if link.is_in_the_making() {
                return Found::Wait(Some(Rc::clone(link)));
            }
            if link.has_room(settings.h2_streams_max) {
                if care == Care::Great && link.is_doubtful(settings.unsafe_reuse_max, now) {
                    link.ask();
                    return Found::Wait(None);
                }
                let reused = link.enter();
                return Found::Place(Place { link: Rc::clone(link), group: Rc::clone(self) }, reused);
            }
        }
        if count < settings.h2_connections_max { Found::NeedsAnother } else { Found::Wait(None) }
    }
}

/// A place on a shared connection to `instance`, made if need be; or a connection of its own, new, where the instance
/// prefers HTTP/1.1; `None`: it does, and somebody else has the connection that showed it.
///
/// # Errors
/// See [`ConnectError`]; nothing of a request has been sent then.
pub async fn place(
    worker: &Worker,
    alarm: &Alarm,
    instance: &Arc<Instance>,
    dialer: Option<&Arc<Dialer>>,
    settings: &PoolConnection,
    care: Care,
    demand: Demand,
) -> Result<Option<Connection>, ConnectError> {
    let begun = Instant::now();
    let deadline = begun + settings.connect_timeout;
    let group = Rc::clone(worker.links.borrow_mut().0.entry(instance.id).or_default());
    loop {
        // Before the look, so that nothing that changes between look and wait is missed.
        let changed = group.changed.notified();
        let awaited = match group.find(dialer, settings, care, Instant::now()) {
            Found::Place(place, reused) => return Ok(Some(Connection::shared(place, reused, instance, worker.id))),
            Found::Wait(link) => link,
            Found::NeedsAnother => {
                let link = Rc::new(Link::new(instance, dialer, worker.id, demand, settings));
                let Some(worker) = worker.keep() else { return Err(ConnectError::Full) };
                group.links.borrow_mut().push(Rc::clone(&link));
                // The task belongs to the worker: it ends when the link has been idle for long, is cut or retired by
                // `Links::sweep`, or with the worker's runtime, when the last client has left.
                tokio::task::spawn_local(link::run(worker, Rc::clone(&link), Rc::clone(&group)));
                Some(link)
            }
        };
        match alarm.run(deadline, changed).await {
            Ok(()) => {}
            Err(Ring::Ejected) => return Err(ConnectError::Ejected),
            Err(Ring::Deadline | Ring::Close | Ring::Published) => {
                let full = awaited.is_none() && group.links.borrow().iter().any(|link| !link.is_in_the_making());
                return Err(if full { ConnectError::Full } else { ConnectError::TimedOut(settings.connect_timeout) });
            }
        }
        let Some(awaited) = awaited else { continue };
        if let Some(error) = awaited.failure() {
            return Err(ConnectError::Shared(error));
        }
        if awaited.is_http1() {
            return Ok(awaited.take_http1());
        }
    }
}

impl Links {
    /// Ends what idled too long or does not answer, and what leads to an instance that is down or gone; asks those that
    /// have been silent for long.
    pub fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, group| {
            for link in group.links.borrow().iter() {
                link.look_after(now);
            }
            !group.links.borrow().is_empty() || Rc::strong_count(group) > 1
        });
    }

    /// Whether there is nothing to sweep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
