//! A domain: a guest from its configuration to its end, through all its restarts.

use super::attendant::Attendant;
use super::cpus::Cpus;
use super::disk::{MemoryDisk, ModuleImage};
use super::pc::{Pc, PcParts};
use super::restart::await_next_life;
use crate::backend::Backend;
use crate::host::owner::{GuestId, Owner};
use crate::host::platform::{BootInputs, Platform};
use crate::scheduler::DomainParams;
use crate::vcpu::{Vcpu, VcpuWires};
use crate::vm::Stop;
use crate::vm::cpuid::CpuidTable;
use crate::vm::memory::FrameMemory;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use config::guest::Action;
use config::{Disk, DiskKind, GuestConfig};
use control::budget::Budget;
use control::guest::{GuestFacts, GuestPorts, OpenPorts};
use control::mailbox::Mailbox;
use devices::block::BlockBackend;
use devices::ide::Drive;
use devices::rtc::Battery;
use firmware::{Firmware, fw_cfg_files, option_rom};

/// The most heap that a guest's devices, tables and virtual CPU take when it starts.
const START_HEAP_BYTES: u64 = 4 << 20;
/// Beside a guest's RAM and video memory: page tables, pictures, the hypervisor's heap.
const RESERVE_MIB: u64 = 16;

/// The part of `free_bytes` that can be the guest's RAM.
pub const fn usable_mib(free_bytes: u64, config: &GuestConfig) -> u64 {
    (free_bytes >> 20).saturating_sub(RESERVE_MIB + config.video_memory_mib as u64)
}

/// All that stays when a guest restarts: configuration and disks; after a reset, its battery and
/// its RAM too.
pub struct Domain<'a> {
    platform: &'static dyn Platform,
    guest: GuestId,
    inputs: &'a BootInputs,
    config: GuestConfig,
    mailbox: Arc<Mailbox>,
    drives: [Option<Drive>; 4],
}

/// How a guest's life ended, and what it leaves to the next if that is a reset.
struct Life {
    stop: Stop,
    legacy: Legacy,
}

/// The parts of a PC that outlast a reset.
struct Legacy {
    battery: Unplugged,
    /// Not if the power went off.
    ram: Option<Arc<FrameMemory>>,
}

/// The battery between two lives.
struct Unplugged {
    battery: Battery,
    at_tsc: u64,
}

impl<'a> Domain<'a> {
    /// A domain with its disks in place.
    ///
    /// # Errors
    /// A line that names the disk and what is wrong with it.
    pub fn new(
        platform: &'static dyn Platform,
        inputs: &'a BootInputs,
        config: GuestConfig,
    ) -> Result<Self, String> {
        let mut drives = [const { None }; 4];
        for disk in &config.disks {
            let Some((channel, unit)) = disk.device.ide_position() else {
                log::warn!(
                    "{}: disk {:?}: only the first four drives are IDE; left out",
                    config.name,
                    disk.target
                );
                continue;
            };
            drives[usize::from(channel * 2 + unit)] =
                Some(drive(platform, inputs, &config.name, disk)?);
        }
        let mailbox = Arc::new(Mailbox::new(1, &config.name));
        Ok(Self { platform, guest: GuestId::next(), inputs, config, mailbox, drives })
    }

    /// Runs the guest on this CPU until it is destroyed. The caller keeps interrupts off.
    ///
    /// # Errors
    /// A line that says why it could not be started.
    pub fn run<B: Backend>(
        &self,
        cpu: &B::Cpu,
        cpus: &'static Cpus<B>,
        attendant: &mut Attendant,
    ) -> Result<(), String> {
        let facts = GuestFacts { memory_mib: self.config.memory_mib, vcpus: self.config.vcpus };
        attendant.consoles.introduce(self.mailbox.clone(), facts);
        let ended = self.live::<B>(cpu, cpus, attendant);
        self.mailbox.close();
        ended
    }

