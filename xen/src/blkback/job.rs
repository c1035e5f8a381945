//! A request on its way through the medium.

use alloc::boxed::Box;
use alloc::sync::Arc;

use block::{Completion, Data, Error, Op, Queue};

use super::entries::{Request, Segments};
use super::pages::{self, Pages};
use super::spec::{
    OP_FLUSH, OP_READ, OP_WRITE, OP_WRITE_BARRIER, SECTOR_BYTES, STATUS_ERROR, STATUS_NOT_SUPPORTED,
};
use crate::guest::BadGrant;

/// The medium as requests see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Of whole sectors.
    pub size_bytes: u64,
    pub sector_bytes: u64,
    /// The unit that is best for it.
    pub physical_sector_bytes: u64,
    pub is_read_only: bool,
    pub has_discard: bool,
}

/// A request that is being served.
pub(super) struct Job {
    /// All of its steps are for the medium that it began with, whatever is in the drive since.
    pub disk: Arc<dyn Queue>,
    /// The queue that it came by.
    pub queue: usize,
    pub id: u64,
    /// As the response repeats it.
    pub operation: u8,
    /// The steps that are left, one after the other.
    steps: &'static [Op],
    pub offset_bytes: u64,
    /// Length of its data.
    pub length_bytes: usize,
    /// The guest's pages; not while the medium has them.
    pub data: Data,
    /// Nothing else is on its way meanwhile.
    pub is_barrier: bool,
    /// The front end that asked is not connected any more.
    pub is_orphan: bool,
}

impl Job {
    /// Prepares a request, and holds its pages.
    ///
    /// # Errors
    /// The status to answer.
    pub fn new(
        disk: &Arc<dyn Queue>,
        queue: usize,
        request: &Request,
        geometry: Geometry,
        pages: &Pages,
    ) -> Result<Self, i16> {
        let operation = request.answered_operation();
        let is_indirect = matches!(request.segments, Segments::Indirect { .. });
        let mut job = Self {
            disk: Arc::clone(disk),
            queue,
            id: request.id,
            operation,
            steps: &[],
            offset_bytes: 0,
            length_bytes: 0,
            data: Data::NONE,
            is_barrier: operation == OP_WRITE_BARRIER,
            is_orphan: false,
        };
        if let Segments::Discard { flag: 0, sectors } = request.segments
            && geometry.has_discard
        {
            let length_bytes = sectors.checked_mul(SECTOR_BYTES).ok_or(STATUS_ERROR)?;
            job.offset_bytes = geometry.place(request.sector, length_bytes)?;
            (job.steps, job.data) = (&[Op::Discard], Data::Length(length_bytes));
            return Ok(job);
        }
        let steps: &[Op] = match (operation, is_indirect) {
            (OP_READ, _) => &[Op::Read],
            (OP_WRITE, _) => &[Op::WRITE],
            (OP_FLUSH, false) => &[Op::Flush, Op::WRITE],
            (OP_WRITE_BARRIER, false) => &[Op::Flush, Op::WRITE, Op::Flush],
            (_, true) => return Err(STATUS_ERROR),
            (_, false) => return Err(STATUS_NOT_SUPPORTED),
        };
        let segments = pages.segments(&request.segments).map_err(|BadGrant| STATUS_ERROR)?;
        job.steps = match (operation, segments.is_empty()) {
            (OP_READ | OP_WRITE, true) => return Err(STATUS_ERROR),
            (_, true) => &steps[..1],
            (_, false) => steps,
        };
        if job.steps.contains(&Op::WRITE) && geometry.is_read_only {
            return Err(STATUS_ERROR);
        }
        if !segments.is_empty() {
            job.length_bytes = segments.iter().map(pages::length).sum();
            job.offset_bytes = geometry.place(request.sector, job.length_bytes as u64)?;
            let granted = pages.hold(&segments, operation == OP_READ);
            job.data = Data::Guest(Box::new(granted.map_err(|BadGrant| STATUS_ERROR)?));
        }
        Ok(job)
    }

    /// Takes a step's result.
    ///
    /// # Errors
    /// The status to answer.
    pub fn finish_step(&mut self, completion: Completion) -> Result<(), i16> {
        let Completion { request, result } = completion;
        if request.op != Op::Flush {
            self.data = request.data;
        }
        result.map_err(|error| match error {
            Error::NotSupported => STATUS_NOT_SUPPORTED,
            _ => STATUS_ERROR,
        })
    }

    /// The next step; none if all are done.
    pub fn next_step(&mut self) -> Option<Op> {
        let (&step, rest) = self.steps.split_first()?;
        self.steps = rest;
        Some(step)
    }
}

impl Geometry {
    /// That of a medium, or of a drive without one.
    pub fn new(medium: Option<block::Geometry>, is_cdrom: bool) -> Self {
        let Some(medium) = medium else {
            return Self {
                size_bytes: 0,
                sector_bytes: SECTOR_BYTES,
                physical_sector_bytes: SECTOR_BYTES,
                is_read_only: true,
                has_discard: false,
            };
        };
        let sector_bytes = u64::from(medium.sector_bytes).max(SECTOR_BYTES);
        let is_read_only = is_cdrom || medium.is_read_only;
        Self {
            size_bytes: medium.size_bytes - medium.size_bytes % sector_bytes,
            sector_bytes,
            physical_sector_bytes: u64::from(medium.physical_sector_bytes).max(sector_bytes),
            is_read_only,
            has_discard: medium.has_discard && !is_read_only,
        }
    }

    /// Where on the medium a range of sectors is, in bytes.
    ///
    /// # Errors
    /// The status to answer if it is not wholly there, or not made of whole sectors.
    fn place(self, sector: u64, length_bytes: u64) -> Result<u64, i16> {
        let offset_bytes = sector.checked_mul(SECTOR_BYTES).ok_or(STATUS_ERROR)?;
        let end = offset_bytes.checked_add(length_bytes).ok_or(STATUS_ERROR)?;
        let is_whole = (offset_bytes | length_bytes).is_multiple_of(self.sector_bytes);
        if is_whole && end <= self.size_bytes { Ok(offset_bytes) } else { Err(STATUS_ERROR) }
    }
}
