//! The guest's PC, put together: the i440FX machine that every operating system knows.

use super::pv::{Pv, PvParts, PvPorts};
use crate::backend::NestedPaging;
use crate::host::clock::VmClock;
use crate::host::kick::VcpuKick;
use crate::host::owner::{GuestId, Owner};
use crate::host::platform::Platform;
use crate::host::timers::TimerQueue;
use crate::vcpu::VcpuWires;
use crate::vm::bus::{BusLock, MmioBus, PortBus};
use crate::vm::chipset::{Chipset, IsaLines, IsaSource, SystemTimer};
use crate::vm::cpuid::{CpuidTable, PvFacts};
use crate::vm::layout::{Layout, ROM_BASE, ROM_BYTES};
use crate::vm::memory::{FrameMemory, GuestSpace, MemoryPart, PAGE_BYTES, SpaceError, SpaceMemory};
use crate::vm::processors::Processors;
use crate::vm::pv::EventLines;
use crate::vm::{MovingRegion, StopSwitch, Vm};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::User;
use config::GuestConfig;
use config::guest::Serial;
use control::guest::PvDrivers;
use control::mailbox::Mailbox;
use devices::boot_disk::BootDisk;
use devices::bus::{PioDevice, Region};
use devices::console::ByteSink;
use devices::coprocessor::Coprocessor;
use devices::cpu_hotplug::CpuHotplug;
use devices::debug_port::{DebugConsole, PostCode};
use devices::dma::Dma;
use devices::fw_cfg::{File, FwCfg};
use devices::hpet::{FIRST_ROUTE, Hpet, HpetLines, LegacyRoute};
use devices::i8042::I8042;
use devices::ide::{Drive, Ide};
use devices::io_apic::IoApic;
use devices::io_apic::spec::INPUTS;
use devices::irq::IrqLine;
use devices::local_apic::{ApicBus, ApicInbox, LintPin};
use devices::pci::i440fx::I440fx;
use devices::pci::piix3::{ISA_IRQS, Piix3};
use devices::pci::piix4_pm::Piix4Pm;
use devices::pci::{Bdf, MapObserver, PciBus, Space};
use devices::pic::Pic;
use devices::pit::Pit;
use devices::port92::Port92;
use devices::rtc::{Battery, CmosContents, Rtc};
use devices::time::Alarm;
use devices::uart::Uart;
use devices::vga::{ODD_EVEN_BYTES, REGION_REGISTERS, ROM_BYTES as VGA_ROM_BYTES, Vga, VgaMemory};
use firmware::MachineDescription;
use firmware::boot_order::BootDevice;
use firmware::seabios::Placement;
use xen::backends::{CardSettings, DiskSettings, SharedStore};
use xen::device::{BAR_BYTES, BAR_PORTS, MEMORY_BAR, PORTS_BAR};

const HOST_BRIDGE: Bdf = Bdf::new(0, 0);
const ISA_BRIDGE: Bdf = Bdf::new(1, 0);
const IDE: Bdf = Bdf::new(1, 1);
const POWER_MANAGEMENT: Bdf = Bdf::new(1, 3);
const DISPLAY: Bdf = Bdf::new(2, 0);
const PLATFORM: Bdf = Bdf::new(3, 0);

const COM_PORTS: [(u16, usize); 4] = [(0x3f8, 4), (0x2f8, 3), (0x3e8, 4), (0x2e8, 3)];
/// The parts of PCI functions that move, mapped nowhere at first.
const IDE_BUS_MASTER: Region = Region::new(4, 0, 16);
const PM_REGISTERS: Region = Region::new(0, 0, 64);
const SMBUS_REGISTERS: Region = Region::new(1, 0, 16);
const VGA_REGISTER_PAGE_BYTES: u64 = 4096;
const RTC_IRQ: usize = 8;
const SCI_IRQ: usize = 9;
const COPROCESSOR_IRQ: usize = 13;

