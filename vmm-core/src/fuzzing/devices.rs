//! A whole PC, driven by exits that its guest could cause.

use super::machine::{CODE_GPA, Machine, Workshop};
use crate::backend::exit::{Direction, Exit, PortAccess};
use crate::test_backend::StepAccess;
use crate::vm::memory::{Backing, PAGE_BYTES};
use alloc::vec;
use devices::i8042::Buttons;
use devices::keys::Key;
use devices::memory::GuestMemory;
use emulator::MemoryAccess;
use emulator::event::Event;
use emulator::fuzzing::Input;
use emulator::instruction::instruction_length;
use emulator::registers::{Exception, Gpr};

/// Steps of one run.
const MAX_STEPS: usize = 400;
/// Steps between two looks at the guest's address space.
const CHECK_INTERVAL: usize = 50;
/// A look is at one of so many pages.
const CHECK_PARTS: usize = 16;
/// Where string instructions read and write, and descriptors of DMA are.
const DATA_GPA: u64 = 0x1_0000;
/// More than all page tables that a guest of this size can need.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// Drives a PC through its exits: ports, memory, string instructions, MSRs, time, input. Nothing
/// panics, the guest's address space shows the guest's memory only, and what the hypervisor
/// allocates stays bounded.
pub fn devices(data: &[u8]) {
    Workshop::run(|workshop| drive(workshop, data));
}

fn drive(workshop: &Workshop, data: &[u8]) {
    let platform = workshop.platform;
    let before = platform.allocated_bytes();
    let mut machine = workshop.build();
    let built = platform.allocated_bytes();
    let mut input = Input::new(data);
    // Each look is at a part of the pages, which part is left to chance.
    let mut part = data.iter().fold(0, |sum: usize, &byte| sum.wrapping_add(byte.into()));
    for step in 0..MAX_STEPS {
        let goes_on = machine.step(&mut input).is_some();
        if step % CHECK_INTERVAL == CHECK_INTERVAL - 1 || !goes_on {
            machine.check(part % CHECK_PARTS);
            part += 1;
            assert!(
                platform.allocated_bytes() <= built + MAX_TABLE_BYTES,
                "the guest's page tables grow"
            );
        }
        if !goes_on {
            break;
        }
    }
    drop(machine);
    assert_eq!(platform.allocated_bytes(), before, "the guest is gone, and its memory is not back");
}

