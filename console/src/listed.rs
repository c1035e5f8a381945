//! Lists of guests: facts of each that need not be asked for, in the columns of Xen's `xl`.

use super::guests::Guest;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use control::cards::CardFacts;
use control::disks::DiskFacts;
use control::guest::GuestFacts;
use control::scheduling::{Share, VcpuFacts, VcpuState, guest_state};
use control::state::GuestState;
use core::fmt::Write;

/// The least time that a virtual CPU is left on a CPU: what `xl` calls the rate limit.
const RATE_LIMIT_US: u32 = 1000;

/// The columns of a list of guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Size, state and time.
    Guests,
    /// The time since they began.
    Uptime,
    /// Their virtual CPUs.
    Vcpus,
    /// Their shares of the machine, with the machine's own parameters.
    Shares,
    /// A guest's share of the machine.
    Share,
    /// The machine's own parameters alone.
    Pool,
}

/// A guest in a list.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its size.
    pub facts: GuestFacts,
    /// Its state, of all its virtual CPUs together.
    pub state: GuestState,
    /// More, while it runs.
    pub running: Option<Running>,
}

/// Facts of a guest that runs.
#[derive(Debug)]
pub struct Running {
    /// Its share of the machine.
    pub share: Share,
    /// Its virtual CPUs.
    pub vcpus: Vec<VcpuFacts>,
    /// Guest time.
    pub guest_time_ns: u64,
    /// The machine's CPUs.
    pub cpus: usize,
}

impl Listed {
    /// The guest as it is now.
    pub fn new(guest: &Guest) -> Self {
        let running = guest.ports.as_ref().map(|ports| Running {
            share: ports.scheduling.share(),
            vcpus: ports.scheduling.vcpus(),
            guest_time_ns: ports.scheduling.guest_time_ns(),
            cpus: ports.scheduling.cpus(),
        });
        let is_paused = guest.ports.as_ref().is_some_and(|ports| ports.scheduling.is_paused());
        let state = running.as_ref().map(|running| guest_state(is_paused, &running.vcpus));
        Self {
            number: guest.number(),
            name: guest.name().into(),
            facts: guest.facts_now(),
            state: state.unwrap_or(GuestState::Restarting),
            running,
        }
    }

    /// Guest time.
    pub fn guest_time_ns(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.guest_time_ns)
    }

    /// Time that CPUs spent on it.
    pub fn cpu_time_ns(&self) -> u64 {
        self.vcpus().map(|vcpu| vcpu.time_ns).sum()
    }

    /// Its virtual CPUs, while it runs.
    pub fn vcpus(&self) -> impl Iterator<Item = &VcpuFacts> {
        self.running.iter().flat_map(|running| &running.vcpus)
    }
}

impl Columns {
    /// The list as text.
    pub fn show(self, guests: &[Listed]) -> String {
        let mut text = match self {
            Self::Guests => {
                format!("{:40} {:>5} {:>5} VCPUs\tState\tTime(s)\n", "Name", "ID", "Mem")
            }
            Self::Uptime => format!("{:33} {:>4} Uptime\n", "Name", "ID"),
            Self::Vcpus => format!(
                "{:32} {:>5} {:>5} {:>5} {:>5} {:>9} Affinity (Hard / Soft)\n",
                "Name", "ID", "VCPU", "CPU", "State", "Time(s)"
            ),
            Self::Shares | Self::Pool => format!("Cpupool Pool-0: ratelimit={RATE_LIMIT_US}us\n"),
            Self::Share => String::new(),
        };
        if matches!(self, Self::Shares | Self::Share) {
            text += &format!("{:33} {:>4} {:>6} {:>4}\n", "Name", "ID", "Weight", "Cap");
        }
        for guest in guests {
            // Writing to a string does not fail.
            let _ = self.row(&mut text, guest);
        }
        text
    }