/// The slots of the devices' alarms in the first virtual CPU's queue.
#[derive(Clone, Copy)]
enum AlarmSlot {
    Pit,
    Rtc,
    Hpet,
    PowerManagement,
    SystemTimer,
    Keyboard,
    /// The first virtual CPU's timer of the PV-on-HVM platform.
    Pv,
    /// The work of its back ends.
    PvWork,
    /// The first of four.
    Com,
}

const ALARM_SLOTS: usize = AlarmSlot::Com as usize + COM_PORTS.len();

/// The parts that a PC is built from.
pub struct PcParts<'a> {
    /// The machine underneath.
    pub platform: &'static dyn Platform,
    /// The guest's number.
    pub guest: GuestId,
    /// The guest's configuration.
    pub config: &'a GuestConfig,
    /// The guest's mailbox.
    pub mailbox: Arc<Mailbox>,
    /// The description that the firmware gets.
    pub description: MachineDescription,
    /// The files of fw_cfg: [`firmware::fw_cfg_files`] of the description.
    pub files: Vec<File>,
    /// The state that the real-time clock goes on with.
    pub battery: Battery,
    /// RAM that outlasted a reset, if there was one before: of the length that the description
    /// says.
    pub ram: Arc<FrameMemory>,
    /// ROM of a PC of the same firmware, if there was one before.
    pub rom: Option<Arc<FrameMemory>>,
    /// The four IDE drives.
    pub drives: [Option<Drive>; 4],
    /// The firmware's parts.
    pub firmware: Vec<Placement<'a>>,
    /// The VGA BIOS.
    pub vga_bios: &'a [u8],
    /// Where COM1 transmits to.
    pub com1: Arc<dyn ByteSink>,
    /// Where the PV console transmits to.
    pub hvc0: Arc<dyn ByteSink>,
    /// Where the firmware's debug messages go, if somebody wants them.
    pub debug: Option<Arc<dyn ByteSink>>,
    /// The answers of CPUID.
    pub cpuid: CpuidTable,
    /// The CPU's second-level paging.
    pub paging: NestedPaging,
    /// UTC now, in seconds since 1970 began.
    pub utc_s: u64,
    /// XenStore, if the guest has the PV-on-HVM platform.
    pub store: Arc<SharedStore>,
    /// Its PV disks.
    pub pv_disks: Vec<DiskSettings>,
    /// Its PV network cards.
    pub pv_cards: Vec<CardSettings>,
}

/// A PC: what its virtual CPUs share, and the devices that the hypervisor itself talks to.
pub struct Pc {
    /// The state that its virtual CPUs share.
    pub vm: Arc<Vm>,
    /// The virtual CPUs' wires, by their numbers. The first one's timers are the devices' too.
    pub vcpus: Vec<VcpuWires>,
    /// COM1.
    pub com1: Arc<Uart>,
    /// Disks and CD-ROM drives.
    pub ide: Arc<Ide>,
    /// The screen.
    pub vga: Arc<Vga>,
    /// Keyboard and mouse.
    pub i8042: Arc<I8042>,
    /// The real-time clock.
    pub rtc: Arc<Rtc>,
    /// Power management.
    pub power: Arc<Piix4Pm>,
    /// Which of the virtual CPUs are there.
    pub sockets: Arc<CpuHotplug>,
    /// The way to PV drivers, if there may be some.
    pub pv: Option<Arc<dyn PvDrivers>>,
}

/// Where a serial port transmits to that leads nowhere.
struct Nowhere;

impl ByteSink for Nowhere {
    fn put(&self, _byte: u8) -> bool {
        true
    }
}

