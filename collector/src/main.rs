//! Arguments, configuration, logging, exit code.

use std::{io::Write as _, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use procscope_collector::{
    Access, Listeners, RunError,
    access::{certs, tokens},
    clock,
    config::{Config, Options, load, state_dir},
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

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Receive, store and answer until told to stop (the default)
    Run,
    /// Say whether the configuration and the store are fit, line by line; exit code 1 if not
    Check,
    /// Bring the tables of the store up to date and stop
    Migrate,
    /// Make, list and revoke tokens; a collector that runs follows within a second
    #[command(subcommand)]
    Tokens(Tokens),
    /// Make certificates by a small authority of your own
    #[command(subcommand)]
    Certs(certs::Command),
}

#[derive(Debug, Clone, Subcommand)]
enum Tokens {
    /// Make a token and print it, this once
    Create(tokens::Request),
    /// Show all: number, scope, until when, whose
    List,
    /// Take one back, by its number or its text
    Revoke {
        /// Number or text
        token: String,
    },
}

fn main() -> ExitCode {
    finish("procscope-collector", arguments().and_then(|read| start(&read)))
}

fn start(arguments: &Arguments) -> Result<()> {
    init_logging(&arguments.common)?;
    let file = arguments.common.config.as_deref();
    match &arguments.command {
        Some(Command::Tokens(command)) => return keep_tokens(command, &state_dir(&arguments.options, file)?),
        Some(Command::Certs(command)) => {
            return certs::run(command, clock::now_ms())?
                .iter()
                .try_for_each(|line| print(line));
        }
        _ => {}
    }
    let config = load(&arguments.options, file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("could not start the runtime: {error}")))?;
    match arguments.command {
        Some(Command::Check) => runtime.block_on(check(&config)),
        Some(Command::Migrate) => runtime.block_on(migrate(&config)),
        _ => runtime.block_on(serve(config)),
    }
}

fn keep_tokens(command: &Tokens, folder: &Path) -> Result<()> {
    let now_ms = clock::now_ms();
    match command {
        Tokens::Create(request) => print(&tokens::create(folder, request, now_ms)?),
        Tokens::List => tokens::list(folder)?.iter().try_for_each(|token| {
            let ends = match token.expires.map(|seconds| seconds.saturating_mul(1_000)) {
                None => "until revoked".to_owned(),
                Some(_) if token.is_expired(now_ms) => "expired".to_owned(),
                Some(ms) => jiff::Timestamp::from_millisecond(ms)
                    .map_or_else(|_far| "until revoked".to_owned(), |time| format!("until {time}")),
            };
            let agent = token
                .agent_id
                .map(|id| format!("  agent {id}"))
                .unwrap_or_default();
            let host = token
                .host
                .as_ref()
                .map(|host| format!("  host {host}"))
                .unwrap_or_default();
            print(&format!(
                "{}  {:6}  {ends}  {}{agent}{host}",
                token.id,
                token.scope.word(),
                token.name
            ))
        }),
        Tokens::Revoke { token } => tokens::revoke(folder, token),
    }
}

/// What to do when there is neither token nor certificate.
const NO_CREDENTIAL: &str = "make a token with `procscope-collector tokens create --scope ingest`, write one into a \
                             file with mode 0600 and name it with --ingest-token-file, or name --tls-client-ca";

fn lets_anybody_in(config: &Config, access: &Access) -> bool {
    !access.tokens.is_empty() || config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

async fn serve(config: Config) -> Result<()> {
    let access = Access::open(&config)?;
    if !lets_anybody_in(&config, &access) {
        return Err(Failure::usage(format_args!(
            "no agent could be let in: {NO_CREDENTIAL}"
        )));
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
        tls = config.tls.is_some(),
        "listening"
    );
    let store = config.store.url.clone();
    run(config, access, Listeners { grpc, http }, stop)
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
    match Access::open(config) {
        Ok(access) => say(
            lets_anybody_in(config, &access),
            "token or certificates for agents",
            NO_CREDENTIAL,
        )?,
        Err(failure) => say(false, &failure.to_string(), "mend that")?,
    }
    say(
        true,
        if config.tls.is_some() {
            "TLS on both ports"
        } else {
            "no TLS: both ports are in the clear"
        },
        "",
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
