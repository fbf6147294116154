//! Sessions by `session_id`: a connection that outlives its request, with its temporary tables and settings.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    chdb::Connection,
    exception::{Code, Exception},
};

/// How many sessions are kept at most; the one that waits longest gives way.
const SESSIONS_MAX: usize = 64;
/// How long a session waits when the request does not say.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(1);
/// The longest `session_timeout`.
pub const TIMEOUT_MAX: Duration = Duration::from_hours(1);

#[derive(Debug)]
enum Slot {
    Busy,
    Idle { connection: Connection, until: Instant },
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: Mutex<HashMap<String, Slot>>,
}

impl Sessions {
    /// Takes a session for one request; `None`: it is new, and the caller brings its connection.
    ///
    /// # Errors
    /// `SESSION_IS_LOCKED` while another request has it, `SESSION_NOT_FOUND` when it `must_exist` and does not.
    pub fn take(&self, id: &str, must_exist: bool, now: Instant) -> Result<Option<Connection>, Exception> {
        let mut slots = self.lock();
        let expired = drop_expired(&mut slots, now);
        if matches!(slots.get(id), Some(Slot::Busy)) {
            return Err(Exception::new(
                Code::SESSION_IS_LOCKED,
                format_args!("Session {id} is locked by a concurrent client"),
            ));
        }
        let found = match slots.remove(id) {
            Some(Slot::Idle { connection, .. }) => Some(connection),
            Some(Slot::Busy) | None => None,
        };
        if found.is_none() && must_exist {
            return Err(Exception::new(
                Code::SESSION_NOT_FOUND,
                format_args!("Session {id} not found"),
            ));
        }
        slots.insert(id.to_owned(), Slot::Busy);
        drop(slots);
        // Closing a connection takes a while: not under the lock.
        drop(expired);
        Ok(found)
    }

    /// Puts a session back until `until`; without a connection, it ends.
    pub fn put(&self, id: &str, connection: Option<Connection>, until: Instant) {
        let mut slots = self.lock();
        slots.remove(id);
        if let Some(connection) = connection {
            let oldest = slots
                .iter()
                .filter_map(|(id, slot)| {
                    if let Slot::Idle { until, .. } = slot {
                        Some((*until, id.clone()))
                    } else {
                        None
                    }
                })
                .min();
            let displaced = oldest
                .filter(|_| slots.len() >= SESSIONS_MAX)
                .and_then(|(_, id)| slots.remove(&id));
            if slots.len() < SESSIONS_MAX {
                slots.insert(id.to_owned(), Slot::Idle { connection, until });
            }
            drop(slots);
            drop(displaced);
        }
    }

    /// Ends those that have waited too long; call it now and then.
    pub fn expire(&self, now: Instant) {
        let expired = drop_expired(&mut self.lock(), now);
        drop(expired);
    }

    /// Ends all that wait.
    pub fn close(&self) {
        let slots = std::mem::take(&mut *self.lock());
        drop(slots);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_expired(slots: &mut HashMap<String, Slot>, now: Instant) -> Vec<Slot> {
    let over: Vec<_> = slots
        .iter()
        .filter(|(_, slot)| matches!(slot, Slot::Idle { until, .. } if *until <= now))
        .map(|(id, _)| id.clone())
        .collect();
    over.iter().filter_map(|id| slots.remove(id)).collect()
}
