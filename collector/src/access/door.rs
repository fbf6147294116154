//! From a listening socket to connections: handshakes, bounds on how many there are, an end for those that say
//! nothing.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{
    Sparse,
    activity::Activity,
    tls::{Certified, Shown, Speaks, Tls, certified},
};
use crate::self_stats::SelfStats;

/// How much a door takes at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections, those that shake hands included.
    pub connections: usize,
    /// Of one address: half of them.
    pub connections_of_one: usize,
    /// Connections that shake hands.
    pub handshakes: usize,
    /// Of one address.
    pub handshakes_of_one: usize,
    /// How long shaking hands may take.
    pub handshake: Duration,
    /// How long it may take then until a first request is let in.
    pub first: Duration,
    /// How long no request may be open, or no byte may pass while one is.
    pub silence: Duration,
}

impl Bounds {
    /// What a process with so many file descriptors can take.
    #[must_use]
    pub fn within(descriptors: usize) -> Self {
        let connections = descriptors.saturating_sub(256).clamp(64, 16_384);
        Self {
            connections,
            connections_of_one: connections / 2,
            handshakes: (connections / 4).min(1_024),
            handshakes_of_one: (connections / 8).min(256),
            handshake: Duration::from_secs(5),
            first: Duration::from_secs(10),
            silence: Duration::from_secs(75),
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// What it proved to be.
    pub certificate: Option<Arc<Certified>>,
    /// What it proved that with, for as long as it is here.
    pub shown: Option<Shown>,
    /// What passes on its connection.
    pub activity: Arc<Activity>,
}

impl Peer {
    /// One that has proved nothing.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            certificate: None,
            shown: None,
            activity: Activity::new(Instant::now()),
        }
    }
}

/// Counts connections of one port, in all and by address.
#[derive(Debug)]
struct Places {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: usize,
    handshakes: usize,
    by_address: HashMap<IpAddr, (usize, usize)>,
}

/// A place that a connection takes until it ends.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    shaking: bool,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, address: IpAddr, shaking: bool) -> Result<Place, &'static str> {
        let address = site(address);
        let mut taken = self.lock();
        let (connections, handshakes) = taken.by_address.get(&address).copied().unwrap_or_default();
        if taken.connections >= self.bounds.connections || connections >= self.bounds.connections_of_one {
            return Err("too_many");
        }
        if shaking
            && (taken.handshakes >= self.bounds.handshakes || handshakes >= self.bounds.handshakes_of_one)
        {
            return Err("too_many_handshakes");
        }
        let of_one = taken.by_address.entry(address).or_default();
        of_one.0 += 1;
        of_one.1 += usize::from(shaking);
        taken.connections += 1;
        taken.handshakes += usize::from(shaking);
        Ok(Place {
            places: Arc::clone(self),
            address,
            shaking,
        })
    }
}

