//! Giving up capabilities: to load, to attach and to read the names of what ran before takes some, to go on takes
//! none.

use procscope_proto::v1;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

use crate::observer::Observer;

/// Gives up every capability of this thread that `observer` has no use for any more, for good. `None`: it has no use
/// for any on this thread.
pub fn give_up(observer: Option<&Observer>) {
    // What /proc says of others' I/O is for those who may trace them.
    let reads_others = observer.is_some_and(|observer| {
        observer.source() == v1::Source::Proc || !observer.hidden_processes().is_empty()
    });
    let needed = if reads_others {
        CapabilitySet::SYS_PTRACE
    } else {
        CapabilitySet::empty()
    };
    let outcome = set_no_new_privs(true)
        .and_then(|()| capabilities(None))
        .and_then(|held| {
            let kept = held.permitted & needed;
            let sets = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, sets)
        });
    if let Err(error) = outcome {
        tracing::warn!(%error, "could not give up the capabilities that are not needed any more; going on with them");
    }
}
