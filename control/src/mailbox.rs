//! A mailbox a guest: consoles leave requests in it, and the guest's vCPU answers them between two
//! of its exits. The machine has one too, for requests that concern no guest that exists.
//!
//! Neither side waits for the other, and they may be on different CPUs. Each [`Client`] has a place
//! of its own for one request or its answer, under a lock that is held while one of them is moved
//! in or out and never while a request is carried out.

use crate::cards::{CardChange, CardFacts};
use crate::disks::{DiskChange, DiskFacts, HostDiskFacts};
use crate::state::{GuestStats, Location, Registers, Steps};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use devices::local_apic::Kick;
use spin::Mutex;

/// Steps that are asked for at once, at the most.
pub const MAX_STEPS: u32 = 1000;

/// A console that asks. Its request waits for no other client's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The hypervisor's prompt on serial ports.
    Prompt,
    /// The one on the machine's own screen.
    Screen,
    /// The management port.
    Management,
}

const CLIENTS: [Client; 3] = [Client::Prompt, Client::Screen, Client::Management];

/// A request to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// How often it exited, and what it is doing.
    Stats,
    /// The state of its virtual CPU, as text with line ends.
    Dump,
    /// To end for good before its next entry, whatever its configuration says of its end.
    Destroy,
    /// To be reset before its next entry.
    Reset,
    /// To stand still before its next instruction, and its time with it.
    Pause,
    /// To go on.
    Resume,
    /// To be paused before each load or store of GDTR, IDTR, LDTR or TR from now on, or no longer.
    CatchTables(bool),
    /// Its registers, and the instruction that it stands before.
    Registers,
    /// To set a register of a guest that is paused: a general one, RIP, RFLAGS, CR0, CR2, CR3, CR4,
    /// DR6 or DR7. The value is taken as it is: the processor may refuse to run the guest with it.
    SetRegister {
        /// The register's name.
        name: String,
        /// Its value.
        value: u64,
    },
    /// To run so many instructions while it is paused, [`MAX_STEPS`] at the most.
    Step(u32),
    /// To make a guest. For the machine's mailbox; a guest's vCPU cannot.
    Create {
        /// The boot module that has its configuration, by name.
        module: String,
        /// Lines of `key=value` that follow those of the configuration, as `xl create` takes them.
        settings: String,
    },
    /// One of Xen's commands for XenStore, whose name follows `xenstore-`. For the machine's
    /// mailbox; a guest's vCPU cannot.
    Store {
        /// The command's name.
        name: String,
        /// Its operands.
        words: Vec<String>,
    },
    /// To watch nodes of XenStore. For the machine's mailbox, as the next two.
    Watch(WatchRequest),
    /// The disks of the guests with these numbers.
    ListDisks(Vec<u32>),
    /// The network cards of these guests.
    ListCards(Vec<u32>),
    /// The machine's own disks.
    ListHostDisks,
    /// To change a guest's disks.
    ChangeDisk {
        /// The guest's number.
        guest: u32,
        /// The change.
        change: DiskChange,
    },
    /// To change its network cards.
    ChangeCard {
        /// The guest's number.
        guest: u32,
        /// The change.
        change: CardChange,
    },
}

/// A request that concerns a watch of nodes in XenStore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRequest {
    /// To begin. There are few: the oldest ends if there are too many.
    Begin {
        /// The nodes, at the most [`MAX_WATCH_PATHS`]; those below are watched too.
        paths: Vec<String>,
    },
    /// Events that have come.
    Take {
        /// As in [`Answer::Watching`].
        watch: u32,
        /// At the most, and at the most [`MAX_WATCH_EVENTS`].
        count: u32,
    },
    /// To end.
    End {
        /// As in [`Answer::Watching`].
        watch: u32,
    },
}

/// Nodes that are watched by one watch.
pub const MAX_WATCH_PATHS: usize = 32;

/// Events that are taken at once.
pub const MAX_WATCH_EVENTS: u32 = 32;

/// The longest text that answers [`Request::Store`], in bytes.
pub const MAX_STORE_TEXT_BYTES: usize = 256 << 10;

