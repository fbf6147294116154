//! One address for agents that leads to one collector or the other.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    thread,
};

use anyhow::Result;

/// Where connections go, and which are open.
#[derive(Debug, Default)]
struct Shared {
    target: AtomicU16,
    open: Mutex<Vec<TcpStream>>,
}

/// Forwards connections.
#[derive(Debug)]
pub struct Switch {
    port: u16,
    shared: Arc<Shared>,
}

impl Switch {
    /// Listens on a port of its own and leads to `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(target: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        shared.target.store(target, Ordering::SeqCst);
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A collector that is not there: the connection ends at once.
                drop(of_thread.forward(client));
            }
        });
        Ok(Self { port, shared })
    }

    /// What agents connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port, and breaks what is open.
    pub fn to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn forward(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::SeqCst)))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|stream| stream.peer_addr().is_ok());
        open.push(client.try_clone()?);
        open.push(server.try_clone()?);
        drop(open);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            thread::spawn(move || pump(from, to));
        }
        Ok(())
    }
}

/// Copies until one side ends, and ends the other.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(read) if read > 0 && to.write_all(&piece[..read]).is_ok() => {}
            _ => break,
        }
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
