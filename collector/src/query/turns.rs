//! Whose turn it is: a few questions are answered at once, more wait, and those who wait with the same top share the
//! answer to it. An answer is shared before it is begun only, so nobody hears of a state from before his question.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::{QueryError, Top, TopQuery};

/// Questions that are answered at once; more wait their turn, so that ingest keeps its share of the machine.
pub(super) const AT_ONCE_MAX: usize = 8;

/// Questions that wait.
const WAITING_MAX: usize = 1_000;

/// How long a question waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(15);

/// What the first of those who wait tells the others: the answer, or that there was no turn.
type Told = Option<Result<Top, ()>>;

/// All questions of one collector.
#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    waiting: Semaphore,
    /// Tops that wait: no more than questions that wait.
    tops: Mutex<HashMap<TopQuery, watch::Receiver<Told>>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            tops: Mutex::default(),
        }
    }

    fn tops(&self) -> MutexGuard<'_, HashMap<TopQuery, watch::Receiver<Told>>> {
        self.tops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, QueryError> {
        let Ok(_waits) = self.waiting.try_acquire() else {
            return Err(QueryError::Busy);
        };
        match tokio::time::timeout(TURN_MAX, self.places.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(QueryError::Busy),
        }
    }

    /// Answers a top when its turn comes, or hears what another one is told who waits with the same.
    pub(super) async fn top(
        &self,
        query: &TopQuery,
        answer: impl Future<Output = Result<Top, QueryError>>,
    ) -> Result<Top, QueryError> {
        let first = match self.join(query) {
            Ok(first) => Some(first),
            Err(mut told) => match told.wait_for(Option::is_some).await.map(|told| told.clone()) {
                Ok(Some(Ok(top))) => return Ok(top),
                Ok(Some(Err(()))) => return Err(QueryError::Busy),
                // The other one went away, or the store did not answer: everybody asks for himself.
                Ok(None) | Err(_) => None,
            },
        };
        let turn = self.turn().await;
        let Some(first) = first else {
            let _turn = turn?;
            return answer.await;
        };
        let tell = first.begins();
        let _turn = turn.inspect_err(|_busy| drop(tell.send_replace(Some(Err(())))))?;
        let answered = answer.await;
        if let Ok(top) = &answered
            && tell.receiver_count() > 0
        {
            tell.send_replace(Some(Ok(top.clone())));
        }
        answered
    }

    /// Waits as the first with a top, or with the one who does.
    fn join<'a>(&'a self, query: &'a TopQuery) -> Result<First<'a>, watch::Receiver<Told>> {
        let mut tops = self.tops();
        if let Some(told) = tops.get(query) {
            return Err(told.clone());
        }
        let (tell, told) = watch::channel(None);
        tops.insert(query.clone(), told);
        drop(tops);
        Ok(First {
            turns: self,
            query,
            tell,
        })
    }
}

/// The one who waits for all with the same top; nobody joins it any more when it is gone.
struct First<'a> {
    turns: &'a Turns,
    query: &'a TopQuery,
    tell: watch::Sender<Told>,
}

impl First<'_> {
    /// From here on an answer may be older than a new question.
    fn begins(self) -> watch::Sender<Told> {
        self.tell.clone()
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.turns.tops().remove(self.query);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        model::TimeRange,
        query::{Coverage, GroupBy, Metric},
    };

    fn query(limit: u32) -> TopQuery {
        TopQuery {
            hosts: Vec::new(),
            metric: Metric::Cpu,
            limit,
            group_by: GroupBy::Process,
            range: None,
            last_intervals: 0,
            name_contains: String::new(),
        }
    }

    fn top() -> Top {
        Top {
            range: TimeRange {
                start_ms: 0,
                end_ms: 1,
            },
            coverage: Coverage::default(),
            rows: Vec::new(),
        }
    }

    /// Takes all places.
    async fn full(turns: &Turns) -> SemaphorePermit<'_> {
        let most = u32::try_from(AT_ONCE_MAX).unwrap();
        turns.places.acquire_many(most).await.unwrap()
    }

    /// Lets the others run until something is so.
    async fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    }

    /// Asks so often, each time with the limit that `limit` gives, while all places are taken; what came of it, and how
    /// often the store was asked.
    async fn ask(count: u32, limit: fn(u32) -> u32) -> (Vec<Result<Top, QueryError>>, usize) {
        let (turns, asked) = (Arc::new(Turns::new()), Arc::new(AtomicUsize::new(0)));
        let begun = Arc::new(AtomicUsize::new(0));
        let taken = full(&turns).await;
        let mut all = Vec::new();
        for number in 0..count {
            let (turns, asked, begun) = (Arc::clone(&turns), Arc::clone(&asked), Arc::clone(&begun));
            all.push(tokio::spawn(async move {
                let answer = async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Ok(top())
                };
                begun.fetch_add(1, Ordering::Relaxed);
                turns.top(&query(limit(number)), answer).await
            }));
        }
        // One thread: who has begun runs on until he waits.
        until(|| begun.load(Ordering::Relaxed) == all.len()).await;
        drop(taken);
        let mut answers = Vec::new();
        for one in all {
            answers.push(one.await.unwrap());
        }
        assert!(turns.tops().is_empty(), "nobody waits any more");
        (answers, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn those_who_wait_with_the_same_top_share_its_answer() {
        let (answers, asked) = ask(5_000, |_number| 7).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked, 1);
    }

    #[tokio::test]
    async fn each_waits_for_a_turn_of_its_own_and_beyond_the_bound_nobody_does() {
        let (answers, asked) = ask(1_200, |number| number).await;
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((answered, asked), (WAITING_MAX, WAITING_MAX));
        let busy = |answer: &&Result<Top, QueryError>| matches!(answer, Err(QueryError::Busy));
        assert_eq!(answers.iter().filter(busy).count(), 200);
    }

    #[tokio::test]
    async fn a_question_that_comes_after_the_begin_is_asked_again() {
        let (turns, asked) = (Turns::new(), AtomicUsize::new(0));
        let gate = Semaphore::new(0);
        let answer = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            let _through = gate.acquire().await.unwrap();
            Ok(top())
        };
        let (one, other) = (query(1), query(1));
        let later = async {
            until(|| asked.load(Ordering::Relaxed) == 1).await;
            turns.top(&other, answer()).await
        };
        let opens = async {
            until(|| asked.load(Ordering::Relaxed) == 2).await;
            gate.add_permits(2);
        };
        let (first, second, ()) = tokio::join!(turns.top(&one, answer()), later, opens);
        assert!(first.is_ok() && second.is_ok());
    }

    #[tokio::test]
    async fn when_the_first_goes_away_the_others_ask_for_themselves() {
        let turns = Turns::new();
        let taken = full(&turns).await;
        let (one, other) = (query(1), query(1));
        let mut first = Box::pin(turns.top(&one, async { Ok(top()) }));
        tokio::select! {
            biased;
            _answer = &mut first => panic!("there is no place"),
            () = tokio::task::yield_now() => {}
        }
        let goes = async {
            until(|| turns.tops().values().any(|told| told.has_changed().is_ok())).await;
            drop(first);
            drop(taken);
        };
        let (second, ()) = tokio::join!(turns.top(&other, async { Ok(top()) }), goes);
        assert!(second.is_ok());
    }
}