    /// All lives of the guest.
    fn live<B: Backend>(
        &self,
        cpu: &B::Cpu,
        cpus: &'static Cpus<B>,
        attendant: &mut Attendant,
    ) -> Result<(), String> {
        let mut legacy = None;
        loop {
            let started_tsc = self.platform.tsc();
            let life = self.run_once::<B>(cpu, cpus, attendant, legacy.take())?;
            let (what, action) = match life.stop {
                Stop::PowerOff => ("powered off", self.config.on_poweroff),
                Stop::Reset => ("reset", self.config.on_reboot),
                Stop::PowerCycle => ("power cycled", self.config.on_reboot),
                Stop::Crash => ("crashed", self.config.on_crash),
            };
            log::info!(
                "{}: {what}: {action:?}; {} KiB free",
                self.config.name,
                self.platform.free_bytes() >> 10
            );
            match action {
                Action::Restart | Action::RenameRestart => {
                    if !await_next_life(self.platform, attendant, &self.mailbox, started_tsc) {
                        log::info!("{}: destroyed", self.config.name);
                        return Ok(());
                    }
                }
                Action::Destroy | Action::Preserve => return Ok(()),
            }
            legacy = match life.stop {
                Stop::Reset => Some(life.legacy),
                Stop::PowerCycle => Some(Legacy { ram: None, ..life.legacy }),
                Stop::PowerOff | Stop::Crash => None,
            };
        }
    }

    /// Runs the guest from reset to its end, with what its life before left to it.
    fn run_once<B: Backend>(
        &self,
        cpu: &B::Cpu,
        cpus: &'static Cpus<B>,
        attendant: &mut Attendant,
        legacy: Option<Legacy>,
    ) -> Result<Life, String> {
        let name = &self.config.name;
        let starting = Budget::reserve(self.platform, START_HEAP_BYTES);
        let starting = starting
            .map_err(|out_of_heap| format!("{name}: {out_of_heap}: give the guest less memory"))?;
        let ports = OpenPorts::new(name);
        let (battery, ram) = match legacy {
            Some(Legacy { battery: Unplugged { battery, at_tsc }, ram }) => {
                (battery.after_ns(self.ns_since(at_tsc)), ram)
            }
            None => (Battery::new(self.unix_time_s()), None),
        };
        let pc = self.build::<B>(cpu, &ports, battery, ram)?;
        let (rtc, ram) = (pc.rtc.clone(), pc.vm.space.ram().clone());
        let first = pc.vcpus.first().ok_or_else(|| format!("{name}: vcpus: none to run"))?;
        self.mailbox.connect(first.kick.clone());
        attendant.consoles.attach(
            self.mailbox.number(),
            GuestPorts {
                uart: pc.com1.clone(),
                vga: pc.vga.clone(),
                i8042: pc.i8042.clone(),
                output: ports.output.clone(),
            },
        );
        let timekeeper = cpus.timekeeper(pc.vcpus.len());
        let make = |(index, wires): (usize, VcpuWires)| {
            let vm = pc.vm.clone();
            let vcpu = Vcpu::<B>::new(index, self.platform, cpu, vm, wires.clone(), timekeeper);
            Ok((vcpu.map_err(|reason| format!("{name}: {}", reason.0))?, wires))
        };
        let vcpus = pc.vcpus.into_iter().enumerate().map(make).collect::<Result<_, String>>()?;
        let entered_us = self.ns_since(self.platform.boot_tsc()) / 1000;
        log::info!("{name}: first instruction {entered_us} us after the image was entered");
        drop(starting);
        let params = DomainParams {
            weight: self.config.cpu_weight,
            cap_percent: self.config.cpu_cap_percent,
        };
        let stop = cpus.run_guest(cpu, attendant, &pc.vm, params, vcpus);
        let stop = stop.ok_or_else(|| format!("{name}: the scheduler has no room for it"))?;
        attendant.consoles.detach(self.mailbox.number());
        let battery = Unplugged { battery: rtc.battery(), at_tsc: self.platform.tsc() };
        Ok(Life { stop, legacy: Legacy { battery, ram: Some(ram) } })
    }

