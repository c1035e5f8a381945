//! INS and OUTS: many elements between a port and memory in one step. Permission to use the port was checked by the
//! CPU before it exited.

use super::alu::Width;
use super::string::BUFFER_BYTES;
use super::string_form::StringInstruction;
use super::{EmulatedCpu, Flow, MemoryUnit, Step};
use crate::paging::AccessKind;
use crate::registers::Gpr;

impl<C: EmulatedCpu> MemoryUnit<'_, C> {
    pub(super) fn ins(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (to, width) = (form.destination(), form.width);
        let port = self.port();
        let mut batch = self.batch(form);
        while let Some(wanted) = batch.next() {
            // Nothing is taken from the port before it is known to have a place.
            let run = self.elements(&to, width, wanted, AccessKind::Write)?;
            let mut buffer = [0xff; BUFFER_BYTES];
            let data = buffer.get_mut(..run.elements as usize * width.bytes() as usize).unwrap_or_default();
            let filled = self.cpu.port_in(port, width.bytes(), data);
            let elements = elements(filled, width, run.elements);
            if run.elements == 1 {
                self.write_place_bytes(run.place, data);
            } else {
                let data = data.get(..elements as usize * width.bytes() as usize).unwrap_or_default();
                self.cpu.write_gpa_run(run.place.gpa, width.bytes(), data);
            }
            self.advance(&to, width, elements);
            self.count_down(&mut batch, elements);
        }
        Ok(batch.flow())
    }

    pub(super) fn outs(&mut self, form: &StringInstruction) -> Step<Flow> {
        let (from, width) = (form.source(), form.width);
        let port = self.port();
        let mut batch = self.batch(form);
        while let Some(wanted) = batch.next() {
            let run = self.elements(&from, width, wanted, AccessKind::Read)?;
            let mut buffer = [0; BUFFER_BYTES];
            let data = buffer.get_mut(..run.elements as usize * width.bytes() as usize).unwrap_or_default();
            if run.elements == 1 {
                self.read_place_bytes(run.place, data);
            } else {
                self.cpu.read_gpa_run(run.place.gpa, width.bytes(), data);
            }
            let taken = self.cpu.port_out(port, width.bytes(), data);
            let elements = elements(taken, width, run.elements);
            self.advance(&from, width, elements);
            self.count_down(&mut batch, elements);
        }
        Ok(batch.flow())
    }

    /// DX.
    fn port(&self) -> u16 {
        self.cpu.gprs().get(Gpr::Rdx) as u16
    }
}

/// Whole elements in what a port filled or took: at least one, so that the instruction comes to an end.
fn elements(bytes: usize, width: Width, at_most: u64) -> u64 {
    (bytes / usize::from(width.bytes())).clamp(1, at_most.max(1) as usize) as u64
}
