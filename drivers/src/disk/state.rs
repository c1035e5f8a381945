//! The requests that are under way on a disk, and how well it is.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Weak;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use block::{Client, Completion, Error, FairQueue, Op, Served};
use slab::Slab;

use super::controller::{Controller, Limits, Taken};
use super::job::{Job, Piece};
use super::pages::Pages;
use super::{GONE, NEVER_NS};
use crate::hardware::Fault;

const NS_PER_S: u64 = 1_000_000_000;
/// A command that takes longer is not answered any more.
const TIMEOUT_NS: u64 = 10 * NS_PER_S;
/// As often the device is looked at while commands are under way.
const WATCH_NS: u64 = NS_PER_S;
/// As often as that if it does not interrupt, or is being reset.
const POLL_NS: u64 = 1_000_000;

/// Failures of commands that the log tells of: a guest can make a bad sector fail again and again.
const MAX_TOLD: u32 = 8;

/// A client, and what it is to be told.
pub type Done = (Weak<dyn Client>, Completion);

/// How well the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Works,
    /// It was reset since it last answered a command.
    WasReset,
    /// It is being reset, since then.
    Resets(u64),
    Gone,
}

/// A cache that flushes empty.
#[derive(Clone, Copy, Debug)]
struct Cache {
    /// It may hold what was written.
    is_dirty: bool,
    /// Flushes that are under way.
    flushes: u32,
}

/// The state of a controller with its disks.
pub struct State {
    name: String,
    controller: Box<dyn Controller>,
    limits: Limits,
    pages: Pages,
    jobs: Slab<Job>,
    /// Numbers of jobs that have parts to be started.
    waiting: FairQueue<usize>,
    /// By the controller's slots.
    pieces: Slab<Piece>,
    /// Of each disk.
    caches: Vec<Cache>,
    health: Health,
    /// Commands that have failed, as far as they are counted.
    failures: u32,
    /// When the device is looked at next; [`NEVER_NS`] while that is not needed.
    watch_ns: u64,
    done: Vec<Done>,
}

impl State {
    pub fn new(name: String, units: usize, controller: Box<dyn Controller>, pages: Pages) -> Self {
        Self {
            name,
            limits: controller.limits(),
            controller,
            pages,
            jobs: Slab::new(),
            waiting: FairQueue::default(),
            pieces: Slab::new(),
            caches: vec![Cache { is_dirty: true, flushes: 0 }; units],
            health: Health::Works,
            failures: 0,
            watch_ns: NEVER_NS,
            done: Vec::new(),
        }
    }

    /// Takes a request in; true if the attendant is to be called.
    ///
    /// # Errors
    /// Its completion, if it is over already.
    pub fn add(&mut self, job: Job, now_ns: u64) -> Result<bool, Completion> {
        if self.health == Health::Gone {
            return Err(Completion { request: job.request, result: GONE });
        }
        let cache = &self.caches[job.unit];
        let needs_no_flush = !self.limits.has_cache || !cache.is_dirty && cache.flushes == 0;
        if job.request.op == Op::Flush && needs_no_flush {
            return Err(Completion { request: job.request, result: Ok(()) });
        }
        let user = job.user;
        let number = self.jobs.insert(job);
        self.waiting.push(user, number);
        self.start_waiting(now_ns);
        let is_unwatched = self.watch_ns == NEVER_NS;
        Ok(is_unwatched || !self.done.is_empty())
    }

    /// The device of a queue does not want one of its requests any more: if parts of it have not
    /// been started when its turn comes, they never are.
    pub fn cancel(&mut self, queue: u64, tag: u64) {
        let job =
            self.jobs.iter_mut().find(|(_, job)| job.queue == queue && job.request.tag == tag);
        if let Some((_, job)) = job
            && job.waits
        {
            job.error.get_or_insert(Error::Cancelled);
        }
    }

    /// Takes what is over, starts what waits, looks at the device if it is time. Returns when to do
    /// so again.
    pub fn attend(&mut self, now_ns: u64) -> u64 {
        if let Health::Resets(since_ns) = self.health {
            self.go_on_with_reset(since_ns, now_ns);
        } else if self.health != Health::Gone {
            self.take_completions();
            self.look(now_ns);
            self.start_waiting(now_ns);
        }
        let polls = self.limits.is_polled && !self.pieces.is_empty();
        match self.health {
            Health::Gone => NEVER_NS,
            Health::Resets(_) => now_ns + POLL_NS,
            _ if polls => now_ns + POLL_NS,
            _ => self.watch_ns,
        }
    }

    /// Tells the device that power may go; true when it is ready for that.
    pub fn shut_down(&mut self) -> bool {
        self.health == Health::Gone || self.controller.shut_down()
    }

    /// Completions that clients are to be told of.
    pub fn take_done(&mut self) -> Vec<Done> {
        mem::take(&mut self.done)
    }

    /// Starts as many parts of requests as the controller has slots for, and pages.
    fn start_waiting(&mut self, now_ns: u64) {
        if !matches!(self.health, Health::Works | Health::WasReset) {
            return;
        }
        let mut is_any = false;
        while self.pieces.len() < self.limits.depth {
            let mut ended = None;
            let Self { jobs, pieces, controller, .. } = self;
            let served = self.waiting.serve(|&mut number| {
                let job = jobs.get_mut(number)?;
                let cost = match job.error {
                    Some(_) => 0,
                    None => match job.next_piece(number, &self.limits, &mut self.pages, now_ns) {
                        Ok(piece) => {
                            let piece = piece?;
                            let slot = pieces.vacant_entry();
                            controller.start(slot.key(), &piece.command());
                            if piece.op == Op::Flush {
                                // A write that is over from now on makes it dirty again.
                                let cache = &mut self.caches[piece.unit];
                                cache.flushes += 1;
                                cache.is_dirty = false;
                            }
                            is_any = true;
                            slot.insert(piece).cost()
                        }
                        Err(error) => {
                            job.error = Some(error);
                            0
                        }
                    },
                };
                job.waits = !job.is_started();
                ended = (!job.waits && job.pieces == 0).then_some(number);
                Some(Served { cost, is_over: !job.waits })
            });
            if served.is_none() {
                break;
            }
            ended.into_iter().for_each(|number| self.end(number));
        }
        if is_any {
            self.controller.notify();
        }
    }

