//! A domain: what stays of a guest through all its lives, and how its PC is built from it.

use super::disks::Disks;
use super::network::Cards;
use super::pc::{Pc, PcParts};
use super::shared::Shared;
use crate::backend::Backend;
use crate::host::features::CpuFeatures;
use crate::host::owner::{GuestId, Owner};
use crate::host::platform::{BootInputs, Platform};
use crate::vm::cpuid::CpuidTable;
use crate::vm::memory::FrameMemory;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::Medium;
use config::{Disk, GuestConfig};
use control::guest::{ConsoleKind, OpenPorts};
use control::mailbox::Mailbox;
use devices::rtc::Battery;
use firmware::{Firmware, fw_cfg_files, option_rom};
use raw_cpuid::native_cpuid::cpuid_count;
use xen::backends::{CardSettings, DiskSettings, SharedStore};

/// Beside a guest's RAM and video memory: page tables, pictures, the hypervisor's heap.
const RESERVE_MIB: u64 = 16;
/// Beside so much RAM a guest that may give pages back has 1 MiB more: the lists of their
/// addresses, and page tables that map them one by one.
const RAM_PER_LISTS_MIB: u64 = 256;

/// The part of `free_bytes` that can be the guest's RAM at its start.
pub const fn usable_mib(free_bytes: u64, config: &GuestConfig) -> u64 {
    let beside_mib = RESERVE_MIB + config.video_memory_mib as u64;
    let room_mib = (free_bytes >> 20).saturating_sub(beside_mib);
    if !config.xen_platform_pci {
        room_mib
    } else if config.max_memory_mib > config.memory_mib {
        room_mib.saturating_sub(config.max_memory_mib.div_ceil(RAM_PER_LISTS_MIB))
    } else {
        // The most that leaves enough beside it.
        room_mib - room_mib.div_ceil(RAM_PER_LISTS_MIB + 1)
    }
}

