//! The bus-master transfers of a channel.

use super::busmaster::Copied;
use super::channel::{CHUNK_BYTES, Channel, Extent, Job};
use super::spec::{Error, Status};
use block::Op;

impl Channel {
    pub(super) fn want_dma(&mut self) {
        self.state.wants_dma = true;
        self.task().status = Status::BUSY.with_data_request(true);
        self.run_dma();
    }

    /// The bus master was started, or the device has got somewhere: moves on with the transfer.
    pub(super) fn run_dma(&mut self) {
        if !self.state.wants_dma || !self.state.bus_master.status.active() {
            return;
        }
        match self.state.job {
            Job::Reply => self.offer_dma(),
            Job::Read { extent, raw } => self.fetch(extent, raw),
            Job::Write { extent, .. } if extent.left_bytes == 0 => self.finish_dma(),
            Job::Write { extent, is_durable } => self.take_dma(extent, is_durable),
            Job::Idle | Job::Packet | Job::Flush => {}
        }
    }

    pub(super) fn offer_dma(&mut self) {
        let state = &mut self.state;
        if !state.bus_master.status.active() {
            return;
        }
        let copied = state.bus_master.fill_memory(&*self.memory, &state.buffer);
        match (copied, state.job) {
            (Copied::All, Job::Read { extent, raw }) if extent.left_bytes > 0 => {
                self.fetch(extent, raw)
            }
            (Copied::All, _) => self.finish_dma(),
            (failed, _) => self.break_dma(failed),
        }
    }

    fn take_dma(&mut self, extent: Extent, is_durable: bool) {
        let state = &mut self.state;
        state.buffer.resize(extent.left_bytes.min(CHUNK_BYTES.into()) as usize, 0);
        match state.bus_master.drain_memory(&*self.memory, &mut state.buffer) {
            Copied::All => self.request(Op::Write { is_durable }, extent.offset_bytes),
            failed => self.break_dma(failed),
        }
    }

    fn finish_dma(&mut self) {
        self.state.wants_dma = false;
        self.state.bus_master.finish();
        self.succeed();
    }

    fn break_dma(&mut self, reason: Copied) {
        self.state.wants_dma = false;
        self.state.bus_master.stop(reason == Copied::Fault);
        if reason == Copied::Fault {
            self.state.bus_master.status.set_interrupt(true);
            self.abort();
        } else {
            // Too short a table: the device would wait for ever. The host sees an inactive engine
            // and no interrupt.
            self.state.job = Job::Idle;
            self.task().status = Status::READY;
        }
    }

    pub fn write_bus_master(&mut self, offset: u64, value: u8) {
        let was_active = self.state.bus_master.status.active();
        if self.state.bus_master.write(offset, value) {
            self.run_dma();
        } else if was_active && !self.state.bus_master.status.active() && self.state.wants_dma {
            self.stop_dma();
        }
    }

    /// The host stopped the engine in the middle of a transfer.
    fn stop_dma(&mut self) {
        self.cancel();
        self.task().fail(Error::new().with_aborted(true));
    }
}