    fn row(self, text: &mut String, guest: &Listed) -> core::fmt::Result {
        let Listed { number, name, facts, state, running } = guest;
        match (self, running) {
            (Self::Guests, _) => {
                let (vcpus, letters) = (facts.vcpus, state.letters());
                let (memory_mib, time) = (facts.memory_mib, seconds(guest.cpu_time_ns()));
                writeln!(
                    text,
                    "{name:40} {number:5} {memory_mib:5} {vcpus:5}     {letters}  {time:>8}"
                )
            }
            (Self::Uptime, _) => {
                let time = uptime(guest.guest_time_ns());
                writeln!(text, "{name:33} {number:4} {time}")
            }
            (Self::Vcpus, Some(running)) => {
                for (index, vcpu) in running.vcpus.iter().enumerate() {
                    let cpu = match vcpu.state {
                        VcpuState::Offline => "-".into(),
                        _ => vcpu.cpu.to_string(),
                    };
                    let (letters, time) = (vcpu.state.letters(), seconds(vcpu.time_ns));
                    let [hard, soft] =
                        [&vcpu.hard, &vcpu.soft].map(|set| ranges(set, running.cpus));
                    writeln!(
                        text,
                        "{name:32} {number:5} {index:5} {cpu:>5} {letters:>5} {time:>9}  {hard} / {soft}"
                    )?;
                }
                Ok(())
            }
            (Self::Shares | Self::Share, Some(Running { share, .. })) => {
                let Share { weight, cap_percent } = share;
                writeln!(text, "{name:33} {number:4} {weight:6} {cap_percent:4}")
            }
            (Self::Pool, _) | (Self::Vcpus | Self::Shares | Self::Share, None) => Ok(()),
        }
    }
}

/// Network cards, in the columns of `xl network-list`; those behind, of frames that have passed and
/// those that have not, are Bulkhead's own.
pub fn cards(cards: &[CardFacts]) -> String {
    let mut text = format!(
        "{:3} {:2} {:17} {:6} {:5} {:6} {:>5}/{:5} {:30}",
        "Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "tx-", "rx-ring-ref", "BE-path"
    );
    text += "     rx-bytes  rx-pkts rx-drop     tx-bytes  tx-pkts tx-drop\n";
    let or_none = |number: Option<u32>| number.map_or(-1, i64::from);
    for card in cards {
        let CardFacts { id, mac, state, back_end, sent, received, .. } = card;
        let port = or_none(card.event_channel);
        let (tx, rx) = (or_none(card.tx_ring_ref), or_none(card.rx_ring_ref));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{id:<3} {:<2} {mac:17}{id:>6} {state:>5} {port:>6} {tx:>5}/{rx:<11} {back_end:30}",
            0
        );
        for traffic in [received, sent] {
            let (bytes, frames, dropped) = (traffic.bytes, traffic.frames, traffic.dropped);
            let _ = write!(text, " {bytes:>12} {frames:>8} {dropped:>7}");
        }
        text.push('\n');
    }
    text
}

/// Disks, in the columns of `xl block-list`.
pub fn disks(disks: &[DiskFacts]) -> String {
    let mut text = format!(
        "{:5} {:3} {:6} {:5} {:6} {:8} {:30}\n",
        "Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"
    );
    // As xl writes what is not there.
    let or_none = |number: Option<u32>| number.map_or(-1, i64::from);
    for disk in disks {
        let DiskFacts { guest, id, state, back_end, .. } = disk;
        let (port, ring) = (or_none(disk.event_channel), or_none(disk.ring_ref));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{id:<5} {:<3} {guest:<6} {state:<5} {port:<6} {ring:<8} {back_end:30}",
            0
        );
    }
    text
}

/// Seconds, with tenths.
fn seconds(ns: u64) -> String {
    let tenths = ns / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A time since a beginning, as `xl uptime` shows it.
fn uptime(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let days = match s / 86_400 {
        0 => String::new(),
        1 => "1 day, ".into(),
        days => format!("{days} days, "),
    };
    let (hours, minutes, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
    format!("{days}{hours:2}:{minutes:02}:{s:02}")
}

/// Some of `count` CPUs, in ascending order, as `xl` writes an affinity.
fn ranges(cpus: &[usize], count: usize) -> String {
    if cpus.is_empty() {
        return "none".into();
    }
    if cpus.len() == count {
        return "all".into();
    }
    let mut text = String::new();
    for run in cpus.chunk_by(|cpu, next| cpu + 1 == *next) {
        let comma = if text.is_empty() { "" } else { "," };
        match run {
            [first, .., last] => text += &format!("{comma}{first}-{last}"),
            [only] => text += &format!("{comma}{only}"),
            [] => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_are_ranges() {
        for (cpus, text) in [
            (&[0, 1, 2, 3][..], "all"),
            (&[], "none"),
            (&[1], "1"),
            (&[0, 1, 3], "0-1,3"),
            (&[0, 2, 3], "0,2-3"),
        ] {
            assert_eq!(ranges(cpus, 4), text);
        }
    }
}