/// All that stays when a guest restarts: configuration and disks.
pub struct Domain<'a> {
    platform: &'static dyn Platform,
    guest: GuestId,
    inputs: &'a BootInputs,
    config: GuestConfig,
    mailbox: Arc<Mailbox>,
    disks: Disks,
    cards: Cards,
    generation_id: Option<[u8; 16]>,
    store: Arc<SharedStore>,
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
        shared: &Shared,
    ) -> Result<Self, String> {
        let disks = Disks::new(platform, inputs, &shared.host_disks, &config)?;
        let guest = GuestId::next();
        let mailbox = Arc::new(Mailbox::new(guest.number(), &config.name));
        // Another one than any guest has had before, on any machine.
        let moment = platform.tsc() ^ u64::from(guest.number()).rotate_left(48);
        let generation_id =
            config.has_generation_id.then(|| made_up_bytes(platform, &config.name, moment));
        Ok(Self {
            platform,
            guest,
            inputs,
            cards: Cards::new(&config, &shared.switch),
            config,
            mailbox,
            disks,
            generation_id,
            store: shared.store.clone(),
        })
    }

    /// The machine underneath.
    pub const fn platform(&self) -> &'static dyn Platform {
        self.platform
    }

    /// Its configuration.
    pub const fn config(&self) -> &GuestConfig {
        &self.config
    }

    /// So many virtual CPUs are there when it starts the next time.
    pub const fn set_vcpus(&mut self, vcpus: u32) {
        self.config.vcpus = vcpus;
    }

    /// It is to have so much memory when it starts the next time.
    pub fn set_memory_kib(&mut self, kib: u64) {
        self.config.memory_mib = kib.div_ceil(1024).clamp(1, self.config.max_memory_mib);
    }

    /// It has this weight and cap when it starts the next time.
    pub const fn set_share(&mut self, weight: u32, cap_percent: u32) {
        (self.config.cpu_weight, self.config.cpu_cap_percent) = (weight, cap_percent);
    }

    /// Where it is asked.
    pub const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The battery of a real-time clock that has not run before.
    pub fn new_battery(&self) -> Battery {
        Battery::new(self.unix_time_s())
    }

    /// The time of a new battery's clock.
    fn unix_time_s(&self) -> u64 {
        let uptime_s = self.ns_since(self.platform.boot_tsc()) / 1_000_000_000;
        (self.platform.boot_time_unix_s() + uptime_s)
            .saturating_add_signed(self.config.rtc_offset_s)
    }

    /// Nanoseconds since the time stamp counter was at `tsc`.
    pub fn ns_since(&self, tsc: u64) -> u64 {
        let ticks = u128::from(self.platform.tsc().saturating_sub(tsc));
        u64::try_from(ticks * 1_000_000_000 / u128::from(self.platform.tsc_hz().max(1)))
            .unwrap_or(u64::MAX)
    }

    /// Its network cards.
    pub const fn cards(&self) -> &Cards {
        &self.cards
    }

    /// One card more, from now on and when it starts the next time.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn attach_card(&mut self, text: &str) -> Result<CardSettings, String> {
        let settings = self.cards.attach(&self.config, text)?;
        self.config.vifs = self.cards.configured();
        Ok(settings)
    }

    /// It has the card with this number no longer.
    pub fn remove_card(&mut self, id: u32) {
        self.cards.remove(id);
        self.config.vifs = self.cards.configured();
    }

    /// Its disks.
    pub const fn disks(&self) -> &Disks {
        &self.disks
    }

    /// One disk more, from now on and when it starts the next time.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn attach_disk(&mut self, text: &str) -> Result<DiskSettings, String> {
        let settings = self.disks.attach(self.inputs, text)?;
        self.config.disks = self.disks.configured();
        Ok(settings)
    }

    /// Puts another disc into the drive that is called so, or has this number, or with an empty
    /// target takes out the one that is in it; `change` does it in the present life.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn change_disc(
        &mut self,
        device: &str,
        target: &str,
        change: impl FnOnce(&Disk, Option<Arc<dyn Medium>>) -> Result<(), String>,
    ) -> Result<(), String> {
        let drive = self.disks.disc(self.inputs, device, target)?;
        change(drive.disk(), drive.disc())?;
        self.disks.set_disc(drive);
        self.config.disks = self.disks.configured();
        Ok(())
    }

    /// It has the disk with this number no longer.
    pub fn remove_disk(&mut self, id: u32) {
        self.disks.remove(id);
        self.config.disks = self.disks.configured();
    }

    /// Looks whether the machine has the guest's RAM, and what it takes beside it. To be called
    /// before anything is set aside for the guest; a life whose RAM is there has no need to.
    ///
    /// # Errors
    /// A line that says how much RAM it can have.
    pub(super) fn check_room(&self) -> Result<(), String> {
        let usable = usable_mib(self.platform.free_bytes(), &self.config);
        if self.config.memory_mib > usable { Err(self.too_much()) } else { Ok(()) }
    }

    fn too_much(&self) -> String {
        let GuestConfig { name, memory_mib, .. } = &self.config;
        let usable = usable_mib(self.platform.free_bytes(), &self.config);
        format!("{name}: memory={memory_mib}: only {usable} MiB are free: give the guest less")
    }

    /// Builds the PC of one life, for CPUs that have `features` in common.
    ///
    /// # Errors
    /// A line that says why it cannot be built.
    pub(super) fn build<B: Backend>(
        &self,
        cpu: &B::Cpu,
        features: &CpuFeatures,
        ports: &OpenPorts,
        battery: Battery,
        ram: Option<Arc<FrameMemory>>,
    ) -> Result<Pc, String> {
        let name = &self.config.name;
        let firmware = Firmware::SeaBios(self.inputs.bios);
        let placements =
            firmware.placements().map_err(|error| format!("{name}: firmware: {error:?}"))?;
        let apic_ids = (0..self.config.max_vcpus).collect();
        let mut description = self.config.machine_description(self.made_up_uuid(), apic_ids);
        description.cpu_mhz = u16::try_from(self.platform.tsc_hz() / 1_000_000).unwrap_or(0);
        description.generation_id = self.generation_id;
        description.boot_rom = option_rom::with_checksum(self.inputs.boot_rom);
        let ram = match ram {
            Some(ram) => ram,
            None => {
                let owner = Owner::Guest(self.guest);
                let bytes = description.ram.bytes() as usize;
                // More than that is found when it is touched.
                let present = (self.config.memory_mib << 20) as usize;
                let ram = match self.config.xen_platform_pci {
                    true => FrameMemory::divisible(self.platform, owner, bytes, present),
                    false => FrameMemory::new(self.platform, owner, bytes),
                };
                Arc::new(ram.ok_or_else(|| self.too_much())?)
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
            drives: self.disks.drives(),
            firmware: placements,
            vga_bios: self.inputs.vga_bios,
            com1: ports.output[ConsoleKind::Serial as usize].clone(),
            hvc0: ports.output[ConsoleKind::Pv as usize].clone(),
            // Firmware that finds the port takes an exit for each byte.
            debug: log::log_enabled!(log::Level::Debug).then(|| ports.debug.clone()),
            cpuid: CpuidTable::new(
                |leaf, subleaf| features.limit(leaf, subleaf, cpuid_count(leaf, subleaf)),
                self.config.max_vcpus,
                B::withheld(cpu),
            )
            .with_speculation(B::defences(cpu).guest),
            paging,
            utc_s: self.unix_time_s(),
            store: self.store.clone(),
            pv_disks: self.disks.pv(),
            pv_cards: self.cards.iter().cloned().collect::<Vec<_>>(),
        };
        Pc::new(parts).map_err(|_| self.too_much())
    }

    /// A UUID for a guest whose configuration has none: a name-based one would be the same on every
    /// machine, so the time goes in.
    fn made_up_uuid(&self) -> [u8; 16] {
        const VERSION: u8 = 0x40;
        const VARIANT: u8 = 0x80;
        let mut uuid = made_up_bytes(self.platform, &self.config.name, 0);
        uuid[6] = uuid[6] & 0x0f | VERSION;
        uuid[8] = uuid[8] & 0x3f | VARIANT;
        uuid
    }
}

