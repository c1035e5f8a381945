//! `event_channel_op` (event_channel.h). The structures are the same in both widths.

use super::{done, read, write};
use crate::errno::Errno;
use crate::events::PortStatus;
use crate::machine::Caller;
use crate::platform::PvPlatform;

impl PvPlatform {
    pub(super) fn event_channel_op(
        &self,
        caller: &mut dyn Caller,
        command: u64,
        linear: u64,
    ) -> Result<i64, Errno> {
        match command {
            0 => {
                let [domain, remote_port, _]: [u32; 3] = read(caller, linear)?;
                if domain as u16 != crate::events::BACK_END_DOMAIN {
                    return Err(Errno::Srch);
                }
                let port =
                    self.with_ports(|ports, words| ports.bind_interdomain(words, remote_port))?;
                done(write(caller, linear.wrapping_add(8), &port))
            }
            1 => {
                let [virq, vcpu, _]: [u32; 3] = read(caller, linear)?;
                crate::events::check_virq(virq, vcpu)?;
                let vcpu = self.vcpu(vcpu)?;
                let port = self.with_ports(|ports, words| ports.bind_virq(words, virq, vcpu))?;
                done(write(caller, linear.wrapping_add(8), &port))
            }
            3 => {
                let port: u32 = read(caller, linear)?;
                done(self.with_ports(|ports, words| ports.close(words, port)))
            }
            4 => {
                let port: u32 = read(caller, linear)?;
                done(self.send(port))
            }
            5 => self.status(caller, linear),
            6 => {
                let [domain, remote]: [u16; 2] = read(caller, linear)?;
                self.own_domain(domain)?;
                let port = self.with_ports(|ports, words| ports.alloc_unbound(words, remote))?;
                done(write(caller, linear.wrapping_add(4), &port))
            }
            7 => {
                let vcpu: u32 = read(caller, linear)?;
                let vcpu = self.vcpu(vcpu)?;
                let port = self.with_ports(|ports, words| ports.bind_ipi(words, vcpu))?;
                done(write(caller, linear.wrapping_add(4), &port))
            }
            8 => {
                let [port, vcpu]: [u32; 2] = read(caller, linear)?;
                let vcpu = self.vcpu(vcpu)?;
                done(self.with_ports(|ports, _| ports.bind_vcpu(port, vcpu)))
            }
            9 => {
                let port: u32 = read(caller, linear)?;
                done(self.with_ports(|ports, words| ports.unmask(words, port)))
            }
            10 => {
                self.own_domain(read(caller, linear)?)?;
                self.with_ports(|ports, words| ports.reset(words));
                Ok(0)
            }
            _ => Err(Errno::NoSys),
        }
    }

    fn status(&self, caller: &mut dyn Caller, linear: u64) -> Result<i64, Errno> {
        // Domain and padding, port; status, virtual CPU, and two words that depend on it.
        let [domain, port]: [u32; 2] = read(caller, linear)?;
        self.own_domain(domain as u16)?;
        let (status, vcpu) = self.with_ports(|ports, _| ports.status(port))?;
        let (number, first, second) = match status {
            PortStatus::Closed => (0, 0, 0),
            PortStatus::Unbound { domain } => (1, domain.into(), 0),
            PortStatus::Interdomain { domain, port } => (2, domain.into(), port),
            PortStatus::Virq(virq) => (4, virq, 0),
            PortStatus::Ipi => (5, 0, 0),
        };
        let words: [u32; 4] = [number, vcpu as u32, first, second];
        done(write(caller, linear.wrapping_add(8), &words))
    }
}
