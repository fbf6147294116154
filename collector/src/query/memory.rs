//! Answers that are still true: each beside a digest of the parts of the store that it was made of, so that a hundred
//! people who look at the same page cost the store a look at its parts each. A question about now leaves its name only when
//! it is asked for the first time: one that never comes again costs the store nothing more.

use std::{
    any::Any,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;
use prometheus_client::metrics::counter::Counter;

/// Bytes of all questions and answers together, about.
const BYTES_MAX: usize = 32 << 20;

/// Bytes of one of them.
const ONE_BYTES_MAX: usize = BYTES_MAX / 16;

/// What the texts of a row take, about.
pub(super) const TEXTS_BYTES: usize = 256;

/// How long what is known of minutes and hours is used without another look at their rows.
const RECENT: Duration = Duration::from_mins(10);

/// Questions that can be told apart while they are answered: of two with one number, one waits for the other.
const NUMBERS: u64 = 1_024;

/// Questions.
const QUESTIONS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Answers, the least recently used of which go first.
pub(super) struct Memory {
    known: Mutex<Known>,
    /// Who asks is alone with a question.
    alone: Vec<tokio::sync::Mutex<()>>,
    /// Answers that were given again.
    recalled: Counter,
    /// Questions and answers that gave way to others.
    forgotten: Counter,
}

struct Known {
    answers: LruCache<String, Option<Kept>>,
    bytes: usize,
}

struct Kept {
    since: Instant,
    digest: u64,
    bytes: usize,
    answer: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.known();
        f.debug_struct("Memory")
            .field("questions", &known.answers.len())
            .field("bytes", &known.bytes)
            .finish_non_exhaustive()
    }
}

impl Memory {
    pub(super) fn new(recalled: Counter, forgotten: Counter) -> Self {
        Self {
            known: Mutex::new(Known {
                answers: LruCache::unbounded(),
                bytes: 0,
            }),
            alone: (0..NUMBERS)
                .map(|_number| tokio::sync::Mutex::default())
                .collect(),
            recalled,
            forgotten,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else has this question answered: then the answer may be there.
    pub(super) async fn alone(&self, question: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        question.hash(&mut hasher);
        let number = usize::try_from(hasher.finish() % NUMBERS).unwrap_or(0);
        self.alone[number].lock().await
    }

    /// Whether a question was asked before, as far as is known; from now on it was.
    pub(super) fn was_asked(&self, question: &str) -> bool {
        let mut known = self.known();
        if known.answers.get(question).is_some() {
            return true;
        }
        if question.len() <= ONE_BYTES_MAX {
            known.put(question.to_owned(), None, &self.forgotten);
        }
        false
    }

    /// The answer to a question, where it was made of the very parts with this digest.
    pub(super) fn get<A: Clone + 'static>(&self, question: &str, digest: u64) -> Option<A> {
        self.get_since(question, digest, Duration::MAX)
    }

    /// The same of what a digest does not tell everything of: rows that somebody takes out of minutes or hours by hand are
    /// in no answer after a while.
    pub(super) fn get_recent<A: Clone + 'static>(&self, question: &str, digest: u64) -> Option<A> {
        self.get_since(question, digest, RECENT)
    }

    fn get_since<A: Clone + 'static>(&self, question: &str, digest: u64, age_max: Duration) -> Option<A> {
        let mut known = self.known();
        let kept = known.answers.get(question)?.as_ref()?;
        if kept.since.elapsed() > age_max {
            return None;
        }
        let answer = kept.answer.downcast_ref::<A>()?;
        let answer = (kept.digest == digest).then(|| answer.clone())?;
        self.recalled.inc();
        Some(answer)
    }

    /// Keeps an answer of about so many bytes, made of the parts with this digest.
    pub(super) fn put<A: Send + 'static>(&self, question: String, digest: u64, answer: A, bytes: usize) {
        if question.len() + bytes > ONE_BYTES_MAX {
            self.forgotten.inc();
            return;
        }
        let kept = Kept {
            since: Instant::now(),
            digest,
            bytes,
            answer: Box::new(answer),
        };
        self.known().put(question, Some(kept), &self.forgotten);
    }
}

