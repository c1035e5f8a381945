//! A whole PC on the test backend.

use crate::backend::exit::Exit;
use crate::backend::speculation::{Defences, Means};
use crate::backend::{Backend, Withheld};
use crate::host::owner::{GuestId, Owner};
use crate::machine::pc::{Pc, PcParts};
use crate::test_backend::{TestBackend, TestCpu};
use crate::test_platform::TestPlatform;
use crate::vcpu::{Nothing, Vcpu};
use crate::vm::cpuid::CpuidTable;
use crate::vm::layout::ROM_BYTES;
use crate::vm::memory::{FrameMemory, PAGE_BYTES};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use block::HeapDisk;
use config::GuestConfig;
use config::command_line::SpecCtrl;
use config::guest::Serial;
use control::mailbox::Mailbox;
use control::output::OutputRing;
use devices::bus::MmioDevice;
use devices::fw_cfg::File;
use devices::i8042::I8042;
use devices::ide::Drive;
use devices::memory::GuestMemory;
use devices::rtc::Battery;
use devices::uart::Uart;
use firmware::{MachineDescription, fw_cfg_files};
use raw_cpuid::CpuIdResult;
use xen::backends::SharedStore;

const RAM_MIB: u64 = 4;
const VIDEO_MEMORY_MIB: u32 = 16;
/// The instruction that exits.
pub(crate) const CODE_GPA: u64 = 0x8000;

/// A PC and its virtual CPU.
pub(crate) struct Machine {
    pub(crate) platform: &'static TestPlatform,
    pub(crate) vcpu: Vcpu<TestBackend>,
    pub(super) com1: Arc<Uart>,
    pub(super) i8042: Arc<I8042>,
    pub(super) output: Arc<OutputRing>,
}

/// The parts of a PC.
pub(crate) struct Hardware {
    pub(crate) ram_mib: u64,
    pub(crate) video_memory_mib: u32,
    pub(crate) cpuid: fn(u32, u32) -> CpuIdResult,
    /// One more device in its memory.
    pub(crate) device: Option<Arc<dyn MmioDevice>>,
    /// Parts of an earlier PC of this make.
    pub(crate) kept: Kept,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            ram_mib: RAM_MIB,
            video_memory_mib: VIDEO_MEMORY_MIB,
            cpuid,
            device: None,
            kept: Kept::default(),
        }
    }
}

/// Parts that outlast a PC.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Whose the RAM is.
    guest: Option<GuestId>,
    /// All zeroes.
    ram: Option<Arc<FrameMemory>>,
    rom: Option<Arc<FrameMemory>>,
    files: Option<Vec<File>>,
    /// A disk and a disc that cannot be written.
    disks: Option<[Arc<HeapDisk>; 2]>,
}

/// Builds PCs in little time, one after the other, from parts of the one before: its RAM, of which
/// only the pages that were written are cleared, and all that never changes.
pub(super) struct Workshop {
    pub(super) platform: &'static TestPlatform,
    ram: Arc<FrameMemory>,
    kept: Kept,
}

impl Workshop {
    /// Works in one for each thread, so that a run knows what its own machine allocated.
    pub(super) fn run(work: impl FnOnce(&Self)) {
        std::thread_local! {
            static WORKSHOP: Workshop = Workshop::open();
        }
        WORKSHOP.with(work);
    }

    fn open() -> Self {
        let (platform, guest) = (TestPlatform::leak(), GuestId::next());
        let ram = FrameMemory::new(platform, Owner::Guest(guest), (RAM_MIB << 20) as usize)
            .expect("memory for a small PC");
        let ram = Arc::new(ram.logged());
        let files = fw_cfg_files(&description(&config(RAM_MIB, VIDEO_MEMORY_MIB)));
        let rom = FrameMemory::new(platform, Owner::Shared, ROM_BYTES as usize).map(Arc::new);
        let disks = Some(read_only_disks());
        let kept =
            Kept { guest: Some(guest), ram: Some(ram.clone()), rom, files: Some(files), disks };
        Self { platform, ram, kept }
    }

    /// A PC as they are when they are new.
    pub(super) fn build(&self) -> Machine {
        self.build_with(None)
    }

    /// One with another device.
    pub(super) fn build_with(&self, device: Option<Arc<dyn MmioDevice>>) -> Machine {
        self.clear_ram();
        let hardware = Hardware { kept: self.kept.clone(), device, ..Hardware::default() };
        Machine::with(self.platform, hardware).expect("a small PC")
    }

    fn clear_ram(&self) {
        const ZEROES: [u8; PAGE_BYTES as usize] = [0; _];
        let log = self.ram.log().expect("logged");
        let all = log.pages(0, self.ram.length_bytes());
        let mut rest = all.clone();
        while let Some(written) = log.marked(rest.clone()) {
            rest.start = written.end;
            for page in written {
                self.ram.write(page * ZEROES.len(), &ZEROES);
            }
        }
        log.look(all);
        #[cfg(test)]
        self.check_ram();
    }

    #[cfg(test)]
    fn check_ram(&self) {
        let mut page = [0; PAGE_BYTES as usize];
        for offset in (0..self.ram.length_bytes()).step_by(page.len()) {
            assert!(self.ram.read(offset, &mut page) && page.iter().all(|&byte| byte == 0));
        }
    }
}

