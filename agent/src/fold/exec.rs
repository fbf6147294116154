//! A process becomes another program, and with it the thread that asked for it the first one. Pure.

use std::sync::Arc;

use procscope_agent_common::{ExecEvent, ProcessKey};

use super::{Facts, Fold, ThreadKey, process::until_zero};

impl Fold {
    /// A process became another program.
    pub fn exec(&mut self, event: &ExecEvent) {
        if event.old_tid != event.process.tgid {
            let process = self.processes.get_mut(&event.process);
            let taken_over = process.and_then(|process| process.taken_over.take());
            if taken_over != Some(event.old_tid) {
                self.take_over_leader(event.process, event.old_tid);
            }
        }
        let Some(process) = self.process(event.process) else {
            return;
        };
        let arguments = usize::try_from(event.arguments_len)
            .unwrap_or(0)
            .min(event.arguments.len());
        process.facts = Arc::new(Facts {
            parent: process.facts.parent.or(Some(event.parent)),
            exec_generation: event.exec_generation,
            uid: event.uid,
            comm: until_zero(&event.comm),
            cgroup_id: event.cgroup_id,
            cgroup_name: until_zero(&event.cgroup_name),
            filename: until_zero(&event.filename),
            arguments: event.arguments[..arguments].to_vec(),
            kernel_thread: false,
            from_proc: false,
            namespace_pid: process.facts.namespace_pid,
        });
        // A new address space. What the old one reached stays in the interval's peak, unless it was only the
        // copy of its parent's that every child begins with.
        process.interval_peak_pages = if process.first_seen && !process.before_us {
            None
        } else {
            let noted = Some(u64::from(event.peak_rss_pages)).filter(|pages| *pages > 0);
            process.interval_peak_pages.max(process.rss_pages()).max(noted)
        };
        process.memory = None;
        process.lifetime_peak_pages = None;
        process.noted_hiwater_pages = 0;
        process.before_us = false;
    }

    /// A thread that is not the first called execve(2): it goes on under the first one's number and start.
    fn take_over_leader(&mut self, process: ProcessKey, old_tid: u32) {
        let leader = ThreadKey::new(process.tgid, process.start_boottime_ns);
        let gone = ThreadKey::new(old_tid, process.start_boottime_ns);
        let caller = self
            .threads
            .iter()
            .find(|(key, thread)| key.tid == old_tid && thread.process == process && **key != gone)
            .map(|(key, _)| *key);
        let old_leader = self.threads.swap_remove(&leader);
        if let Some(thread) = caller.and_then(|caller| self.threads.swap_remove(&caller)) {
            self.threads.insert(leader, thread);
        }
        if let Some(thread) = old_leader {
            self.threads.insert(gone, thread);
        }
    }

    /// The first thread of a process is told of under another number before the exec that gave it that one: its
    /// last instructions may come after the swap.
    pub(super) fn meet_old_leader(&mut self, key: ThreadKey, process: ProcessKey) {
        if key.tid == process.tgid
            || key.start_boottime_ns != process.start_boottime_ns
            || self.threads.contains_key(&key)
        {
            return;
        }
        self.take_over_leader(process, key.tid);
        if let Some(process) = self.processes.get_mut(&process) {
            process.taken_over = Some(key.tid);
        }
    }
}