impl Machine {
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.u8()? % 17 {
            0..=3 => self.port(input),
            4 => self.port_string(input),
            5..=6 => self.memory(input),
            7 => self.pci(input),
            8 => self.msr(input),
            9 => self.other_exit(input),
            10 => self.person(input),
            11 => self.write_ram(input),
            12 => self.ide_command(input),
            13 => self.vga_register(input),
            14 => self.processor_state(input),
            15 => self.apic_write(input),
            _ => {
                self.platform.advance_ns(u64::from(input.u8()?) << (input.u8()? % 40));
                self.turn(Exit::ExternalInterrupt);
                Some(())
            }
        }
    }

    /// A port that a device answers, or one beside it, or any.
    fn pick_port(&self, input: &mut Input<'_>) -> Option<u16> {
        let regions = self.vcpu.vm().ports.regions();
        let (choice, offset) = (usize::from(input.u8()?), u32::from(input.u8()?));
        match regions.get(choice % (regions.len() + 2)) {
            Some(&Some((base, length))) => Some((base + offset % (length + 2)) as u16),
            _ => input.u16(),
        }
    }

    fn port(&mut self, input: &mut Input<'_>) -> Option<()> {
        let port = self.pick_port(input)?;
        let choice = input.u8()?;
        let direction = if choice & 1 == 0 { Direction::Out } else { Direction::In };
        let size_bytes = 1 << ((choice >> 1) % 3);
        if direction == Direction::Out {
            let value = if choice & 0x80 == 0 { input.u8()?.into() } else { input.u32()? };
            self.vcpu.registers_mut().1.set(Gpr::Rax, value.into());
        }
        self.put_instruction(&[0xef]);
        self.turn(Exit::Port(PortAccess { port, size_bytes, direction, string: false }));
        Some(())
    }

    fn port_string(&mut self, input: &mut Input<'_>) -> Option<()> {
        let port = self.pick_port(input)?;
        let (opcode, count, at) = (input.u8()?, input.u16()?, input.u16()?);
        // INS and OUTS of bytes or more, with and without REP and operand prefix.
        let instruction = match opcode >> 2 & 3 {
            0 => [0x6c | opcode & 3, 0x90, 0x90],
            1 => [0x66, 0x6c | opcode & 3, 0x90],
            2 => [0xf3, 0x6c | opcode & 3, 0x90],
            _ => [0xf3, 0x66, 0x6c | opcode & 3],
        };
        self.put_instruction(&instruction);
        let (backend, gprs) = self.vcpu.registers_mut();
        gprs.set(Gpr::Rdx, port.into());
        gprs.set(Gpr::Rcx, repeats(count, 5000));
        gprs.set(Gpr::Rsi, DATA_GPA + u64::from(at));
        gprs.set(Gpr::Rdi, DATA_GPA + u64::from(at));
        backend.rflags.set_direction(opcode & 0x40 != 0);
        let direction = if opcode & 2 == 0 { Direction::In } else { Direction::Out };
        let access = PortAccess { port, size_bytes: 1, direction, string: true };
        for _ in 0..3 {
            self.turn(Exit::Port(access));
        }
        self.vcpu.registers_mut().0.rflags.set_direction(false);
        Some(())
    }

    /// An address that a device answers, or one where memory may be, or any below 4 GiB.
    fn pick_gpa(&self, input: &mut Input<'_>) -> Option<u64> {
        const APIC: u64 = 0xfee0_0000;
        let regions = self.vcpu.vm().mmio.regions();
        let (choice, offset) = (usize::from(input.u8()?), u64::from(input.u16()?));
        Some(match regions.get(choice % (regions.len() + 4)) {
            Some(&Some((base, length))) => base + offset % (length + 8),
            _ => match choice & 7 {
                0 | 1 => APIC + offset % 0x1000,
                2 => 0xa_0000 + (offset << 3) % 0x8_0000,
                3 => 0x10_0000 + offset,
                4 => (1 << 32) - 1 - offset,
                _ => input.u32()?.into(),
            },
        })
    }

    fn memory(&mut self, input: &mut Input<'_>) -> Option<()> {
        const FORMS: [&[u8]; 16] = [
            &[0x89, 0x07],             // mov [rdi], eax
            &[0x8b, 0x07],             // mov eax, [rdi]
            &[0x88, 0x07],             // mov [rdi], al
            &[0x8a, 0x07],             // mov al, [rdi]
            &[0x66, 0x89, 0x07],       // mov [rdi], ax
            &[0xf3, 0xaa],             // rep stosb
            &[0xf3, 0xab],             // rep stosd
            &[0xf3, 0xa4],             // rep movsb
            &[0xf3, 0xa5],             // rep movsd
            &[0xf3, 0xac],             // rep lodsb
            &[0xf3, 0xa6],             // repe cmpsb
            &[0xf2, 0xae],             // repne scasb
            &[0x87, 0x07],             // xchg [rdi], eax
            &[0x0f, 0xc7, 0x0f],       // cmpxchg8b [rdi]
            &[0x0f, 0x11, 0x07],       // movups [rdi], xmm0
            &[0xc5, 0xfe, 0x6f, 0x07], // vmovdqu ymm0, [rdi]
        ];
        let gpa = self.pick_gpa(input)?;
        let choice = input.u8()?;
        if choice & 0xf0 == 0xf0 {
            let bytes = input.bytes(15)?;
            self.put_instruction(bytes);
        } else {
            self.put_instruction(FORMS.get(usize::from(choice & 0xf))?);
        }
        let (value, count) = (input.u32()?, input.u16()?);
        let to_ram = choice & 0x10 != 0;
        let (backend, gprs) = self.vcpu.registers_mut();
        gprs.set(Gpr::Rax, value.into());
        gprs.set(Gpr::Rcx, repeats(count, 3000));
        gprs.set(Gpr::Rdi, if to_ram { DATA_GPA } else { gpa });
        gprs.set(Gpr::Rsi, gpa);
        backend.rflags.set_direction(choice & 0x60 == 0x60);
        let write = choice & 1 == 0;
        let (execute, page_walk) = (count & 0xf000 == 0x3000, choice & 0xe0 == 0xc0);
        if value & 3 == 0 {
            self.prepare_step(input)?;
        }
        let access = MemoryAccess { gpa, write, execute, page_walk };
        for _ in 0..2 {
            self.turn(Exit::Memory(access));
        }
        self.vcpu.registers_mut().0.step_accesses.clear();
        self.vcpu.check_bounce_pages();
        self.vcpu.registers_mut().0.rflags.set_direction(false);
        Some(())
    }

    /// Chooses what the processor will do if it has to carry out the instruction.
    fn prepare_step(&mut self, input: &mut Input<'_>) -> Option<()> {
        let choice = input.u8()?;
        let mut accesses = vec![];
        for _ in 0..choice & 0x1f {
            let (gpa, kind) = (self.pick_gpa(input)?, input.u8()?);
            let length = (usize::from(kind >> 3) + 1).min((PAGE_BYTES - gpa % PAGE_BYTES) as usize);
            let (write, execute, page_walk) = (kind & 1 != 0, kind & 7 == 2, kind & 6 == 4);
            accesses.push(StepAccess { gpa, data: vec![kind; length], write, execute, page_walk });
        }
        let exit = match choice >> 5 {
            0 => Exit::ExternalInterrupt,
            1 => Exit::Fault { exception: Exception::PageFault, error_code: Some(2) },
            2 => Exit::Cpuid,
            3 => Exit::PushFlags,
            _ => Exit::Stepped,
        };
        let interrupted = (input.u8()? & 7 == 0).then_some(Event::Interrupt(0x30));
        let backend = self.vcpu.registers_mut().0;
        (backend.step_accesses, backend.step_exit, backend.interrupted) =
            (accesses, exit, interrupted);
        Some(())
    }

    fn out(&mut self, port: u16, size_bytes: u8, value: u32) {
        self.vcpu.registers_mut().1.set(Gpr::Rax, value.into());
        self.put_instruction(&[0xef]);
        let direction = Direction::Out;
        self.turn(Exit::Port(PortAccess { port, size_bytes, direction, string: false }));
    }

    /// A configuration register of a function that is there.
    fn pci(&mut self, input: &mut Input<'_>) -> Option<()> {
        let function = input.pick(&[0x00u32, 0x08, 0x09, 0x0b, 0x10, 0x18])?;
        let register = input.pick(&[
            0x04u32, 0x10, 0x14, 0x18, 0x20, 0x30, 0x3c, 0x40, 0x58, 0x5c, 0x60, 0x70, 0x80, 0x90,
            0xd0, 0xfc,
        ])?;
        let value = match input.u8()? {
            choice @ 0..0x80 => u32::from(choice) | u32::from(input.u8()?) << 24 | 1,
            0x80..0xa0 => u32::MAX,
            _ => input.u32()?,
        };
        self.out(0xcf8, 4, 0x8000_0000 | function << 8 | register);
        self.out(0xcfc, 4, value);
        Some(())
    }

    fn msr(&mut self, input: &mut Input<'_>) -> Option<()> {
        let index = match input.u8()? {
            choice @ 0..0x40 => 0x800 + u32::from(choice),
            choice @ 0x40..0x60 => 0x1f0 + u32::from(choice),
            0x60..0x80 => {
                input.pick(&[0x10, 0x1b, 0x6e0, 0x1a0, 0x277, 0x2ff, 0x1d9, 0xc000_0080])?
            }
            _ => input.u16()?.into(),
        };
        let value = match input.u8()? {
            small @ 0..0x80 => small.into(),
            0x80..0xa0 => 0xfee0_0800 | u64::from(input.u8()?) << 8,
            _ => input.u64()?,
        };
        let (_, gprs) = self.vcpu.registers_mut();
        gprs.set(Gpr::Rcx, index.into());
        gprs.set_edx_eax(value);
        self.put_instruction(&[0x0f, 0x30]);
        self.turn(if value & 1 == 0 && index & 1 == 0 { Exit::ReadMsr } else { Exit::WriteMsr });
        Some(())
    }

    /// The work that a processor with the local APIC's registers leaves to do after a write.
    fn apic_write(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (choice, value) = (input.u8()?, input.u32()?);
        let (backend, number) = (self.vcpu.registers_mut().0, choice & 0x3f);
        backend.delivers_interrupts = choice & 0x40 != 0;
        backend.apic_page.set(number, value);
        self.turn(Exit::ApicWrite { offset: u16::from(number) << 4 });
        Some(())
    }

    fn other_exit(&mut self, input: &mut Input<'_>) -> Option<()> {
        let exit = input.pick(&[
            Exit::Cpuid,
            Exit::Halt,
            Exit::Hypercall,
            Exit::Xsetbv,
            Exit::CacheInvalidate,
            Exit::WriteCr0,
            Exit::WriteCr4,
            Exit::ReadCr4,
            Exit::WriteCr8,
            Exit::Undefined,
            Exit::Forbidden,
            Exit::InterruptWindow,
            Exit::NmiWindow,
            Exit::HostNmi,
            Exit::Pause,
            Exit::EndOfInterrupt { vector: 0x59 },
            Exit::Exception(Exception::Debug),
            Exit::Exception(Exception::AlignmentCheck),
            Exit::Exception(Exception::MachineCheck),
            Exit::TripleFault,
            Exit::EntryFailure,
            Exit::Unknown(77),
        ])?;
        let (eax, ecx) = (input.u32()?, input.u8()?);
        let (_, gprs) = self.vcpu.registers_mut();
        gprs.set(Gpr::Rax, eax.into());
        gprs.set(Gpr::Rcx, ecx.into());
        gprs.set(Gpr::Rdx, 0);
        self.put_instruction(&[0x0f, 0x01, 0xd1]);
        self.turn(exit);
        Some(())
    }

    /// A person's input at the console.
    fn person(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (choice, value) = (input.u8()?, input.u8()?);
        match choice & 3 {
            0 => {
                self.com1.receive(value);
            }
            1 => {
                self.com1.receive_break();
            }
            2 => {
                let key = Key { code: value & 0x7f, extended: choice & 4 != 0 };
                self.i8042.key(key, value & 0x80 == 0);
            }
            _ => {
                let distance = i32::from(input.u16()? as i16);
                let buttons = Buttons::from_bits(value & 0x1f);
                self.i8042.mouse_move(distance, -distance, distance >> 8, buttons);
            }
        }
        if choice & 0x80 != 0 {
            self.output.take(&mut [0; 64]);
        }
        Some(())
    }

    /// Descriptors of DMA, page tables, anything.
    fn write_ram(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (at, count) = (DATA_GPA + u64::from(input.u16()?), usize::from(input.u8()? & 0x1f));
        let bytes = input.bytes(count)?;
        let _ = self.vcpu.vm().space.write(at, bytes);
        Some(())
    }

    /// A whole command, as a driver gives it.
    fn ide_command(&mut self, input: &mut Input<'_>) -> Option<()> {
        let choice = input.u8()?;
        let (base, bus_master) = if choice & 1 == 0 { (0x1f0, 0xc000) } else { (0x170, 0xc008) };
        if choice & 2 != 0 {
            // The bus master's ports at c000h, its table in RAM.
            self.out(0xcf8, 4, 0x8000_0920);
            self.out(0xcfc, 4, 0xc000);
            self.out(0xcf8, 4, 0x8000_0904);
            self.out(0xcfc, 4, 7);
            self.out(bus_master + 4, 4, DATA_GPA as u32 + u32::from(input.u8()?) * 64);
            self.out(bus_master, 1, u32::from(choice >> 4));
        }
        for register in 1..7 {
            self.out(base + register, 1, input.u8()?.into());
        }
        let command = input.u8()?;
        self.out(base + 7, 1, command.into());
        if command == 0xa0 {
            for word in input.bytes(12)?.chunks_exact(2) {
                self.out(base, 2, u16::from_le_bytes([word[0], word[1]]).into());
            }
        }
        self.out(bus_master, 1, u32::from(choice >> 4 | 1));
        Some(())
    }

    /// An indexed register, or a DISPI register.
    fn vga_register(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (choice, index, value) = (input.u8()?, input.u8()?, input.u8()?);
        match choice & 7 {
            0 => self.out(0x3c4, 2, u32::from(value) << 8 | u32::from(index % 5)),
            1 => self.out(0x3ce, 2, u32::from(value) << 8 | u32::from(index % 9)),
            2 => self.out(0x3d4, 2, u32::from(value) << 8 | u32::from(index % 0x19)),
            3 => self.out(0x3c2, 1, value.into()),
            4 => {
                self.out(0x3c0, 1, index.into());
                self.out(0x3c0, 1, value.into());
            }
            _ => {
                self.out(0x1ce, 2, u32::from(index % 11));
                self.out(0x1cf, 2, u32::from(value) | u32::from(choice & 0xf8) << 5);
            }
        }
        Some(())
    }

    fn processor_state(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (choice, vector) = (input.u8()?, input.u8()?);
        let (backend, _) = self.vcpu.registers_mut();
        backend.rflags.set_interrupt(choice & 1 != 0);
        backend.rflags.set_trap(choice & 2 != 0);
        backend.interrupt_shadow = choice & 4 != 0;
        backend.nmi_blocked = choice & 8 != 0;
        backend.apic_page.set_tpr(vector << 4);
        backend.next_rip = (choice & 0x10 != 0).then_some(CODE_GPA + 2);
        backend.interrupted = match choice >> 5 {
            0 => Some(Event::Interrupt(vector)),
            1 => Some(Event::Nmi),
            2 => Exception::from_vector(vector & 0x1f).map(|exception| {
                Event::Fault(emulator::registers::Fault {
                    exception,
                    error_code: Some(0),
                    address: None,
                })
            }),
            _ => None,
        };
        Some(())
    }

    /// The guest's address space shows its own memory, as the hypervisor finds it.
    fn check(&self, part: usize) {
        let vm = self.vcpu.vm();
        let space = &vm.space;
        vm.refresh_layout();
        let low = (0..0x200).map(|page| page * 0x1000);
        let high = (0x200..0x500).map(|page| page * 0x1000);
        let hole = (0xe00..0x1000).map(|piece| piece << 20);
        let beyond = [(1 << 32) - 1, 1 << 32, (1 << 48) - 1];
        for gpa in low.chain(high).chain(hole).chain(beyond).skip(part).step_by(CHECK_PARTS) {
            let Some(shown) = space.shown(gpa) else { continue };
            let Some((backing, offset, writable)) = space.found(gpa) else {
                panic!("the guest sees {shown:?} at {gpa:#x}, where there is nothing")
            };
            // Beyond the second mebibyte, a closed gate does not reach the CPU.
            if space.a20() || gpa < 2 << 20 {
                assert_eq!(shown, (backing, offset, writable), "at {gpa:#x}");
            }
            assert!(backing != Backing::Rom || !writable);
        }
        assert!(space.owed_flushes() <= 4096 + 16, "{} flushes are owed", space.owed_flushes());
        let mut code = [0; 15];
        if space.read(CODE_GPA, &mut code).is_ok() {
            instruction_length(&code, 32);
        }
    }
}

/// How often an instruction is repeated: seldom more than 255 times, which takes long, and at most
/// `limit` times.
fn repeats(count: u16, limit: u64) -> u64 {
    let few = u64::from(count & 0xff);
    if count >> 8 & 0xf == 0xf { few << 5 | u64::from(count >> 12) } else { few }.min(limit)
}