impl Pc {
    /// Builds a PC.
    ///
    /// # Errors
    /// [`SpaceError`] if memory is short.
    pub fn new(parts: PcParts<'_>) -> Result<Self, SpaceError> {
        let config = parts.config;
        let clock = Arc::new(VmClock::new(parts.platform));
        let kicks: Vec<_> =
            (0..config.max_vcpus).map(|_| Arc::new(VcpuKick::new(parts.platform))).collect();
        let processors = Processors::new(&kicks);
        let stop = Arc::new(StopSwitch::new(processors.clone()));
        let Memory { space, vga: vga_memory, shared } = memory(&parts)?;
        space.connect(&processors);
        let inboxes: Vec<_> = kicks.iter().map(|kick| ApicInbox::new(kick.clone())).collect();
        let apic_bus = ApicBus::new(inboxes.clone());
        let chipset = Arc::new(Chipset {
            space: space.clone(),
            processors: apic_bus.clone(),
            stop: stop.clone(),
        });
        let pic = Arc::new(Pic::new(IrqLine::new(inboxes[0].clone(), LintPin::Lint0 as u32)));
        let io_apic = IoApic::new(apic_bus.clone());
        let lines = IsaLines::new(&pic, &io_apic);
        let mut board = Board::new(clock.clone(), kicks[0].clone(), lines);

        board.ports.attach(pic.clone());
        board.mmio.attach(io_apic.clone());
        board.ports.attach(Arc::new(PostCode::new()));
        board.ports.attach(Arc::new(Dma::new(space.clone())));
        if let Some(debug) = &parts.debug {
            board.ports.attach(Arc::new(DebugConsole::new(debug.clone())));
        }
        board.ports.attach(Arc::new(Port92::new(chipset.clone())));
        let wake = IrqLine::new(kicks[0].clone(), 0);
        let (rtc, route) = board.add_timers(&parts, &io_apic, &apic_bus, wake);
        let com1 = board.add_serial_ports(config, &parts.com1);
        let i8042 = board.add_keyboard(chipset.clone());
        let coprocessor = board.add_coprocessor();
        let boot_drives = parts.description.boot_rom.is_some().then(|| boot_drives(&parts));
        let facts = parts.description.facts();
        board.ports.attach(Arc::new(FwCfg::new(&facts, parts.files, space.clone())));

        let host_bridge = Arc::new(I440fx::new());
        board.pci.attach(HOST_BRIDGE, host_bridge.clone());
        let isa_bridge = Piix3::new(board.lines.all(IsaSource::Pirq), chipset.clone());
        board.ports.attach(isa_bridge.clone());
        board.pci.attach(ISA_BRIDGE, isa_bridge.clone());
        let user = User { id: parts.guest.number(), weight: config.cpu_weight };
        let ide = board.add_ide(parts.drives, space.clone(), user);
        if let Some(drives) = boot_drives {
            board.ports.attach(BootDisk::new(drives, ide.clone(), space.clone(), user));
        }
        let power = board.add_power_management(chipset.clone());
        let sockets = CpuHotplug::new(apic_bus.clone(), power.clone(), config.vcpus);
        let sockets = Arc::new(sockets);
        board.ports.attach(sockets.clone());
        let vga = Arc::new(Vga::new(clock.clone(), vga_memory, parts.vga_bios));
        board.add_vga(&vga);
        let queue = |number| match number {
            0 => board.timers.clone(),
            _ => TimerQueue::new(clock.clone(), kicks[number].clone(), 1),
        };
        let queues: Vec<_> = (0..kicks.len()).map(queue).collect();
        let pv = shared.map(|pages| {
            board.add_pv(PvParts {
                guest: parts.guest,
                config,
                uuid: parts.description.uuid,
                utc_s: parts.utc_s,
                space: &space,
                pages,
                clock: &clock,
                stop: &stop,
                inboxes: &inboxes,
                queues: &queues,
                ide: &ide,
                lines: board.event_lines(&io_apic, isa_bridge.clone()),
                store: &parts.store,
                disks: parts.pv_disks,
                cards: parts.pv_cards,
                output: parts.hvc0,
            })
        });

        let pci = Arc::new(board.pci);
        board.ports.attach(pci.clone());
        let layout = Layout::new(space.clone(), vga.clone(), host_bridge)?;
        let (platform, back_ends) = match pv {
            Some(pv) => (Some(pv.platform), pv.back_ends),
            None => (None, None),
        };
        let mut cpuid = parts.cpuid;
        if platform.is_some() {
            cpuid = cpuid.with_pv(PvFacts {
                domain: parts.guest.number(),
                tsc_hz: clock.tsc_hz(),
                ns_per_tick_q32: clock.ns_per_tick_q32(),
            });
        }
        let vm = Arc::new(Vm {
            name: config.name.clone(),
            mailbox: parts.mailbox,
            clock,
            space,
            ports: board.ports,
            mmio: board.mmio,
            bus_lock: BusLock::default(),
            pic,
            system_timer: SystemTimer { route, io_apic },
            cpuid,
            stop,
            processors,
            coprocessor,
            chipset,
            layout,
            pci: pci.clone(),
            moving: board.moving,
            pv: platform,
            back_ends,
        });
        pci.observe(Arc::<Vm>::downgrade(&vm) as Weak<dyn MapObserver>);
        let wires = inboxes.into_iter().zip(kicks).zip(queues);
        let vcpus = wires.map(|((inbox, kick), timers)| VcpuWires {
            inbox,
            bus: apic_bus.clone(),
            kick,
            timers,
        });
        let back_ends = vm.back_ends.as_ref().map(|back_ends| Arc::downgrade(back_ends));
        let pv = back_ends.map(|back_ends| Arc::new(PvPorts { back_ends }) as _);
        Ok(Self { vcpus: vcpus.collect(), vm, com1, ide, vga, i8042, rtc, power, sockets, pv })
    }
}