/// The guest's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// There is no such guest any more, or its virtual CPU is not there now.
    NoGuest,
    /// The guest would have to be paused, and runs.
    Runs,
    /// The processor cannot, or the one that was asked.
    Impossible,
    /// No register of this name can be set.
    NoRegister(String),
    /// To [`WatchRequest::Begin`]: the number of the watch.
    Watching(u32),
    /// To [`WatchRequest::Take`]: the paths of nodes that have changed.
    Events(Vec<String>),
    /// To [`Request::ListDisks`].
    Disks(Vec<DiskFacts>),
    /// To [`Request::ListCards`].
    Cards(Vec<CardFacts>),
    /// To [`Request::ListHostDisks`].
    HostDisks(Vec<HostDiskFacts>),
    /// To [`Request::Stats`].
    Stats(GuestStats),
    /// To [`Request::Dump`].
    Dump(String),
    /// To [`Request::Store`]: its output, of printable characters and line ends.
    Text(String),
    /// To [`Request::Pause`]: the instruction that it stands before.
    Paused(Location),
    /// To [`Request::Registers`].
    Registers(Registers, Location),
    /// To [`Request::Step`].
    Steps(Steps),
    /// To [`Request::Create`]: the guest's number.
    Created {
        /// As in [`Mailbox::number`].
        number: u32,
    },
    /// It could not be done: why, in one line.
    Failed(String),
}

/// The state of a client's place.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Free,
    Asked(Request),
    /// The request is being carried out.
    Taken,
    Answered(Answer),
    /// The guest is gone for good.
    Closed {
        /// An answer that was not yet taken.
        last: Option<Answer>,
    },
}

/// A guest's mailbox, or the machine's.
pub struct Mailbox {
    number: u32,
    name: String,
    places: [Mutex<Place>; CLIENTS.len()],
    kick: Mutex<Option<Arc<dyn Kick>>>,
}

impl Mailbox {
    /// The mailbox of the guest with this number and name.
    pub fn new(number: u32, name: &str) -> Self {
        Self { number, name: name.into(), places: Default::default(), kick: Mutex::new(None) }
    }

    /// The mailbox of the machine: number 0.
    pub fn of_machine() -> Self {
        Self::new(0, "Bulkhead")
    }

    /// The guest's number, xl's domain id: from 1 on, and not given again.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on `kick` makes the guest look, if it runs on another CPU than its client.
    pub fn connect(&self, kick: Arc<dyn Kick>) {
        *self.kick.lock() = Some(kick);
    }

    /// A client asks. False if the answer to its last request was not yet taken; this one is
    /// dropped then.
    pub fn post(&self, client: Client, request: Request) -> bool {
        let mut place = self.places[client as usize].lock();
        match *place {
            Place::Free => *place = Place::Asked(request),
            // The place answers by itself.
            Place::Closed { .. } => return true,
            Place::Asked(_) | Place::Taken | Place::Answered(_) => return false,
        }
        drop(place);
        // The clone, so that no lock is held while another CPU is interrupted.
        let kick = self.kick.lock().clone();
        if let Some(kick) = kick {
            kick.kick();
        }
        true
    }

    /// The answer to a client's request, once it is there.
    pub fn take_answer(&self, client: Client) -> Option<Answer> {
        let mut place = self.places[client as usize].lock();
        match core::mem::take(&mut *place) {
            Place::Answered(answer) => Some(answer),
            Place::Closed { last } => {
                *place = Place::Closed { last: None };
                Some(last.unwrap_or(Answer::NoGuest))
            }
            other => {
                *place = other;
                None
            }
        }
    }

    /// For the guest: a request that waits. It is answered by [`Mailbox::put_answer`].
    pub fn take_request(&self) -> Option<(Client, Request)> {
        CLIENTS.into_iter().find_map(|client| {
            let mut place = self.places[client as usize].lock();
            match core::mem::take(&mut *place) {
                Place::Asked(request) => {
                    *place = Place::Taken;
                    Some((client, request))
                }
                other => {
                    *place = other;
                    None
                }
            }
        })
    }

    /// For the guest: its answer to a request that it has taken.
    pub fn put_answer(&self, client: Client, answer: Answer) {
        let mut place = self.places[client as usize].lock();
        if matches!(*place, Place::Taken) {
            *place = Place::Answered(answer);
        }
    }

    /// The guest is gone for good: requests, waiting and to come, are answered by
    /// [`Answer::NoGuest`].
    pub fn close(&self) {
        for place in &self.places {
            let mut place = place.lock();
            let last = match core::mem::take(&mut *place) {
                // The request that has ended it, perhaps.
                Place::Answered(answer) => Some(answer),
                _ => None,
            };
            *place = Place::Closed { last };
        }
    }