    /// The time of a new battery's clock.
    fn unix_time_s(&self) -> u64 {
        let uptime_s = self.ns_since(self.platform.boot_tsc()) / 1_000_000_000;
        (self.platform.boot_time_unix_s() + uptime_s)
            .saturating_add_signed(self.config.rtc_offset_s)
    }

    fn ns_since(&self, tsc: u64) -> u64 {
        let ticks = u128::from(self.platform.tsc().saturating_sub(tsc));
        u64::try_from(ticks * 1_000_000_000 / u128::from(self.platform.tsc_hz().max(1)))
            .unwrap_or(u64::MAX)
    }

    /// The drives by their places.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) const fn drives(&self) -> &[Option<Drive>; 4] {
        &self.drives
    }

    /// Builds the PC of one life.
    ///
    /// # Errors
    /// A line that says why it cannot be built.
    pub(super) fn build<B: Backend>(
        &self,
        cpu: &B::Cpu,
        ports: &OpenPorts,
        battery: Battery,
        ram: Option<Arc<FrameMemory>>,
    ) -> Result<Pc, String> {
        let name = &self.config.name;
        let wanted = self.config.memory_mib;
        let usable = usable_mib(self.platform.free_bytes(), &self.config);
        let too_much =
            || format!("{name}: memory={wanted}: only {usable} MiB are free: give the guest less");
        // Memory that a life leaves to the next is not free, and fits.
        if ram.is_none() && wanted > usable {
            return Err(too_much());
        }
        let firmware = Firmware::SeaBios(self.inputs.bios);
        let placements =
            firmware.placements().map_err(|error| format!("{name}: firmware: {error:?}"))?;
        let apic_ids = (0..self.config.vcpus).collect();
        let mut description = self.config.machine_description(self.made_up_uuid(), apic_ids);
        description.cpu_mhz = u16::try_from(self.platform.tsc_hz() / 1_000_000).unwrap_or(0);
        description.boot_rom = option_rom::with_checksum(self.inputs.boot_rom);
        let ram = match ram {
            Some(ram) => ram,
            None => {
                let owner = Owner::Guest(self.guest);
                let ram = FrameMemory::new(self.platform, owner, description.ram.bytes() as usize);
                Arc::new(ram.ok_or_else(too_much)?)
            }
        };
        let mut paging = B::nested_paging(cpu);
        if self.platform.display().is_none() {
            // The screen is not looked at all the time: video memory is mapped in large pages.
            paging.tracking = None;
        }
        let parts = PcParts {
            platform: self.platform,
            guest: self.guest,
            config: &self.config,
            mailbox: self.mailbox.clone(),
            files: fw_cfg_files(&description),
            description,
            battery,
            ram,
            rom: None,
            drives: self.drives.clone(),
            firmware: placements,
            vga_bios: self.inputs.vga_bios,
            com1: ports.output.clone(),
            // Firmware that finds the port takes an exit for each byte.
            debug: log::log_enabled!(log::Level::Debug).then(|| ports.debug.clone()),
            cpuid: CpuidTable::new(
                raw_cpuid::native_cpuid::cpuid_count,
                self.config.vcpus,
                B::withheld(cpu),
            )
            .with_speculation(B::defences(cpu).guest),
            paging,
        };
        Pc::new(parts).map_err(|_| too_much())
    }

    /// A UUID for a guest whose configuration has none: a name-based one would be the same on every
    /// machine, so the time goes in.
    fn made_up_uuid(&self) -> [u8; 16] {
        const VERSION: u8 = 0x40;
        const VARIANT: u8 = 0x80;
        let mut hash = self.platform.boot_time_unix_s() ^ self.platform.boot_tsc().rotate_left(32);
        let mut uuid = [0; 16];
        for (byte, letter) in
            uuid.iter_mut().zip(self.config.name.bytes().cycle().chain(core::iter::repeat(0)))
        {
            hash = (hash ^ u64::from(letter)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
            *byte = hash as u8;
        }
        uuid[6] = uuid[6] & 0x0f | VERSION;
        uuid[8] = uuid[8] & 0x3f | VARIANT;
        uuid
    }
}

