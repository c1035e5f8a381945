//! INS and OUTS: many elements between a port and memory in one step. Permission to use the port
//! was checked by the CPU before it exited.

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
        while let Some(wanted) = self.next_part(&mut batch) {
            // Nothing is taken from the port before it is known to have a place.
            let run = self.elements(&to, width, wanted, AccessKind::Write)?;
            let mut buffer = [0xff; BUFFER_BYTES];
            let data = buffer
                .get_mut(..run.elements as usize * width.bytes() as usize)
                .unwrap_or_default();
            let elements = self.elements_in(port, width, data);
            self.watch_port(port, width);
            if run.elements == 1 {
                self.write_place_bytes(run.place, data);
            } else {
                let data =
                    data.get(..elements as usize * width.bytes() as usize).unwrap_or_default();
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
        while let Some(wanted) = self.next_part(&mut batch) {
            let run = self.elements(&from, width, wanted, AccessKind::Read)?;
            let mut buffer = [0; BUFFER_BYTES];
            let data = buffer
                .get_mut(..run.elements as usize * width.bytes() as usize)
                .unwrap_or_default();
            if run.elements == 1 {
                self.read_place_bytes(run.place, data);
            } else {
                self.cpu.read_gpa_run(run.place.gpa, width.bytes(), data);
            }
            let elements = self.elements_out(port, width, data);
            self.watch_port(port, width);
            self.advance(&from, width, elements);
            self.count_down(&mut batch, elements);
        }
        Ok(batch.flow())
    }

    /// Fills `data` from a port until there is no time left; returns the elements filled.
    fn elements_in(&mut self, port: u16, width: Width, data: &mut [u8]) -> u64 {
        let size = usize::from(width.bytes());
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let filled = self.cpu.port_in(port, width.bytes(), rest);
            done += whole_elements(filled, size, rest.len());
            if done < data.len() && self.cpu.must_yield() {
                break;
            }
        }
        (done / size) as u64
    }

    /// The same for bytes on their way to a port.
    fn elements_out(&mut self, port: u16, width: Width, data: &[u8]) -> u64 {
        let size = usize::from(width.bytes());
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let taken = self.cpu.port_out(port, width.bytes(), rest);
            done += whole_elements(taken, size, rest.len());
            if done < data.len() && self.cpu.must_yield() {
                break;
            }
        }
        (done / size) as u64
    }

    /// Notes the breakpoints that an access to a port meets.
    fn watch_port(&mut self, port: u16, width: Width) {
        if self.is_watched
            && let Some(breakpoints) = self.cpu.breakpoints()
        {
            self.met |= breakpoints.on_port(port, width.bytes());
        }
    }

    /// DX.
    fn port(&self) -> u16 {
        self.cpu.gprs().get(Gpr::Rdx) as u16
    }
}

/// The bytes of the whole elements in what a port filled or took: at least one, so that the
/// instruction comes to an end.
fn whole_elements(bytes: usize, size: usize, at_most: usize) -> usize {
    (bytes / size * size).clamp(size, at_most.max(size))
}