    /// True if the guest is gone for good.
    pub fn is_closed(&self) -> bool {
        // The places are closed one after the other.
        self.places.iter().all(|place| matches!(*place.lock(), Place::Closed { .. }))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("number", &self.number)
            .field("name", &self.name)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Kicks(AtomicU32);

    impl Kick for Kicks {
        fn kick(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn notify(&self) {}
    }

    #[test]
    fn each_client_gets_the_answer_to_its_own_request() {
        let mailbox = Mailbox::new(1, "g");
        let kicks = Arc::new(Kicks::default());
        mailbox.connect(kicks.clone());
        assert!(mailbox.post(Client::Management, Request::Step(3)));
        assert!(mailbox.post(Client::Prompt, Request::Dump));
        assert!(!mailbox.post(Client::Prompt, Request::Reset), "one at a time");
        assert_eq!(kicks.0.load(Ordering::Relaxed), 2);
        assert_eq!(mailbox.take_answer(Client::Prompt), None);
        let first = mailbox.take_request().unwrap();
        let second = mailbox.take_request().unwrap();
        assert_eq!(first, (Client::Prompt, Request::Dump));
        assert_eq!(second, (Client::Management, Request::Step(3)));
        assert_eq!(mailbox.take_request(), None);
        mailbox.put_answer(Client::Management, Answer::Runs);
        assert!(!mailbox.post(Client::Management, Request::Reset), "its answer was not taken");
        assert_eq!(mailbox.take_answer(Client::Prompt), None, "it is being carried out");
        assert_eq!(mailbox.take_answer(Client::Management), Some(Answer::Runs));
        mailbox.put_answer(Client::Prompt, Answer::Dump("rip".into()));
        assert_eq!(mailbox.take_answer(Client::Prompt), Some(Answer::Dump("rip".into())));
        assert_eq!(mailbox.take_answer(Client::Prompt), None);
        mailbox.put_answer(Client::Prompt, Answer::Done);
        assert_eq!(mailbox.take_answer(Client::Prompt), None, "nothing was asked");
    }

    #[test]
    fn a_guest_that_is_gone_leaves_no_request_without_an_answer() {
        let mailbox = Mailbox::new(1, "g");
        assert!(mailbox.post(Client::Prompt, Request::Stats));
        assert!(mailbox.post(Client::Management, Request::Stats));
        let (taken, _) = mailbox.take_request().unwrap();
        assert!(!mailbox.is_closed());
        mailbox.close();
        assert!(mailbox.is_closed());
        mailbox.put_answer(taken, Answer::Done);
        assert_eq!(mailbox.take_request(), None);
        for client in CLIENTS {
            assert_eq!(mailbox.take_answer(client), Some(Answer::NoGuest));
            assert!(mailbox.post(client, Request::Pause));
            assert_eq!(mailbox.take_answer(client), Some(Answer::NoGuest));
        }
    }

    #[test]
    fn the_last_answer_of_a_guest_that_is_gone_can_be_taken() {
        let mailbox = Mailbox::new(1, "g");
        assert!(mailbox.post(Client::Prompt, Request::Reset));
        let (client, _) = mailbox.take_request().unwrap();
        mailbox.put_answer(client, Answer::Done);
        mailbox.close();
        assert!(mailbox.is_closed());
        assert_eq!(mailbox.take_answer(Client::Prompt), Some(Answer::Done));
        assert_eq!(mailbox.take_answer(Client::Prompt), Some(Answer::NoGuest));
    }

    /// The clients on one thread each, and the guest on a third.
    #[test]
    fn no_answer_is_lost_or_mixed_up_between_cpus() {
        const REQUESTS: u32 = 2000;
        let mailbox = Mailbox::new(1, "g");
        std::thread::scope(|threads| {
            let ask = |client| {
                let base = client as u32 * REQUESTS;
                for number in base..base + REQUESTS {
                    assert!(mailbox.post(client, Request::Step(number)));
                    let answer = core::iter::from_fn(|| {
                        std::thread::yield_now();
                        Some(mailbox.take_answer(client))
                    });
                    let answer = answer.flatten().next();
                    assert_eq!(answer, Some(Answer::Dump(alloc::format!("{number}"))));
                }
            };
            CLIENTS.into_iter().for_each(|client| _ = threads.spawn(move || ask(client)));
            let mut answered = 0;
            while answered < REQUESTS * CLIENTS.len() as u32 {
                let Some((client, Request::Step(number))) = mailbox.take_request() else {
                    std::thread::yield_now();
                    continue;
                };
                mailbox.put_answer(client, Answer::Dump(alloc::format!("{number}")));
                answered += 1;
            }
        });
    }
}
