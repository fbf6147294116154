//! The ClickHouse HTTP interface over the embedded engine. `start` wires it: folder, listener, sandbox, engine, server.

pub mod access;
pub mod chdb;
pub mod compression;
pub mod config;
pub mod engine;
pub mod exception;
pub mod execute;
pub mod folder;
pub mod formats;
pub mod frames;
pub mod kept;
pub mod lexer;
pub mod policy;
pub mod reader;
pub mod request;
pub mod response;
pub mod running;
pub mod sandbox;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod statement;
pub mod stats;
pub mod tables;
pub mod upload;

use std::{io, net::TcpListener, os::fd::OwnedFd, sync::Arc};

use procscope_startup::{Failure, Result};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    chdb::Chdb, config::Config, engine::Engine, execute::Shared, folder::Folder, running::Running,
    sandbox::Sandbox, server::Server, sessions::Sessions,
};

/// The least number of queries that run at the same time: a dashboard sends a dozen at once.
const QUERIES_MIN: usize = 8;
/// Queries at the same time for each CPU.
const QUERIES_PER_CPU: usize = 4;

/// Serves until the process is told to stop.
///
/// # Errors
/// When the folder, the address or the engine cannot be had.
pub fn start(config: Config) -> Result<()> {
    let parent = if config.die_with_parent {
        Some(open_parent()?)
    } else {
        None
    };
    let folder = Folder::take(&config.data_dir)?;
    // The engine looks for a configuration in the current folder, and relative paths start there.
    std::env::set_current_dir(folder.engine())
        .map_err(|error| Failure::failed(format_args!("could not enter the data folder: {error}")))?;
    let listener = listen(&config)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let chdb = Chdb::open(&config.library).map_err(|error| {
        Failure::failed(format_args!(
            "could not open the engine's library {}: {error}; run `cargo xtask setup` or set PROCSCOPE_LIBCHDB",
            config.library.display()
        ))
    })?;
    // From here on, before any other thread exists, files and the network are out of reach.
    report_sandbox(sandbox::enter(&folder, &config.library));
    let engine = Engine::start(chdb, &folder, config.memory_bytes).map_err(|error| {
        Failure::failed(format_args!(
            "could not start the engine on {}: {error}",
            folder.path().display()
        ))
    })?;
    let shared = Arc::new(Shared {
        engine: Arc::new(engine),
        running: Arc::new(Running::default()),
        sessions: Sessions::default(),
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let queries_max = (cpus * QUERIES_PER_CPU).max(QUERIES_MIN);
    let server = Arc::new(Server::new(Arc::clone(&shared), config.access, queries_max));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cpus.min(4))
        // Every query has a thread, and killing needs some beside them.
        .max_blocking_threads(queries_max + 16)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("could not start the runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        let stop = stop_signal(parent)?;
        folder.write_address(address)?;
        let facts = shared.engine.facts();
        tracing::info!(%address, data_dir = %folder.path().display(), version = facts.version, library = chdb.version(), "listening");
        server.run(listener, stop).await.map_err(|error| Failure::failed(format_args!("could not go on listening on {address}: {error}")))
    });
    // A query that did not end in time holds its thread: do not wait for it.
    runtime.shutdown_background();
    outcome
}

fn listen(config: &Config) -> Result<TcpListener> {
    let address = config.listen;
    let listener =
        TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|error| {
        let remedy = if error.kind() == io::ErrorKind::AddrInUse {
            "a ClickHouse of your own there? point the collector at it with --store-url (`store.url`), or choose another port with --listen"
        } else {
            "choose another address with --listen"
        };
        Failure::failed(format_args!("could not listen on {address}: {error}; {remedy}"))
    })
}

fn report_sandbox(entered: std::result::Result<Sandbox, landlock::RulesetError>) {
    match entered {
        Ok(Sandbox::Full) => tracing::info!("sandbox: only the data folder, and no network but the listener"),
        Ok(Sandbox::Partial) => tracing::warn!(
            "this kernel knows only a part of the sandbox: the list of refused statements has to do for the rest"
        ),
        Ok(Sandbox::Absent) => tracing::warn!(
            "this kernel has no Landlock: only the list of refused statements keeps queries inside the data folder"
        ),
        Err(error) => {
            tracing::warn!(%error, "no sandbox: only the list of refused statements keeps queries inside the data folder");
        }
    }
}

/// A handle on the process that started this one. The kernel's own signal at a parent's death comes when the *thread*
/// that started this process ends, which for a thread of a pool is any time.
fn open_parent() -> Result<OwnedFd> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format_args!(
            "could not tie this process to its parent (--die-with-parent): {error}"
        ))
    };
    let parent = rustix::process::getppid().ok_or_else(|| fail(&"it has none here"))?;
    let handle = rustix::process::pidfd_open(parent, rustix::process::PidfdFlags::empty())
        .map_err(|error| fail(&error))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(fail(&"it has already ended"));
    }
    Ok(handle)
}

/// Completes at the first SIGTERM or SIGINT, or at the end of the parent.
fn stop_signal(parent: Option<OwnedFd>) -> Result<impl Future<Output = ()>> {
    let fail = |error: io::Error| Failure::failed(format_args!("could not wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let parent_ended = async move {
        // A handle that cannot be waited for drops the sender: no reason to stop.
        let ended = match parent {
            Some(parent) => wait_for_end(parent).await.is_ok(),
            None => false,
        };
        if !ended {
            std::future::pending::<()>().await;
        }
    };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = parent_ended => tracing::info!("the process that started this one has ended"),
        }
    })
}

/// Waits on a thread of its own: the handle of a process becomes readable when the process has ended.
fn wait_for_end(process: OwnedFd) -> oneshot::Receiver<()> {
    let (ended, waiting) = oneshot::channel();
    std::thread::spawn(move || {
        let mut handle = [PollFd::new(&process, PollFlags::IN)];
        loop {
            match poll(&mut handle, None) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return ended.send(()),
                Err(_) => return Ok(()),
            }
        }
    });
    waiting
}