/// The memories of a PC.
struct Memory {
    space: Arc<GuestSpace>,
    vga: VgaMemory,
    /// Pages of the PV-on-HVM platform, if the guest has one.
    shared: Option<Arc<FrameMemory>>,
}

/// The memories of a PC, firmware in its place.
fn memory(parts: &PcParts<'_>) -> Result<Memory, SpaceError> {
    let owner = Owner::Guest(parts.guest);
    let allocate = |bytes: usize| {
        FrameMemory::new(parts.platform, owner, bytes).ok_or(SpaceError::OutOfMemory)
    };
    let ram_layout = parts.description.ram;
    let rom = match &parts.rom {
        Some(rom) => rom.clone(),
        None => Arc::new(allocate(ROM_BYTES as usize)?),
    };
    let vram_bytes = (parts.config.video_memory_mib as usize) << 20;
    let video = allocate(vram_bytes + ODD_EVEN_BYTES)?;
    let video = Arc::new(if parts.paging.tracking.is_some() { video.logged() } else { video });
    for placement in parts.firmware.iter().filter(|placement| placement.gpa >= ROM_BASE) {
        rom.write((placement.gpa - ROM_BASE) as usize, placement.data);
    }
    let shared = match parts.config.xen_platform_pci {
        true => Some(Arc::new(allocate(xen::pages::COUNT * PAGE_BYTES as usize)?)),
        false => None,
    };
    let memory = SpaceMemory {
        guest: parts.guest,
        ram: parts.ram.clone(),
        ram_layout,
        rom: rom.clone(),
        video,
        shared: shared.clone(),
    };
    let vcpus = parts.config.max_vcpus as usize;
    let space = Arc::new(GuestSpace::new(parts.platform, parts.paging, memory, vcpus)?);
    let vga = VgaMemory {
        vram: MemoryPart::of_video(&space, 0, vram_bytes),
        odd_even: MemoryPart::of_video(&space, vram_bytes, ODD_EVEN_BYTES),
        rom: MemoryPart::new(rom, 0, VGA_ROM_BYTES),
    };
    Ok(Memory { space, vga, shared })
}

/// The places of the CD-ROM drives, as the BIOS numbers them.
fn boot_drives(parts: &PcParts<'_>) -> Vec<usize> {
    let position =
        |index: usize| BootDevice::Ide { channel: index as u8 / 2, unit: index as u8 % 2 };
    let is_cd = |index: &usize| matches!(parts.drives[*index], Some(Drive::Cdrom(_)));
    let cds: Vec<_> = (0..parts.drives.len()).filter(is_cd).collect();
    let numbered = cds.iter().map(|&index| position(index)).collect();
    let numbered = parts.description.numbered_cds(numbered);
    let place = |device: &BootDevice| cds.iter().copied().find(|&cd| position(cd) == *device);
    numbered.iter().filter_map(place).collect()
}

