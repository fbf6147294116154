//! Keeps a stream of answers open for the live top, whatever happens to the collector.

use std::time::Duration;

use procscope_proto::v1::{GetAuditRequest, ListTopProcessesRequest};
use procscope_startup::{Failure, Result};
use tokio::sync::{mpsc, watch};

use super::state::{Query, Seen, Update};
use crate::{
    client::{Client, explain},
    config::Settings,
};

/// Waiting time after the first failure; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// A person in front of the screen waits no longer than this for a collector that is back.
const RETRY_MAX: Duration = Duration::from_secs(4);

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
        // A new connection next time: this one may be what is broken.
        client = None;
        if answered {
            retry_in = RETRY_FIRST;
        }
        if updates
            .send(Update::Away {
                why: failure.to_string(),
                retry_in,
            })
            .await
            .is_err()
        {
            return;
        }
        tokio::time::sleep(retry_in).await;
        retry_in = (retry_in * 2).min(RETRY_MAX);
    }
}

/// Passes answers on until the stream ends or fails.
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
        hosts: settings.hosts.clone(),
        metric: query.sort.wire().into(),
        limit,
        group_by: query.by.wire().into(),
        range: None,
        last_intervals: 1,
        name_contains: query.filter.clone(),
    };
    let mut stream = client.watch(request).await?;
    let gone = |_nobody_listens| Failure::failed("the live view has ended");
    updates.send(Update::Connected).await.map_err(gone)?;
    while let Some(message) = stream
        .message()
        .await
        .map_err(|status| explain(&settings.server, &status))?
    {
        let Some(top) = message.top else { continue };
        let audit = GetAuditRequest {
            hosts: settings.hosts.clone(),
            range: top.range,
        };
        // Without it the list is still worth showing; the screen says that it is not known.
        let audit = client.audit(audit).await.ok();
        *answered = true;
        updates
            .send(Update::Seen(Box::new(Seen {
                query: query.clone(),
                top,
                audit,
            })))
            .await
            .map_err(gone)?;
    }
    Ok(())
}