fn drive(
    platform: &'static dyn Platform,
    inputs: &BootInputs,
    guest: &str,
    disk: &Disk,
) -> Result<Drive, String> {
    if disk.target.is_empty() && disk.kind == DiskKind::CdRom {
        return Ok(Drive::Cdrom(None));
    }
    let found = inputs.modules.iter().find(|module| disk.is_module(&module.command_line));
    let image = found.map(|module| module.data).ok_or_else(|| {
        let file_name = disk.target.rsplit('/').next().unwrap_or_default();
        let names = inputs.module_names();
        format!(
            "{guest}: disk {:?}: there is no boot module called {file_name:?} (there are {names:?})",
            disk.target
        )
    })?;
    if image.is_empty() {
        return Err(format!("{guest}: disk {:?}: the boot module is empty", disk.target));
    }
    if disk.kind == DiskKind::CdRom {
        return Ok(Drive::Cdrom(Some(Arc::new(ModuleImage(image)))));
    }
    let backend: Arc<dyn BlockBackend> = if disk.read_only {
        Arc::new(ModuleImage(image))
    } else {
        let copy = MemoryDisk::new(platform, image);
        Arc::new(
            copy.ok_or_else(|| format!("{guest}: disk {:?}: no memory for a copy", disk.target))?,
        )
    };
    Ok(Drive::Disk(backend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::platform::Module;
    use crate::test_backend::{TestBackend, TestCpu};
    use crate::test_platform::TestPlatform;
    use alloc::boxed::Box;
    use config::CommandLine;

    #[test]
    fn a_guest_that_the_heap_has_no_room_for_is_one_line_and_leaves_nothing() {
        let platform = TestPlatform::leak();
        let cpus: &Cpus<TestBackend> = Box::leak(Box::new(Cpus::new(platform, &[])));
        let inputs = BootInputs::default();
        let (options, _) = CommandLine::parse("console=com1");
        let mut attendant = Attendant::new(platform, &options);
        let domain = Domain::new(platform, &inputs, GuestConfig::new("g", 64, 1)).unwrap();
        platform.refuse_heap_after(0);
        let error = domain.run(&TestCpu::default(), cpus, &mut attendant).unwrap_err();
        assert!(error.starts_with("g: too little memory: 4096 KiB"), "{error}");
        assert_eq!((platform.allocated_bytes(), platform.reserved_heap_bytes()), (0, 0));
        assert!(platform.grant_heap());
        // There is no firmware here: this one fails behind the reservation, and gives it back.
        domain.run(&TestCpu::default(), cpus, &mut attendant).unwrap_err();
        assert_eq!((platform.allocated_bytes(), platform.reserved_heap_bytes()), (0, 0));
    }

    fn domain(text: &str, modules: &[&str]) -> Result<[bool; 4], String> {
        let module = |name: &&str| Module { command_line: (*name).into(), data: &[7; 512] };
        let inputs =
            BootInputs { modules: modules.iter().map(module).collect(), ..BootInputs::default() };
        let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
        let domain = Domain::new(TestPlatform::leak(), &inputs, config)?;
        Ok(domain.drives.each_ref().map(Option::is_some))
    }

    #[test]
    fn disks_are_modules_by_their_file_names() {
        let text = "type='hvm'; name='g'; memory=8\n\
                    disk=['phy:/dev/vg0/root,xvda,w', 'file:/isos/a.iso,xvdc:cdrom,r', ',hdd:cdrom,r']";
        assert_eq!(domain(text, &["g.cfg", "/boot/root", "a.iso"]), Ok([true, false, true, true]));
        assert_eq!(
            domain(text, &["g.cfg", "a.iso"]),
            Err("g: disk \"/dev/vg0/root\": there is no boot module called \"root\" (there are [\"g.cfg\", \
                 \"a.iso\"])"
                .into())
        );
    }
}