/// A PC while devices are put on it.
struct Board {
    clock: Arc<VmClock>,
    lines: IsaLines,
    ports: PortBus,
    mmio: MmioBus,
    pci: PciBus,
    timers: Arc<TimerQueue>,
    moving: Vec<MovingRegion>,
}

impl Board {
    fn new(clock: Arc<VmClock>, vcpu: Arc<VcpuKick>, lines: IsaLines) -> Self {
        Self {
            timers: TimerQueue::new(clock.clone(), vcpu, ALARM_SLOTS),
            clock,
            lines,
            ports: PortBus::new(),
            mmio: MmioBus::new(),
            pci: PciBus::new(),
            moving: Vec::new(),
        }
    }

    fn alarm(&self, slot: AlarmSlot) -> Alarm {
        self.timers.device_alarm(slot as usize)
    }

    /// PIT, real-time clock and HPET, with the switch between them.
    fn add_timers(
        &mut self,
        parts: &PcParts<'_>,
        io_apic: &Arc<IoApic>,
        apics: &Arc<ApicBus>,
        wake: IrqLine,
    ) -> (Arc<Rtc>, Arc<LegacyRoute>) {
        let wire = |irq| self.lines.wire(irq, IsaSource::Device);
        let alarm = self.alarm(AlarmSlot::SystemTimer);
        let legacy = LegacyRoute::new(self.clock.clone(), alarm, wire(0), wire(RTC_IRQ), wake);
        self.timers.connect(AlarmSlot::SystemTimer as usize, legacy.clone());
        let pit =
            Pit::new(self.clock.clone(), self.alarm(AlarmSlot::Pit), legacy.wire(LegacyRoute::PIT));
        let pit = Arc::new(pit);
        self.timers.connect(AlarmSlot::Pit as usize, pit.clone());
        self.ports.attach(pit);

        let cmos =
            CmosContents::new().memory(&parts.description.ram).cpus(parts.config.vcpus as u16);
        let (alarm, irq8) = (self.alarm(AlarmSlot::Rtc), legacy.wire(LegacyRoute::RTC));
        let rtc = Arc::new(Rtc::new(self.clock.clone(), alarm, irq8, parts.battery.clone(), &cmos));
        self.timers.connect(AlarmSlot::Rtc as usize, rtc.clone());
        self.ports.attach(rtc.clone());

        if parts.config.hpet {
            let routed = core::array::from_fn(|input| {
                IrqLine::new(io_apic.clone(), u32::from(FIRST_ROUTE) + input as u32)
            });
            let lines = HpetLines::new(&legacy, routed, apics.clone());
            let hpet = Arc::new(Hpet::new(self.clock.clone(), self.alarm(AlarmSlot::Hpet), lines));
            self.timers.connect(AlarmSlot::Hpet as usize, hpet.clone());
            self.mmio.attach(hpet);
        }
        (rtc, legacy)
    }

    /// The serial ports that the configuration asks for, and COM1 in any case as an object to talk
    /// to.
    fn add_serial_ports(&mut self, config: &GuestConfig, console: &Arc<dyn ByteSink>) -> Arc<Uart> {
        let ports: Vec<_> = (0..)
            .zip(config.serial)
            .zip(COM_PORTS)
            .map(|((number, serial), (base, irq))| {
                let sink =
                    if serial == Serial::Console { console.clone() } else { Arc::new(Nowhere) };
                let slot = AlarmSlot::Com as usize + number;
                let irq = self.lines.wire(irq, IsaSource::com(number));
                let alarm = self.timers.device_alarm(slot);
                let uart = Arc::new(Uart::new(base, irq, sink, self.clock.clone(), alarm));
                if serial != Serial::None {
                    self.timers.connect(slot, uart.clone());
                    self.ports.attach(uart.clone());
                }
                uart
            })
            .collect();
        ports[0].clone()
    }

    fn add_keyboard(&mut self, chipset: Arc<Chipset>) -> Arc<I8042> {
        let (irq1, irq12) =
            (self.lines.wire(1, IsaSource::Device), self.lines.wire(12, IsaSource::Device));
        let alarm = self.alarm(AlarmSlot::Keyboard);
        let i8042 = Arc::new(I8042::new(irq1, irq12, chipset, self.clock.clone(), alarm));
        self.timers.connect(AlarmSlot::Keyboard as usize, i8042.clone());
        self.ports.attach(i8042.clone());
        i8042
    }

