//! A virtual CPU between two of its exits, for others: their work is done, and what they ask of the
//! guest is answered.

use super::{Activity, Vcpu};
use crate::backend::Backend;
use crate::vm::Stop;
use alloc::string::ToString;
use alloc::vec::Vec;
use control::mailbox::{Answer, MAX_STEPS, Request};
use control::state::{GuestState, GuestStats, Steps};
use devices::time::{Clock, ticks_to_ns};

/// The work that the run loop does for others between two exits: consoles, screens, management. It
/// reaches the guest by its mailbox.
pub trait Housekeeping {
    /// Called after a physical interrupt and when the guest spins, though not more than once a
    /// millisecond while it runs, and before the CPU sleeps. Must return soon.
    fn attend(&mut self);
    /// The guest has answered what waited in its mailbox.
    fn take_answers(&mut self);
    /// The time stamp counter at which to attend again if no physical interrupt comes before.
    fn due_tsc(&mut self) -> u64;

    /// The CPU's other work, after an interrupt: what is due of it is done, and the answer says
    /// whether the virtual CPU may stay.
    fn share_cpu(&mut self) -> CpuShare {
        CpuShare::ALL
    }

    /// The virtual CPU spins, for a sibling perhaps that is to run on this CPU: one that waits for
    /// it goes first.
    fn give_way_to_sibling(&mut self) {}

    /// True if a virtual CPU with nothing to run leaves the CPU to others rather than sleep on it.
    fn has_others(&self) -> bool {
        false
    }
}

/// A virtual CPU's share of the CPU that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShare {
    /// Another one is to run there.
    pub is_over: bool,
    /// The time stamp counter at which to ask again.
    pub due_tsc: u64,
}

impl CpuShare {
    /// The CPU has nothing else to do.
    pub const ALL: Self = Self { is_over: false, due_tsc: u64::MAX };
}

/// Nothing is to be done.
pub(crate) struct Nothing;

impl Housekeeping for Nothing {
    fn attend(&mut self) {}

    fn take_answers(&mut self) {}

    fn due_tsc(&mut self) -> u64 {
        u64::MAX
    }
}

impl<B: Backend> Vcpu<B> {
    /// Lets others do what is due, who are to know what the guest wrote. The first virtual CPU
    /// answers for the guest.
    pub(super) fn attend(&mut self, housekeeping: &mut dyn Housekeeping) {
        self.note_writes();
        self.note_use();
        housekeeping.attend();
        // A request is not answered in the middle of another.
        if self.index == 0 && !self.is_stepping() {
            self.answer_requests(housekeeping);
        }
        self.note_share(housekeeping);
    }

    /// Counts the time on this CPU since the last count.
    pub(super) fn note_use(&mut self) {
        let now_tsc = self.platform.tsc();
        self.vm.processors.note_use(self.index, now_tsc.saturating_sub(self.used_from_tsc));
        self.used_from_tsc = now_tsc;
    }

    /// Takes what only the processor knows of the guest's writes to where it is asked for.
    pub(super) fn note_writes(&mut self) {
        let space = &self.vm.space;
        self.backend.take_written_pages(|gpa| space.note_write(gpa));
    }

    /// Answers what waits in the guest's mailbox, and what is asked because of an answer.
    pub(super) fn answer_requests(&mut self, housekeeping: &mut dyn Housekeeping) {
        while let Some((client, request)) = self.vm.mailbox.take_request() {
            let answer = self.answer(request);
            self.vm.mailbox.put_answer(client, answer);
            housekeeping.take_answers();
        }
    }

    #[cold]
    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Stats => Answer::Stats(self.stats()),
            Request::Dump => Answer::Dump(self.dump().to_string()),
            Request::Destroy => {
                self.vm.stop.request(Stop::Destroy);
                Answer::Done
            }
            Request::Reset => {
                self.vm.stop.request(Stop::Reset);
                Answer::Done
            }
            Request::Pause => {
                self.pause();
                Answer::Paused(self.location())
            }
            Request::Resume => {
                self.resume();
                Answer::Done
            }
            Request::CatchTables(on) => {
                if self.catch_tables(on) {
                    Answer::Done
                } else {
                    Answer::Impossible
                }
            }
            Request::Registers => Answer::Registers(self.registers(), self.location()),
            Request::SetRegister { .. } | Request::Step(_) if !self.paused => Answer::Runs,
            Request::SetRegister { name, value } => {
                if self.set_register(&name, value) {
                    Answer::Done
                } else {
                    Answer::NoRegister(name)
                }
            }
            Request::Step(count) => Answer::Steps(self.steps(count)),
            Request::Create { .. }
            | Request::Store { .. }
            | Request::Watch(_)
            | Request::ListDisks(_)
            | Request::ListCards(_)
            | Request::ListHostDisks
            | Request::ChangeDisk { .. }
            | Request::ChangeCard { .. } => Answer::Impossible,
        }
    }

    fn stats(&self) -> GuestStats {
        GuestStats {
            state: match self.activity {
                _ if self.paused => GuestState::Paused,
                Activity::Running => GuestState::Running,
                Activity::Halted | Activity::Polling => GuestState::Halted,
                Activity::Frozen => GuestState::Frozen,
                Activity::WaitForStartup => GuestState::Waiting,
            },
            total_exits: self.counters.total(),
            exits: self.counters.iter().collect(),
            guest_time_ns: self.vm.clock.now().as_ns(),
            cpu_time_ns: ticks_to_ns(self.vm.processors.all_used_ticks(), self.platform.tsc_hz()),
        }
    }

    /// Makes up to `count` steps.
    fn steps(&mut self, count: u32) -> Steps {
        let (mut done, mut next, mut end) = (Vec::new(), self.location(), None);
        for _ in 0..count.min(MAX_STEPS) {
            end = self.step().reason();
            if end.is_some() {
                break;
            }
            done.push(core::mem::replace(&mut next, self.location()));
        }
        // A step that came to no end may have moved it all the same.
        Steps { done, end, next: self.location() }
    }
}