/// What counts as one address: who has one of IPv6 mostly has 2^64 of them.
pub(super) fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Place {
    fn hands_are_shaken(&mut self) {
        if std::mem::take(&mut self.shaking) {
            let mut taken = self.places.lock();
            taken.handshakes -= 1;
            if let Some(of_one) = taken.by_address.get_mut(&self.address) {
                of_one.1 -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hands_are_shaken();
        let mut taken = self.places.lock();
        taken.connections -= 1;
        if let Some(of_one) = taken.by_address.get_mut(&self.address) {
            of_one.0 -= 1;
            if of_one.0 == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Opens a door: connections come out of the receiver, and once it is gone the socket closes.
pub fn open(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    speaks: Speaks,
    bounds: Bounds,
    stats: Arc<SelfStats>,
) -> mpsc::Receiver<Connection> {
    let (sender, receiver) = mpsc::channel(16);
    let door = Arc::new(Door {
        tls,
        speaks,
        places: Arc::new(Places {
            bounds,
            taken: Mutex::default(),
        }),
        stats,
        sender,
        said: Sparse::default(),
    });
    tokio::spawn(door.run(listener));
    receiver
}

struct Door {
    tls: Option<Arc<Tls>>,
    speaks: Speaks,
    places: Arc<Places>,
    stats: Arc<SelfStats>,
    sender: mpsc::Sender<Connection>,
    said: Sparse,
}

impl Door {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.sender.closed() => return,
            };
            match accepted {
                Ok((socket, address)) => self.admit(socket, address).await,
                Err(error) => {
                    self.refuse("accept", &error, None);
                    // Descriptors have run out, or memory: both come back.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn admit(self: &Arc<Self>, socket: TcpStream, address: SocketAddr) {
        let place = match self.places.take(address.ip(), self.tls.is_some()) {
            Ok(place) => place,
            Err(reason) => return self.refuse(reason, &"the bound is reached", Some(address)),
        };
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "a connection has gone already");
            return;
        }
        match &self.tls {
            None => {
                self.pass(Io::Plain(socket), Peer::new(address), place).await;
            }
            Some(tls) => {
                tokio::spawn(Arc::clone(self).shake(Arc::clone(tls), socket, address, place));
            }
        }
    }

    async fn shake(self: Arc<Self>, tls: Arc<Tls>, socket: TcpStream, address: SocketAddr, mut place: Place) {
        let acceptor = TlsAcceptor::from(tls.config(self.speaks));
        match tokio::time::timeout(self.places.bounds.handshake, acceptor.accept(socket)).await {
            Err(_elapsed) => self.refuse("handshake_slow", &"hands were not shaken in time", Some(address)),
            Ok(Err(error)) => self.refuse("handshake", &error, Some(address)),
            Ok(Ok(stream)) => {
                place.hands_are_shaken();
                let chain = stream.get_ref().1.peer_certificates();
                let shown = chain.map(|chain| Shown::new(&tls, chain));
                let certificate = chain
                    .and_then(<[_]>::first)
                    .map(|first| Arc::new(certified(first)));
                let peer = Peer {
                    certificate,
                    shown,
                    ..Peer::new(address)
                };
                self.pass(Io::Tls(Box::new(stream)), peer, place).await;
            }
        }
    }

    async fn pass(&self, io: Io, peer: Peer, place: Place) {
        let bounds = self.places.bounds;
        let connection = Connection {
            io,
            peer,
            heard: Instant::now(),
            first_within: bounds.first,
            silence: bounds.silence,
            timer: Box::pin(tokio::time::sleep(bounds.first)),
            stats: Arc::clone(&self.stats),
            _open: self.stats.connection(),
            _place: place,
        };
        // Nobody takes it once the server stops.
        drop(self.sender.send(connection).await);
    }

    fn refuse(&self, reason: &'static str, why: &dyn std::fmt::Display, from: Option<SocketAddr>) {
        self.stats.connection_refused(reason);
        let from = from.map_or_else(String::new, |address| address.to_string());
        if self.said.is_due() {
            warn!(reason, from, why = %why, "connections are turned away; the next line comes in 10 s at the earliest");
        } else {
            debug!(reason, from, why = %why, "connection turned away");
        }
    }
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that has passed the door.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
    /// When something last passed.
    heard: Instant,
    first_within: Duration,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    stats: Arc<SelfStats>,
    _open: crate::self_stats::OpenConnection,
    _place: Place,
}

impl Connection {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether a connection that nobody uses has been here for too long.
    fn poll_unused(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let activity = &self.peer.activity;
            let until = activity.stays_until(self.heard, self.first_within, self.silence);
            if until > Instant::now() {
                self.timer.as_mut().reset(until);
                continue;
            }
            if !activity.is_used() {
                self.stats.connection_refused("silent");
                debug!(
                    from = %self.peer.address, within_s = self.first_within.as_secs(),
                    "nothing was asked on a connection that is let in"
                );
            }
            return Poll::Ready(());
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        };
        if read.is_ready() {
            if buf.filled().len() > before {
                this.heard = Instant::now();
            }
            return read;
        }
        ready!(this.poll_unused(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        })?;
        this.heard = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// A door for axum.
#[derive(Debug)]
pub struct Listener {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl Listener {
    /// Hands out what comes through a door at `address`.
    #[must_use]
    pub fn new(connections: mpsc::Receiver<Connection>, address: SocketAddr) -> Self {
        Self { connections, address }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.connections.recv().await {
            Some(connection) => {
                let peer = connection.peer().clone();
                (connection, peer)
            }
            // The door ends only after its listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::new(self.address))
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listener>) -> Self {
        stream.io().peer().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(bounds: Bounds) -> Arc<Places> {
        Arc::new(Places {
            bounds,
            taken: Mutex::default(),
        })
    }

    #[test]
    fn places_run_out_in_all_and_for_one_address_and_come_back() {
        let bounds = Bounds {
            connections: 4,
            connections_of_one: 3,
            handshakes: 2,
            handshakes_of_one: 1,
            ..Bounds::within(1_024)
        };
        let places = places(bounds);
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let mut first = places.take(address(1), true).unwrap();
        assert_eq!(places.take(address(1), true).unwrap_err(), "too_many_handshakes");
        let second = places.take(address(2), true).unwrap();
        assert_eq!(places.take(address(3), true).unwrap_err(), "too_many_handshakes");
        first.hands_are_shaken();
        let third = places.take(address(1), true).unwrap();
        let fourth = places.take(address(1), false).unwrap();
        assert_eq!(places.take(address(3), false).unwrap_err(), "too_many");
        drop(second);
        assert_eq!(places.take(address(1), false).unwrap_err(), "too_many");
        drop((first, third, fourth));
        let taken = places.lock();
        assert!(taken.connections == 0 && taken.handshakes == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_has_one_address() {
        let of = |text: &str| site(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn a_shell_with_few_descriptors_gets_few_connections() {
        assert_eq!(Bounds::within(1_024).connections, 768);
        assert_eq!(Bounds::within(10).connections, 64);
        assert_eq!(Bounds::within(1 << 20).connections, 16_384);
    }
}