/// What was learned while a question was answered: worth to be remembered once it is known that the store did not change
/// meanwhile.
#[derive(Default)]
pub(super) struct Learned(Mutex<Vec<Lesson>>);

type Lesson = Box<dyn FnOnce(&Memory) + Send>;

impl Learned {
    /// As `put` of the memory.
    pub(super) fn add<A: Send + 'static>(&self, question: String, digest: u64, answer: A, bytes: usize) {
        let lesson: Lesson = Box::new(move |memory| memory.put(question, digest, answer, bytes));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(lesson);
    }

    pub(super) fn keep(self, memory: &Memory) {
        for lesson in self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            lesson(memory);
        }
    }
}

impl Known {
    fn put(&mut self, question: String, kept: Option<Kept>, forgotten: &Counter) {
        self.bytes += weight(&question, kept.as_ref());
        if let Some((question, old)) = self.answers.push(question, kept) {
            self.bytes -= weight(&question, old.as_ref());
        }
        while self.bytes > BYTES_MAX || self.answers.len() > QUESTIONS_MAX.get() {
            let Some((question, old)) = self.answers.pop_lru() else {
                return;
            };
            self.bytes -= weight(&question, old.as_ref());
            forgotten.inc();
        }
    }
}

/// Bytes of an entry, about.
fn weight(question: &str, kept: Option<&Kept>) -> usize {
    question.len() + size_of::<Kept>() + kept.map_or(0, |kept| kept.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(Counter::default(), Counter::default())
    }

    #[test]
    fn an_answer_is_given_again_while_its_parts_are_the_same() {
        let memory = memory();
        assert!(!memory.was_asked("a") && memory.was_asked("a"));
        assert_eq!(memory.get::<u8>("a", 1), None);
        memory.put("a".to_owned(), 1, 7_u8, 1);
        assert_eq!(memory.get::<u8>("a", 1), Some(7));
        assert_eq!(memory.get::<u8>("a", 2), None);
        assert_eq!(memory.get::<String>("a", 1), None);
        assert_eq!((memory.recalled.get(), memory.forgotten.get()), (1, 0));
    }

    #[test]
    fn what_is_least_used_gives_way_and_is_counted() {
        let memory = memory();
        memory.put("huge".to_owned(), 1, 7_u8, ONE_BYTES_MAX);
        assert_eq!((memory.get::<u8>("huge", 1), memory.forgotten.get()), (None, 1));
        for number in 0..40 {
            memory.put(number.to_string(), 1, number, ONE_BYTES_MAX / 2);
            assert_eq!(memory.get("0", 1), Some(0), "used again and again");
        }
        assert!(memory.known().bytes <= BYTES_MAX && memory.forgotten.get() >= 9);
        assert_eq!((memory.get::<i32>("1", 1), memory.get("39", 1)), (None, Some(39)));
        for number in 0..2 * QUESTIONS_MAX.get() {
            memory.was_asked(&format!("q{number}"));
        }
        let known = memory.known();
        assert!(known.answers.len() <= QUESTIONS_MAX.get());
        let weighed = known
            .answers
            .iter()
            .map(|(question, kept)| weight(question, kept.as_ref()));
        assert_eq!(weighed.sum::<usize>(), known.bytes);
    }

    #[test]
    fn an_answer_takes_the_place_of_the_one_before() {
        let memory = memory();
        for number in 0..1_000 {
            memory.put("a".to_owned(), 1, number, 1_000);
        }
        assert_eq!((memory.get("a", 1), memory.forgotten.get()), (Some(999), 0));
        assert!(memory.known().bytes < 2_000);
    }
}