    /// Takes what the device says is over: each command once, so that this ends.
    fn take_completions(&mut self) {
        loop {
            match self.controller.take() {
                Ok(None) => return,
                Ok(Some(taken)) => {
                    if !self.complete(taken) {
                        self.give_up(Fault("it answers what it was not asked"));
                        return;
                    }
                    self.health = Health::Works;
                }
                Err(fault) => {
                    self.give_up(fault);
                    return;
                }
            }
        }
    }

    /// A command is over; false if there is none in that slot.
    fn complete(&mut self, Taken { slot, written_bytes, mut result }: Taken) -> bool {
        let Some(piece) = self.pieces.try_remove(slot) else { return false };
        let Some(job) = self.jobs.get_mut(piece.job) else { return false };
        match piece.op {
            Op::Read
                if result.is_ok()
                    && written_bytes.is_some_and(|bytes| bytes < piece.length_bytes) =>
            {
                result = Err(Error::Io);
            }
            Op::Read if result.is_ok() => {
                let (at, length) = (piece.offset_bytes as usize, piece.length_bytes as usize);
                let data = &mut job.request.data;
                result =
                    self.pages.empty(&piece.pages, data, at, length).map_err(|_| Error::Memory);
            }
            Op::Read => {}
            Op::Flush => {
                self.caches[piece.unit].flushes -= 1;
                self.caches[piece.unit].is_dirty |= result.is_err();
            }
            Op::Write { .. } | Op::Discard | Op::WriteZeroes => {
                self.caches[piece.unit].is_dirty = true;
            }
        }
        if result == Err(Error::Io) && self.failures < MAX_TOLD {
            self.failures += 1;
            let last = if self.failures == MAX_TOLD { "; no more of these are told" } else { "" };
            log::warn!("{}: a command failed: {:?}{last}", self.name, piece.op);
        }
        self.pages.give_back(piece.pages);
        job.pieces -= 1;
        job.error = job.error.or(result.err());
        if job.pieces == 0 && !job.waits {
            self.end(piece.job);
        }
        true
    }

    /// All of a job is over, but perhaps for a flush.
    fn end(&mut self, number: usize) {
        let Some(job) = self.jobs.get_mut(number) else { return };
        if job.begin_flush(self.limits.has_cache) {
            let user = job.user;
            self.waiting.push(user, number);
        } else {
            self.done.push(self.jobs.remove(number).end());
        }
    }

    /// Looks whether the device is well, while it has something to do.
    fn look(&mut self, now_ns: u64) {
        if self.health == Health::Gone {
            return;
        }
        if self.pieces.is_empty() && self.waiting.is_empty() {
            // One that is idle is looked at no more when the time has come.
            if now_ns >= self.watch_ns {
                self.watch_ns = NEVER_NS;
            }
            return;
        }
        if self.watch_ns != NEVER_NS && now_ns < self.watch_ns {
            return;
        }
        self.watch_ns = now_ns + WATCH_NS;
        if let Err(fault) = self.controller.check() {
            self.give_up(fault);
            return;
        }
        let is_late = |piece: &Piece| now_ns.saturating_sub(piece.started_ns) > TIMEOUT_NS;
        if self.pieces.iter().any(|(_, piece)| is_late(piece)) {
            self.bring_back(now_ns);
        }
    }

    /// A command was not answered in time.
    fn bring_back(&mut self, now_ns: u64) {
        if self.health == Health::WasReset {
            self.give_up(Fault("it does not answer, though it was reset"));
        } else {
            log::warn!("{}: no answer for {} s: it is reset", self.name, TIMEOUT_NS / NS_PER_S);
            self.controller.begin_reset();
            self.health = Health::Resets(now_ns);
        }
    }

    fn go_on_with_reset(&mut self, since_ns: u64, now_ns: u64) {
        match self.controller.finish_reset() {
            Ok(true) => {
                log::info!("{}: it works again", self.name);
                self.health = Health::WasReset;
                self.watch_ns = now_ns + WATCH_NS;
                for (slot, piece) in &mut self.pieces {
                    piece.started_ns = now_ns;
                    self.controller.start(slot, &piece.command());
                }
                self.controller.notify();
                self.start_waiting(now_ns);
            }
            Ok(false) if now_ns.saturating_sub(since_ns) <= TIMEOUT_NS => {}
            Ok(false) => self.give_up(Fault("it does not come back from its reset")),
            Err(fault) => self.give_up(fault),
        }
    }

    /// The disk is gone: all that is under way fails. Its pages are never lent again, as the device
    /// may still write to them.
    fn give_up(&mut self, fault: Fault) {
        log::error!("{}: {fault}: it is not used any more", self.name);
        self.controller.abandon();
        self.health = Health::Gone;
        self.waiting.drain().for_each(drop);
        self.pieces.clear();
        for mut job in self.jobs.drain() {
            job.error = Some(Error::Gone);
            self.done.push(job.end());
        }
    }
}
