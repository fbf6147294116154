//! Which queries run: their ids, how they are killed, and that one is killed when its client has gone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    engine::Engine,
    exception::{Code, Exception},
};

/// One query that runs or waits.
#[derive(Debug)]
pub struct Run {
    query_id: String,
    mark: String,
    cancelled: AtomicBool,
}

impl Run {
    /// The id that the client gave, or that was made for it.
    #[must_use]
    pub fn query_id(&self) -> &str {
        &self.query_id
    }

    /// By which the engine finds it.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Fails once the query was killed or its client has gone.
    ///
    /// # Errors
    /// `QUERY_WAS_CANCELLED`.
    pub fn check(&self) -> Result<(), Exception> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Exception::new(Code::QUERY_WAS_CANCELLED, "Query was cancelled"));
        }
        Ok(())
    }
}

/// All queries that run.
#[derive(Debug, Default)]
pub struct Running {
    queries: Mutex<HashMap<String, Arc<Run>>>,
}

impl Running {
    /// Enters a query.
    ///
    /// # Errors
    /// When one with this id runs already.
    pub fn enter(self: &Arc<Self>, engine: &Arc<Engine>, query_id: String) -> Result<Guard, Exception> {
        let mark = format!("procscope:{}", uuid::Uuid::new_v4());
        let run = Arc::new(Run {
            query_id: query_id.clone(),
            mark,
            cancelled: AtomicBool::new(false),
        });
        let mut queries = self.lock();
        if queries.contains_key(&query_id) {
            let text = format_args!("Query with id = {query_id} is already running");
            return Err(Exception::new(Code::QUERY_WITH_SAME_ID, text));
        }
        queries.insert(query_id, Arc::clone(&run));
        Ok(Guard {
            running: Arc::clone(self),
            engine: Arc::clone(engine),
            run,
        })
    }

    /// How many queries run or wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The mark of the query that has this id.
    #[must_use]
    pub fn mark_of(&self, query_id: &str) -> Option<String> {
        self.lock().get(query_id).map(|run| run.mark.clone())
    }

    /// Cancels everything.
    pub fn cancel_all(&self, engine: &Engine) {
        let runs: Vec<_> = self.lock().values().cloned().collect();
        for run in runs {
            run.cancelled.store(true, Ordering::Relaxed);
            engine.kill(&run.mark);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Run>>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Belongs to the thread that executes: the query runs until this is dropped.
#[derive(Debug)]
pub struct Guard {
    running: Arc<Running>,
    engine: Arc<Engine>,
    run: Arc<Run>,
}

impl Guard {
    /// The query.
    #[must_use]
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// For the side that talks to the client: dropping it cancels the query, unless it has ended.
    #[must_use]
    pub fn client(&self) -> Client {
        Client {
            running: Arc::clone(&self.running),
            engine: Arc::clone(&self.engine),
            run: Arc::clone(&self.run),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.lock().remove(&self.run.query_id);
    }
}

/// A client that waits for an answer.
#[derive(Debug)]
pub struct Client {
    running: Arc<Running>,
    engine: Arc<Engine>,
    run: Arc<Run>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let runs = self
            .running
            .lock()
            .get(&self.run.query_id)
            .is_some_and(|run| Arc::ptr_eq(run, &self.run));
        if runs {
            self.run.cancelled.store(true, Ordering::Relaxed);
            let (engine, run) = (Arc::clone(&self.engine), Arc::clone(&self.run));
            // Killing waits for the engine: not on this thread, which serves other clients.
            drop(tokio::task::spawn_blocking(move || engine.kill(run.mark())));
        }
    }
}
