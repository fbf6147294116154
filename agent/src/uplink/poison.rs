//! Which snapshot a collector refuses for good: found by sending one at a time, given up after its second try. Pure.

use tonic::Code;

use super::stream::Window;

/// What is known of a stream that was refused.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// One of those up to here is meant.
    until: Option<u64>,
}

impl Suspicion {
    /// Whether snapshots have to go one at a time.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// How much may be on its way then.
    pub(super) fn narrow(&self, window: Window) -> Window {
        if self.is_on() {
            Window { len: 1, ..window }
        } else {
            window
        }
    }

    /// A stream has failed with these on their way: the one that is to be given up, if it is known now.
    pub(super) fn failed(&mut self, code: Code, on_the_way: &[u64]) -> Option<u64> {
        if !is_of_data(code) {
            return None;
        }
        match (self.until, on_the_way) {
            (Some(_), [alone]) => Some(*alone),
            (None, [.., last]) => {
                self.until = Some(*last);
                None
            }
            _ => None,
        }
    }

    /// All up to and with `seq` is stored, or was given up.
    pub(super) fn passed(&mut self, seq: u64) {
        if self.until.is_some_and(|until| until <= seq) {
            self.until = None;
        }
    }
}

/// What a collector answers when it cannot take the bytes, however often they come.
fn is_of_data(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_given_up_when_it_was_refused_alone_after_a_first_refusal() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.failed(Code::InvalidArgument, &[4, 5, 6]), None);
        assert!(suspicion.is_on());
        suspicion.passed(4);
        assert_eq!(suspicion.failed(Code::Unavailable, &[5]), None);
        assert_eq!(suspicion.failed(Code::InvalidArgument, &[5]), Some(5));
        suspicion.passed(5);
        assert!(suspicion.is_on());
        suspicion.passed(6);
        assert!(!suspicion.is_on());
    }

    #[test]
    fn a_collector_that_is_away_or_lets_nobody_in_gives_up_nothing() {
        let mut suspicion = Suspicion::default();
        for code in [
            Code::Unavailable,
            Code::Unauthenticated,
            Code::AlreadyExists,
            Code::ResourceExhausted,
        ] {
            assert_eq!(suspicion.failed(code, &[1]), None);
            assert!(!suspicion.is_on());
        }
    }
}
