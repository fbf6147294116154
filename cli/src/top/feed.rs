//! Keeps answers coming for the live top, whatever happens to the collector.

use std::time::Duration;

use procscope_proto::v1::{
    GetAuditRequest, ListHostsRequest, ListTopProcessesRequest, ListTopProcessesResponse,
};
use procscope_startup::{Failure, Result};
use tokio::sync::{mpsc, watch};

use super::{
    ask::{Past, Query},
    state::{Seen, Update},
};
use crate::{client::Client, config::Settings};

/// Waiting time after the first failure; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// A person in front of the screen waits no longer than this for a collector that is back.
const RETRY_MAX: Duration = Duration::from_secs(4);
/// After a silence of this length we ask whether the collector answers at all.
const SILENCE: Duration = Duration::from_secs(3);
/// One that is not busy answers within this what stands above the list.
const SOON: Duration = Duration::from_secs(2);

/// Asks, and asks again when the question changes or the collector comes back; ends when nobody listens.
pub(super) async fn run(
    settings: Settings,
    limit: u32,
    mut queries: watch::Receiver<Query>,
    updates: mpsc::Sender<Update>,
) {
    let mut client = None;
    let mut retry_in = RETRY_FIRST;
    loop {
        let query = queries.borrow_and_update().clone();
        let mut answered = false;
        let failure = tokio::select! {
            ended = follow(&settings, limit, &query, &mut client, &updates, &mut answered) => {
                ended.err().unwrap_or_else(|| {
                    Failure::failed(format_args!("the collector at {} ended the stream", settings.server))
                })
            }
            changed = queries.changed() => match changed {
                Ok(()) => continue,
                Err(_nobody_asks) => return,
            },
        };
        let busy = client.as_ref().is_some_and(Client::is_busy);
        // A new connection next time: this one may be what is broken.
        client = None;
        if answered {
            retry_in = RETRY_FIRST;
        }
        if updates
            .send(Update::Away {
                why: failure.to_string(),
                retry_in,
                busy,
            })
            .await
            .is_err()
        {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(retry_in) => retry_in = (retry_in * 2).min(RETRY_MAX),
            // Another question may be one that is answered.
            changed = queries.changed() => match changed {
                Ok(()) => {}
                Err(_nobody_asks) => return,
            },
        }
    }
}

/// Passes answers on until the stream ends or fails. A time that is over is asked for once.
async fn follow(
    settings: &Settings,
    limit: u32,
    query: &Query,
    client: &mut Option<Client>,
    updates: &mpsc::Sender<Update>,
    answered: &mut bool,
) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(settings).await?),
    };
    let request = ListTopProcessesRequest {
        hosts: query.hosts.clone(),
        metric: query.order.sort().wire().into(),
        limit,
        group_by: query.by.wire().into(),
        range: query.past.map(Past::wire),
        last_intervals: query.intervals,
        name_contains: query.filter.clone(),
    };
    if query.past.is_some() {
        let top = client.top(request).await?;
        pass_on(client, query, top, updates).await?;
        *answered = true;
        return std::future::pending().await;
    }
    let mut stream = client.watch(request).await?;
    updates.send(Update::Connected).await.map_err(gone)?;
    loop {
        let Ok(message) = tokio::time::timeout(SILENCE, stream.message()).await else {
            // No agent sends, or the question waits behind others: these two look the same from here.
            let hosts = client.hosts(ListHostsRequest::default());
            let late = tokio::time::timeout(SOON, hosts).await.is_err();
            let busy = late || client.is_busy();
            updates.send(Update::Silent { busy }).await.map_err(gone)?;
            continue;
        };
        let Some(message) = message.map_err(|status| client.broken(&status))? else {
            return Ok(());
        };
        let Some(top) = message.top else { continue };
        pass_on(client, query, top, updates).await?;
        *answered = true;
    }
}

/// Adds what stands above the list. Without it the list is still worth showing; the screen says that it is not known.
async fn pass_on(
    client: &mut Client,
    query: &Query,
    top: ListTopProcessesResponse,
    updates: &mpsc::Sender<Update>,
) -> Result<()> {
    let audit = GetAuditRequest {
        hosts: query.hosts.clone(),
        range: top.range,
    };
    let range = top.range;
    let asked = async {
        let audit = client.audit(audit).await.ok();
        if client.is_busy() {
            return (audit, None);
        }
        (audit, client.hosts(ListHostsRequest { range }).await.ok())
    };
    // A collector that is busy lets each question wait for its turn; the list does not wait with it.
    let asked = tokio::time::timeout(SOON, asked).await;
    let busy = asked.is_err() || client.is_busy();
    let (audit, hosts) = asked.unwrap_or_default();
    let seen = Seen {
        query: query.clone(),
        top,
        audit,
        hosts: hosts.map(|response| response.hosts),
        busy,
    };
    updates.send(Update::Seen(Box::new(seen))).await.map_err(gone)
}

fn gone<T>(_nobody_listens: mpsc::error::SendError<T>) -> Failure {
    Failure::failed("the live view has ended")
}
