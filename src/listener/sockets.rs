//! Which listening sockets there are, and what a reload does to them: keep, open, close.
//!
//! A socket is known by its listener's name and its address as configured. The control side keeps a clone of each: a
//! listener that is only renamed passes its sockets on, and a changed backlog is set on them as they are. A clone must be
//! dropped before the workers close theirs, or the kernel would go on queueing connections that nobody accepts.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::bind::{self, BindError, Bound, Neighbour};
use crate::config::model::{Config, ListenerName};

/// The open listening sockets of one address.
#[derive(Debug)]
struct Open {
    listener: ListenerName,
    /// As in the configuration.
    configured: SocketAddr,
    /// As the kernel knows it: where the configured port is 0, this has the real one.
    address: SocketAddr,
    backlog: u32,
    sockets: Vec<TcpListener>,
}

/// All open listening sockets.
#[derive(Debug, Default)]
pub struct ListeningSockets(Vec<Open>);

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}` for listener `{listener}`: {source}")]
pub struct ListenError {
    /// The listener.
    pub listener: ListenerName,
    /// The address, as configured.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: BindError,
}

/// What a configuration asks for: addresses taken, but not open yet. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Planned(Vec<(Wanted, Source)>);

#[derive(Debug)]
struct Wanted {
    listener: ListenerName,
    address: SocketAddr,
    backlog: u32,
}

/// Where the sockets of an address come from.
#[derive(Debug)]
enum Source {
    /// They are open already, for the same listener.
    Kept,
    /// They are open already, for a listener that goes.
    Inherited { from: ListenerName },
    /// They are new.
    New(Bound),
}

/// What the workers have to be told when a plan has been carried out. Addresses are the real ones.
#[derive(Debug, Default)]
pub struct Opened {
    /// Sockets to accept from: one per worker, or one alone.
    pub fresh: Vec<(ListenerName, SocketAddr, Vec<TcpListener>)>,
    /// Sockets to let go of.
    pub gone: Vec<(ListenerName, SocketAddr)>,
}

impl ListeningSockets {
    /// Takes the addresses of a configuration that are not there yet. Changes nothing that is.
    ///
    /// # Errors
    /// If one of them cannot be had.
    pub fn plan(&self, config: &Config, workers: usize) -> Result<Planned, ListenError> {
        let wanted: Vec<_> = config
            .listeners
            .iter()
            .flat_map(|listener| {
                let wanted = |address: &SocketAddr| Wanted {
                    listener: listener.name.clone(),
                    address: *address,
                    backlog: listener.backlog,
                };
                listener.bind.iter().map(wanted).collect::<Vec<_>>()
            })
            .collect();
        let goes = |open: &Open| !wanted.iter().any(|wanted| open.is(wanted));
        let sources = wanted.iter().map(|wanted| {
            if self.0.iter().any(|open| open.is(wanted)) {
                return Ok(Source::Kept);
            }
            // Port 0 is a new port each time, so it is never inherited.
            let same_address = |open: &&Open| open.configured == wanted.address && wanted.address.port() != 0;
            if let Some(open) = self.0.iter().filter(same_address).find(|open| goes(open)) {
                return Ok(Source::Inherited { from: open.listener.clone() });
            }
            let overlaps = |open: &Open| overlap(open.address, wanted.address);
            let ours = self.0.iter().any(|open| goes(open) && overlaps(open));
            let neighbour = if ours { Neighbour::Ours } else { Neighbour::None };
            bind::bind(wanted.address, workers, neighbour).map(Source::New).map_err(|source| wanted.error(source))
        });
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        Ok(Planned(wanted.into_iter().zip(sources).collect()))
    }

    /// Carries a plan out: opens what is new, forgets what goes.
    ///
    /// # Errors
    /// If an address was taken meanwhile, or descriptors ran out. Nothing is changed then.
    pub fn open(&mut self, planned: Planned) -> Result<Opened, ListenError> {
        let mut next = Vec::with_capacity(planned.0.len());
        let mut opened = Opened::default();
        // First all that can fail, on clones …
        for (wanted, source) in planned.0 {
            let old = |name: &ListenerName| {
                self.0.iter().find(|open| open.listener == *name && open.configured == wanted.address)
            };
            let (address, sockets) = match source {
                Source::New(bound) => {
                    let address = bound.address;
                    let sockets = bound.listen(wanted.backlog).map_err(|source| wanted.error(source))?;
                    opened.fresh.push((wanted.listener.clone(), address, wanted.clones(&sockets)?));
                    (address, sockets)
                }
                Source::Inherited { from } => {
                    let Some(open) = old(&from) else { continue };
                    opened.fresh.push((wanted.listener.clone(), open.address, wanted.clones(&open.sockets)?));
                    (open.address, wanted.clones(&open.sockets)?)
                }
                Source::Kept => {
                    let Some(open) = old(&wanted.listener) else { continue };
                    (open.address, wanted.clones(&open.sockets)?)
                }
            };
            let Wanted { listener, address: configured, backlog } = wanted;
            next.push(Open { listener, configured, address, backlog, sockets });
        }
        // … then what cannot.
        for old in std::mem::take(&mut self.0) {
            match next.iter().find(|open| open.listener == old.listener && open.address == old.address) {
                None => opened.gone.push((old.listener, old.address)),
                Some(open) if open.backlog != old.backlog => open.apply_backlog(),
                Some(_) => {}
            }
        }
        self.0 = next;
        Ok(opened)
    }

    /// Forgets all sockets: the workers' are the only ones then, and close when they do.
    pub fn close(&mut self) {
        self.0.clear();
    }

    /// Each listener's real addresses, for logs.
    pub fn addresses(&self) -> impl Iterator<Item = (&ListenerName, SocketAddr)> {
        self.0.iter().map(|open| (&open.listener, open.address))
    }
}

impl Open {
    fn is(&self, wanted: &Wanted) -> bool {
        self.listener == wanted.listener && self.configured == wanted.address
    }

    fn apply_backlog(&self) {
        if let Err(error) = bind::set_backlog(&self.sockets, self.backlog) {
            tracing::warn!(listener = %self.listener, address = %self.address, %error, "backlog not changed");
        }
    }
}

impl Wanted {
    fn clones(&self, sockets: &[TcpListener]) -> Result<Vec<TcpListener>, ListenError> {
        let clones: io::Result<Vec<_>> = sockets.iter().map(TcpListener::try_clone).collect();
        clones.map_err(|error| self.error(BindError::new(error, self.address)))
    }

    fn error(&self, source: BindError) -> ListenError {
        ListenError { listener: self.listener.clone(), address: self.address, source }
    }
}

/// Whether two addresses cannot both be bound by strangers.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
}
