//! Arguments, configuration, logging, exit code.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use procscope_collector::{
    Listeners, RunError, clock,
    config::{Config, Options, load},
    run,
    store::{Store, StoreError},
};
use procscope_startup::{Common, Failure, Result, arguments, finish, init_logging};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing::info;

/// Receives what agents measured, stores it in ClickHouse and answers questions.
#[derive(Debug, Parser)]
#[command(name = "procscope-collector", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Receive, store and answer until told to stop (the default)
    Run,
    /// Say whether the configuration and the store are fit, line by line; exit code 1 if not
    Check,
    /// Bring the tables of the store up to date and stop
    Migrate,
}

fn main() -> ExitCode {
    finish("procscope-collector", arguments().and_then(|read| start(&read)))
}

fn start(arguments: &Arguments) -> Result<()> {
    init_logging(&arguments.common)?;
    let config = load(&arguments.options, arguments.common.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("could not start the runtime: {error}")))?;
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => runtime.block_on(serve(config)),
        Command::Check => runtime.block_on(check(&config)),
        Command::Migrate => runtime.block_on(migrate(&config)),
    }
}

async fn serve(config: Config) -> Result<()> {
    if config.ingest_token.is_none() {
        return Err(Failure::usage(
            "no agent could be let in without a token: write one into a file with mode 0600 and name it with \
             --ingest-token-file",
        ));
    }
    if config.die_with_parent {
        die_with_parent()?;
    }
    let stop = stop_signal()?;
    let grpc = listen("--listen", config.listen).await?;
    let http = listen("--http-listen", config.http_listen).await?;
    let address = |listener: &TcpListener| {
        listener
            .local_addr()
            .map_or_else(|e| e.to_string(), |a| a.to_string())
    };
    info!(
        grpc = address(&grpc),
        http = address(&http),
        store = config.store.url,
        "listening"
    );
    let store = config.store.url.clone();
    run(config, Listeners { grpc, http }, stop)
        .await
        .map_err(|error| match &error {
            RunError::Schema(cause) => store_failure(&format!("{error} at {store}"), cause),
            error => {
                let cause = std::error::Error::source(error)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                Failure::failed(format_args!("{error}{cause}"))
            }
        })
}

/// What was tried on the store, why it failed and what to do.
fn store_failure(tried: &str, error: &StoreError) -> Failure {
    Failure::failed(format_args!("{tried}: {}; {}", error.chain(), error.remedy()))
}

async fn listen(option: &str, address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("is another collector running? Stop it, or choose another port with {option}")
            }
            std::io::ErrorKind::PermissionDenied => format!("choose a port from 1024 up with {option}"),
            _ => format!("choose an address of this machine with {option}"),
        };
        Failure::failed(format_args!(
            "could not listen on {address} (port {}): {error}; {remedy}",
            address.port()
        ))
    })
}

/// Resolves at the first SIGTERM or Ctrl-C. The handlers are in place when this returns.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let handler = |kind| {
        signal(kind).map_err(|error| Failure::failed(format_args!("could not handle signals: {error}")))
    };
    let (mut terminate, mut interrupt) = (
        handler(SignalKind::terminate())?,
        handler(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Asks the kernel for SIGTERM when the parent ends, and makes sure that it has not ended before.
fn die_with_parent() -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let fail = |why: &dyn std::fmt::Display| {
        Failure::failed(format_args!("could not tie this process to its parent: {why}"))
    };
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| fail(&error))?;
    if getppid() == parent && parent.is_some_and(|pid| !pid.is_init()) {
        return Ok(());
    }
    Err(fail(&"the parent has ended already"))
}

async fn migrate(config: &Config) -> Result<()> {
    let store = Store::new(&config.store);
    let tried = format!(
        "could not migrate database {} at {}",
        config.store.database, config.store.url
    );
    let failed = |error| store_failure(&tried, &error);
    let applied = store.migrate(clock::now_ms()).await.map_err(failed)?;
    store.check_columns().await.map_err(failed)?;
    let lines = if applied.is_empty() {
        vec!["nothing to do".to_owned()]
    } else {
        applied
    };
    lines.iter().try_for_each(|line| print(line))
}

/// One line a fact: ok, or missing with how to fix it.
async fn check(config: &Config) -> Result<()> {
    let mut missing = 0_u32;
    let mut say = |good: bool, fact: &str, fix: &str| {
        if good {
            return print(&format!("ok       {fact}"));
        }
        missing += 1;
        print(&format!("missing  {fact}; {fix}"))
    };
    say(
        true,
        &format!(
            "configuration: gRPC on {}, HTTP on {}",
            config.listen, config.http_listen
        ),
        "",
    )?;
    say(
        config.ingest_token.is_some(),
        "token for agents",
        "write one into a file with mode 0600 and name it with --ingest-token-file",
    )?;
    let store = Store::new(&config.store);
    let url = &config.store.url;
    match store.version().await {
        Ok(version) => {
            say(true, &format!("store at {url}: ClickHouse {version}"), "")?;
            match store.standing().await {
                Ok(standing) => {
                    let (applied, open) = (standing.applied.len(), standing.missing.join(", "));
                    say(true, &format!("migrations applied: {applied}"), "")?;
                    if open.is_empty() {
                        match store.check_columns().await {
                            Ok(()) => say(true, "columns as written", "")?,
                            Err(error) => say(false, &error.chain(), error.remedy())?,
                        }
                    } else {
                        say(
                            false,
                            &format!("migrations {open}"),
                            "run procscope-collector migrate, or start it",
                        )?;
                    }
                }
                Err(error) => say(false, &error.chain(), error.remedy())?,
            }
        }
        Err(error) => say(
            false,
            &format!("store at {url}: {}", error.chain()),
            error.remedy(),
        )?,
    }
    match missing {
        0 => Ok(()),
        1 => Err(Failure::failed("1 thing is missing, see above")),
        n => Err(Failure::failed(format_args!("{n} things are missing, see above"))),
    }
}

fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|error| Failure::failed(format_args!("could not print: {error}")))
}