/// A processor with everything.
fn cpuid(leaf: u32, _subleaf: u32) -> CpuIdResult {
    let eax = match leaf {
        0 => 0x16,
        // Family 6.
        1 => 0x0003_06c3,
        0x8000_0000 => 0x8000_001f,
        0x8000_0008 => 0x3030,
        0xd => 0x2e7,
        _ => 0x00ff_ffff,
    };
    CpuIdResult { eax, ebx: 0xffff, ecx: u32::MAX, edx: if leaf == 0xd { 0 } else { u32::MAX } }
}

fn config(ram_mib: u64, video_memory_mib: u32) -> GuestConfig {
    let mut config = GuestConfig::new("fuzz", ram_mib, 1);
    config.video_memory_mib = video_memory_mib;
    config.xen_platform_pci = true;
    config.serial = [Serial::Console, Serial::Null, Serial::Null, Serial::None];
    config
}

fn description(config: &GuestConfig) -> MachineDescription {
    config.machine_description([1; 16], vec![0])
}

fn disk(bytes: usize, read_only: bool) -> Arc<HeapDisk> {
    Arc::new(HeapDisk::new(vec![0x5a; bytes], read_only))
}

fn read_only_disks() -> [Arc<HeapDisk>; 2] {
    [disk(64 << 10, true), disk(128 << 10, true)]
}

impl Machine {
    #[cfg(test)]
    pub(crate) fn new(platform: &'static TestPlatform) -> Self {
        let machine = Self::with(platform, Hardware::default());
        machine.unwrap_or_else(|| panic!("a PC of {RAM_MIB} MiB cannot be built"))
    }

    /// One of some make; `None` if memory is short.
    pub(crate) fn with(platform: &'static TestPlatform, hardware: Hardware) -> Option<Self> {
        let cpu = TestCpu::default();
        let Hardware { ram_mib, video_memory_mib, cpuid, device, kept } = hardware;
        let config = config(ram_mib, video_memory_mib);
        let description = description(&config);
        let [second_disk, disc] = kept.disks.unwrap_or_else(read_only_disks);
        let output = Arc::new(OutputRing::new());
        let guest = kept.guest.unwrap_or_else(GuestId::next);
        let ram = match kept.ram {
            Some(ram) => ram,
            None => {
                let bytes = description.ram.bytes() as usize;
                Arc::new(FrameMemory::new(platform, Owner::Guest(guest), bytes)?)
            }
        };
        let defences = Defences::new(&Means::new(cpuid, || u64::MAX), &SpecCtrl::default());
        let parts = PcParts {
            platform,
            guest,
            config: &config,
            mailbox: Arc::new(Mailbox::new(1, &config.name)),
            files: kept.files.unwrap_or_else(|| fw_cfg_files(&description)),
            description,
            battery: Battery::new(0),
            ram,
            rom: kept.rom,
            drives: [
                Some(Drive::Disk(disk(256 << 10, false))),
                Some(Drive::Disk(second_disk)),
                Some(Drive::Cdrom(Some(disc))),
                None,
            ],
            firmware: vec![],
            vga_bios: &[],
            com1: output.clone(),
            hvc0: Arc::new(OutputRing::new()),
            debug: Some(Arc::new(OutputRing::new())),
            cpuid: CpuidTable::new(cpuid, 1, Withheld::default()).with_speculation(defences.guest),
            paging: TestBackend::nested_paging(&cpu),
            utc_s: 0,
            store: SharedStore::new(),
            pv_disks: vec![],
            pv_cards: vec![],
        };
        let pc = Pc::new(parts).ok()?;
        let (com1, i8042) = (pc.com1.clone(), pc.i8042.clone());
        let mut vm = pc.vm;
        if let Some(device) = device {
            let Some(mut alone) = Arc::into_inner(vm) else {
                panic!("somebody else runs the virtual machine")
            };
            alone.mmio.attach(device);
            vm = Arc::new(alone);
        }
        let mut vcpu =
            Vcpu::<TestBackend>::new(0, platform, &cpu, vm, pc.vcpus.into_iter().next()?, None)
                .ok()?;
        let space = vcpu.vm().space.clone();
        vcpu.registers_mut().0.space = Some(space);
        vcpu.load(&cpu);
        Some(Self { platform, vcpu, com1, i8042, output })
    }

    /// One exit, and what comes of it.
    pub(super) fn turn(&mut self, exit: Exit) {
        self.exit(exit);
        self.vcpu.registers_mut().0.injected.clear();
    }

    /// One exit, and the one that a step because of it may leave.
    pub(crate) fn exit(&mut self, exit: Exit) {
        let (backend, _) = self.vcpu.registers_mut();
        backend.exit = exit;
        backend.rip = CODE_GPA;
        self.vcpu.turn(&mut Nothing);
        if self.vcpu.has_left_exit() {
            self.vcpu.turn(&mut Nothing);
        }
        assert!(!self.vcpu.has_left_exit(), "an exit that a step has left leaves none");
    }

    /// Puts the instruction that exits where RIP points to.
    pub(crate) fn put_instruction(&mut self, bytes: &[u8]) {
        // Where the guest has no RAM, it has no instructions either.
        let _ = self.vcpu.vm().space.write(CODE_GPA, bytes);
    }
}