    fn add_coprocessor(&mut self) -> Arc<Coprocessor> {
        let coprocessor =
            Arc::new(Coprocessor::new(self.lines.wire(COPROCESSOR_IRQ, IsaSource::Device)));
        self.ports.attach(coprocessor.clone());
        coprocessor
    }

    fn add_ide(
        &mut self,
        drives: [Option<Drive>; 4],
        memory: Arc<GuestSpace>,
        user: User,
    ) -> Arc<Ide> {
        let irqs = [14, 15].map(|irq| self.lines.wire(irq, IsaSource::Device));
        let ide = Arc::new(Ide::new(drives, irqs, memory, user));
        self.ports.attach(ide.clone());
        self.add_moving_ports(IDE, ide.clone(), IDE_BUS_MASTER);
        self.pci.attach(IDE, ide.clone());
        ide
    }

    fn add_power_management(&mut self, chipset: Arc<Chipset>) -> Arc<Piix4Pm> {
        let sci = self.lines.wire(SCI_IRQ, IsaSource::Sci);
        let alarm = self.alarm(AlarmSlot::PowerManagement);
        let pm = Arc::new(Piix4Pm::new(self.clock.clone(), alarm, sci, chipset));
        self.timers.connect(AlarmSlot::PowerManagement as usize, pm.clone());
        self.ports.attach(pm.clone());
        for region in [PM_REGISTERS, SMBUS_REGISTERS] {
            self.add_moving_ports(POWER_MANAGEMENT, pm.clone(), region);
        }
        self.pci.attach(POWER_MANAGEMENT, pm.clone());
        pm
    }

    /// The lines by which the PV-on-HVM platform can tell of events.
    fn event_lines(&self, io_apic: &Arc<IoApic>, pci: Arc<Piix3>) -> EventLines {
        let line = |gsi| match gsi {
            0..ISA_IRQS => self.lines.wire(gsi, IsaSource::Pv),
            _ => IrqLine::new(io_apic.clone(), gsi as u32),
        };
        EventLines { gsis: (0..INPUTS).map(line).collect(), pci }
    }

    /// The PV-on-HVM platform, and its PCI device.
    fn add_pv(&mut self, parts: PvParts<'_>) -> Pv {
        let slot = |vcpu| if vcpu == 0 { AlarmSlot::Pv as usize } else { 0 };
        let pv = parts.build(slot, AlarmSlot::PvWork as usize);
        let device = &pv.device;
        self.ports.attach(device.clone());
        let ports = Region::new(PORTS_BAR, 0, BAR_PORTS.into());
        self.add_moving_ports(PLATFORM, device.clone(), ports);
        let memory = Region::new(MEMORY_BAR, 0, BAR_BYTES.into());
        let index = self.mmio.attach_region(device.clone(), memory, false);
        self.moving.push(MovingRegion {
            function: PLATFORM,
            number: MEMORY_BAR,
            space: Space::Mmio,
            index,
        });
        self.pci.attach(PLATFORM, device.clone());
        pv
    }

    fn add_vga(&mut self, vga: &Arc<Vga>) {
        self.ports.attach(vga.clone());
        self.mmio.attach(vga.clone());
        let registers = Region::new(REGION_REGISTERS, 0, VGA_REGISTER_PAGE_BYTES);
        let index = self.mmio.attach_region(vga.clone(), registers, false);
        self.moving.push(MovingRegion {
            function: DISPLAY,
            number: REGION_REGISTERS,
            space: Space::Mmio,
            index,
        });
        self.pci.attach(DISPLAY, vga.clone());
    }

    /// Ports whose base a PCI function's registers say.
    fn add_moving_ports(&mut self, function: Bdf, device: Arc<dyn PioDevice>, region: Region) {
        let index = self.ports.attach_region(device, region, false);
        self.moving.push(MovingRegion {
            function,
            number: region.number,
            space: Space::Pio,
            index,
        });
    }
}
