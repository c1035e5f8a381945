//! A request under way, and its parts.

use alloc::sync::Weak;

use block::{Client, Completion, Error, Op, Request, User};

use super::controller::{Command, Limits, Unit};
use super::pages::{MAX_PAGES, PageList, Pages};
use crate::dma::PAGE_BYTES;

/// The least that a command is charged, whatever it does.
const LEAST_COST: u64 = PAGE_BYTES as u64;

/// A request.
pub struct Job {
    pub request: Request,
    pub client: Weak<dyn Client>,
    pub user: User,
    /// The disk that it is for.
    pub unit: Unit,
    /// The number of the queue that it came by.
    pub queue: u64,
    /// Parts of it have been started up to here; whole if that is its length.
    started_bytes: u64,
    /// It is to be followed by a flush, or is one.
    stage: Stage,
    /// Commands of it that are under way.
    pub pieces: u32,
    /// It waits for its turn.
    pub waits: bool,
    /// Why it has failed.
    pub error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Data,
    Flush,
}

/// A part of a request, as a command that is under way.
#[derive(Debug)]
pub struct Piece {
    /// The number of its job.
    pub job: usize,
    /// The disk.
    pub unit: Unit,
    /// The operation of the command.
    pub op: Op,
    /// Where in the request's data.
    pub offset_bytes: u64,
    /// Where on the disk.
    disk_offset_bytes: u64,
    pub length_bytes: u64,
    pub pages: PageList,
    /// When it was started, in host time.
    pub started_ns: u64,
}

impl Piece {
    /// As the controller takes it.
    pub fn command(&self) -> Command<'_> {
        Command {
            unit: self.unit,
            op: self.op,
            offset_bytes: self.disk_offset_bytes,
            length_bytes: self.length_bytes,
            pages: &self.pages,
        }
    }

    /// Its part of the disk's time, in bytes. Commands without data count as small ones.
    pub fn cost(&self) -> u64 {
        (self.pages.len() as u64 * PAGE_BYTES as u64).max(LEAST_COST)
    }
}

impl Job {
    /// A request of a queue.
    pub fn new(
        request: Request,
        client: Weak<dyn Client>,
        user: User,
        unit: Unit,
        queue: u64,
    ) -> Self {
        let stage = if request.op == Op::Flush { Stage::Flush } else { Stage::Data };
        Self {
            request,
            client,
            user,
            unit,
            queue,
            started_bytes: 0,
            stage,
            pieces: 0,
            waits: true,
            error: None,
        }
    }

    /// The length of the range that it is about.
    fn length_bytes(&self) -> u64 {
        if self.stage == Stage::Flush { 0 } else { self.request.data.length_bytes() }
    }

    /// True if no part of it is left to be started.
    pub fn is_started(&self) -> bool {
        self.error.is_some() || self.pieces > 0 && self.started_bytes >= self.length_bytes()
    }

    /// Its next part, with its data in pages that it takes; none if there are too few pages now.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn next_piece(
        &mut self,
        number: usize,
        limits: &Limits,
        pages: &mut Pages,
        now_ns: u64,
    ) -> Result<Option<Piece>, Error> {
        let rest = self.length_bytes() - self.started_bytes;
        let max_data_bytes = (limits.max_pages.min(MAX_PAGES) * PAGE_BYTES) as u64;
        let data_bytes = rest.min(max_data_bytes);
        let (op, length_bytes, list) = match (self.stage, self.request.op) {
            (Stage::Flush, _) => (Op::Flush, 0, PageList::new()),
            (Stage::Data, Op::Discard) => {
                let max_bytes = limits.max_discard_bytes.unwrap_or(rest);
                (Op::Discard, rest.min(max_bytes), PageList::new())
            }
            (Stage::Data, Op::WriteZeroes) => match limits.max_zeroes_bytes {
                Some(max_bytes) => (Op::WriteZeroes, rest.min(max_bytes), PageList::new()),
                None => (Op::WRITE, data_bytes, pages.zeroes(Pages::count_for(data_bytes))),
            },
            (Stage::Data, op) => {
                let Some(list) = pages.take(Pages::count_for(data_bytes)) else { return Ok(None) };
                (op, data_bytes, list)
            }
        };
        let offset_bytes = self.started_bytes;
        // The geometry has been checked: neither passes the end of the disk or of the data.
        let disk_offset_bytes = self.request.offset_bytes + offset_bytes;
        if matches!(self.request.op, Op::Write { .. }) && op != Op::Flush {
            let (at, length) = (offset_bytes as usize, length_bytes as usize);
            if pages.fill(&list, &self.request.data, at, length).is_err() {
                pages.give_back(list);
                return Err(Error::Memory);
            }
        }
        self.started_bytes += length_bytes;
        self.pieces += 1;
        Ok(Some(Piece {
            job: number,
            unit: self.unit,
            op,
            offset_bytes,
            disk_offset_bytes,
            length_bytes,
            pages: list,
            started_ns: now_ns,
        }))
    }

    /// All its parts are over: true if a flush is to follow.
    pub fn begin_flush(&mut self, has_cache: bool) -> bool {
        let is_durable = self.request.op == Op::Write { is_durable: true };
        let follows = has_cache && is_durable && self.stage == Stage::Data && self.error.is_none();
        if follows {
            (self.stage, self.started_bytes, self.waits) = (Stage::Flush, 0, true);
        }
        follows
    }

    /// It is over.
    pub fn end(self) -> (Weak<dyn Client>, Completion) {
        let result = self.error.map_or(Ok(()), Err);
        (self.client, Completion { request: self.request, result })
    }
}