/// Bytes that are others on another machine, after another start, of another name and at another
/// `moment`.
fn made_up_bytes(platform: &dyn Platform, name: &str, moment: u64) -> [u8; 16] {
    let mut hash = platform.boot_time_unix_s() ^ platform.boot_tsc().rotate_left(32) ^ moment;
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes().cycle().chain(core::iter::repeat(0))) {
        hash = (hash ^ u64::from(letter)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        *byte = hash as u8;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::platform::Module;
    use crate::machine::host_disks::HostDisks;
    use crate::test_platform::TestPlatform;

    fn domain(text: &str, modules: &[&str]) -> Result<[bool; 4], String> {
        let module = |name: &&str| Module { command_line: (*name).into(), data: &[7; 512] };
        let inputs =
            BootInputs { modules: modules.iter().map(module).collect(), ..BootInputs::default() };
        let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
        let platform = TestPlatform::leak();
        let shared = Shared::new(platform, HostDisks::default());
        let domain = Domain::new(platform, &inputs, config, &shared)?;
        Ok(domain.disks.drives().each_ref().map(Option::is_some))
    }

    #[test]
    fn disks_are_modules_by_their_file_names() {
        let text = "type='hvm'; name='g'; memory=8\n\
                    disk=['phy:/dev/vg0/root,xvda,w', 'file:/isos/a.iso,xvdc:cdrom,r', ',hdd:cdrom,r']";
        assert_eq!(domain(text, &["g.cfg", "/boot/root", "a.iso"]), Ok([true, false, true, true]));
        assert_eq!(
            domain(text, &["g.cfg", "a.iso"]),
            Err("g: disk \"/dev/vg0/root\": there is no such disk (there are []), and there is no boot module called \"root\" (there are [\"g.cfg\", \
                 \"a.iso\"])"
                .into())
        );
    }

    #[test]
    fn each_guest_that_wants_one_has_a_generation_id_of_its_own() {
        let platform = TestPlatform::leak();
        let id = |text: &str| {
            platform.advance_ns(1000);
            let config = GuestConfig::parse("g.cfg", text.as_bytes()).0.unwrap();
            let shared = Shared::new(platform, HostDisks::default());
            let inputs = BootInputs::default();
            Domain::new(platform, &inputs, config, &shared).unwrap().generation_id
        };
        let text = "type='hvm'; name='g'; memory=8; ms_vm_genid='generate'";
        let [first, second] = [id(text), id(text)];
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(id("type='hvm'; name='g'; memory=8"), None);
    }
}
