//! What passes on a connection: whether anybody was let in, what is open, and until when it may stay.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// What has passed on one connection so far.
#[derive(Debug)]
pub struct Activity {
    since: Instant,
    passed: Mutex<Passed>,
}

#[derive(Debug, Default)]
struct Passed {
    /// Requests that were let in and are not answered to their end.
    open: usize,
    /// When the last one ended, or something that anybody may ask was asked; `None`: nothing was let in yet.
    last: Option<Instant>,
}

impl Activity {
    /// A connection on which nothing has passed.
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            since: now,
            passed: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was asked that needs no credential anywhere. It is never open: who asks for it and does not end
    /// his question, or follows the answer for ever, is no more than a stranger.
    pub(super) fn asked(&self) {
        self.lock().last = Some(Instant::now());
    }

    /// A request was let in; it is open until the turn is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let mut passed = self.lock();
        passed.open += 1;
        passed.last = Some(Instant::now());
        Turn(Arc::clone(self))
    }

    /// Whether anything at all was let in.
    pub(super) fn is_used(&self) -> bool {
        self.lock().last.is_some()
    }

    /// Until when the connection may stay, as it is now: `first_within` its beginning for something to be let in,
    /// then `silence` after the last request, or while one is open after the last byte.
    pub(super) fn stays_until(&self, heard: Instant, first_within: Duration, silence: Duration) -> Instant {
        let passed = self.lock();
        match passed.last {
            None => self.since + first_within,
            Some(_) if passed.open > 0 => heard + silence,
            Some(last) => last + silence,
        }
    }
}

/// A request that was let in and is not answered to its end.
#[derive(Debug)]
pub(super) struct Turn(Arc<Activity>);

impl Turn {
    /// Lasts until the answer has gone, or nobody wants it any more.
    pub(super) fn over(self, answer: Response) -> Response {
        answer.map(|body| Body::new(Answer { body, _turn: self }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut passed = self.0.lock();
        passed.open -= 1;
        passed.last = Some(Instant::now());
    }
}

/// The body of an answer, as it is, with the turn that it ends.
struct Answer {
    body: Body,
    _turn: Turn,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_secs(75);

    #[test]
    fn a_connection_stays_while_something_is_open_and_a_while_after_it() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let much_later = start + Duration::from_hours(1);
        let stays = || activity.stays_until(much_later, FIRST, SILENCE);
        assert_eq!(stays(), start + FIRST, "bytes alone buy no time");
        assert!(!activity.is_used());
        let (one, other) = (activity.begin(), activity.begin());
        drop(one);
        assert_eq!(stays(), much_later + SILENCE);
        let before = Instant::now();
        drop(other);
        assert!(
            (before + SILENCE..=Instant::now() + SILENCE).contains(&stays()),
            "bytes alone buy no time"
        );
        assert!(activity.is_used());
    }

    #[test]
    fn what_anybody_may_ask_is_never_open() {
        let start = Instant::now();
        let activity = Activity::new(start);
        activity.asked();
        let stays = activity.stays_until(start + Duration::from_hours(1), FIRST, SILENCE);
        assert!((start + SILENCE..=Instant::now() + SILENCE).contains(&stays));
    }

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_answer() {
        let activity = Activity::new(Instant::now());
        let answer = activity.begin().over(Response::new(Body::from("all of it")));
        assert_eq!(activity.lock().open, 1);
        let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!((&body[..], activity.lock().open), (&b"all of it"[..], 0));
    }
}
