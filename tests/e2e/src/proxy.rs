//! A wire between two programs that a test can listen to, cut and hold still.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

/// Bytes that are kept of what went up.
const HEARD_MAX: usize = 64 << 20;
/// Time between two looks of a wire that is held.
const LOOK: Duration = Duration::from_millis(10);

/// What the wire does.
#[derive(Debug)]
struct Wire {
    to: Mutex<String>,
    /// Ends of connections, so that they can be broken.
    open: Mutex<Vec<TcpStream>>,
    /// Bytes that a connection may carry up, and down, before it is cut.
    up_max: AtomicU64,
    down_max: AtomicU64,
    held: AtomicBool,
    heard: Mutex<Vec<u8>>,
    connections: AtomicU64,
}

/// The wire; it stays for as long as the test program runs.
#[derive(Debug, Clone)]
pub struct Proxy {
    wire: Arc<Wire>,
    address: String,
}

impl Proxy {
    /// Passes on between `listen` (port 0: any that is free) and `to`.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub fn start(listen: &str, to: &str) -> Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?.to_string();
        let wire = Arc::new(Wire {
            to: Mutex::new(to.to_owned()),
            open: Mutex::default(),
            up_max: AtomicU64::new(u64::MAX),
            down_max: AtomicU64::new(u64::MAX),
            held: AtomicBool::new(false),
            heard: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let shared = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                // Nobody there: the client is turned away as it would be without us.
                let to = locked(&shared.to).clone();
                if let Ok(server) = TcpStream::connect(to) {
                    connect(&shared, &client, &server);
                }
            }
        });
        Ok(Self { wire, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Leads elsewhere from now on, and breaks what is open.
    pub fn lead_to(&self, to: &str) {
        to.clone_into(&mut locked(&self.wire.to));
        for end in locked(&self.wire.open).drain(..) {
            // It may be down already.
            _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Cuts each connection after so many bytes up, or so many down. `u64::MAX`: never.
    pub fn cut_after(&self, up: u64, down: u64) {
        self.wire.up_max.store(up, Ordering::Relaxed);
        self.wire.down_max.store(down, Ordering::Relaxed);
    }

    /// Holds everything back, with all connections open.
    pub fn hold(&self, held: bool) {
        self.wire.held.store(held, Ordering::Relaxed);
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.wire.connections.load(Ordering::Relaxed)
    }

    /// What has gone up so far.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        locked(&self.wire.heard).clone()
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(wire: &Arc<Wire>, client: &TcpStream, server: &TcpStream) {
    let mut open = locked(&wire.open);
    open.retain(|end| end.peer_addr().is_ok());
    open.extend(
        [client, server]
            .into_iter()
            .filter_map(|end| end.try_clone().ok()),
    );
    drop(open);
    for up in [true, false] {
        let wire = Arc::clone(wire);
        let (Ok(client), Ok(server)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        thread::spawn(move || {
            let (from, to) = if up {
                (&client, &server)
            } else {
                (&server, &client)
            };
            pump(&wire, from, to, up);
            for end in [client, server] {
                // It may be down already.
                _ = end.shutdown(Shutdown::Both);
            }
        });
    }
}

/// Passes on until an end closes or the wire is cut.
fn pump(wire: &Wire, mut from: &TcpStream, mut to: &TcpStream, up: bool) {
    let mut carried = 0_u64;
    let mut buffer = vec![0; 1 << 14];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while wire.held.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        let most = if up { &wire.up_max } else { &wire.down_max }.load(Ordering::Relaxed);
        let left = usize::try_from(most.saturating_sub(carried)).unwrap_or(usize::MAX);
        let bytes = &buffer[..count.min(left)];
        if up {
            let mut heard = locked(&wire.heard);
            if heard.len() < HEARD_MAX {
                heard.extend_from_slice(bytes);
            }
        }
        if to.write_all(bytes).is_err() || count >= left {
            return;
        }
        carried += u64::try_from(count).unwrap_or(0);
    }
}
