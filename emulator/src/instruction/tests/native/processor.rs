//! Runs single instructions on the CPU itself.

use std::ptr;

/// Bytes of data that an instruction may touch.
pub(super) const DATA_BYTES: usize = 8192;
const CODE_BYTES: usize = 4096;
/// Where in the page of code the instruction under test starts; what loads the registers ends here.
const INSTRUCTION_OFFSET: usize = 1024;

/// An instruction's input, and its output.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) gprs: [u64; 16],
    pub(super) flags: u64,
    pub(super) vectors: [[u8; 32]; 2],
    pub(super) data: Vec<u8>,
}

/// The registers, where the generated code finds them.
#[repr(C)]
struct Registers {
    gprs: [u64; 16],
    flags: u64,
    host_rsp: u64,
    vectors: [[u8; 32]; 2],
}

const FLAGS: u32 = 128;
const HOST_RSP: u32 = 136;
const VECTORS: u32 = 144;

/// A page of code and two pages of data behind it.
pub(super) struct Processor {
    pages: *mut u8,
    registers: Box<Registers>,
    avx: bool,
}

impl Processor {
    pub(super) fn new() -> Self {
        // SAFETY: a new anonymous mapping touches no memory that is in use; the result is checked
        // below.
        let pages = unsafe {
            libc::mmap(
                ptr::null_mut(),
                CODE_BYTES + DATA_BYTES,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(pages, libc::MAP_FAILED, "no executable memory");
        let registers =
            Box::new(Registers { gprs: [0; 16], flags: 0, host_rsp: 0, vectors: [[0; 32]; 2] });
        Self { pages: pages.cast(), registers, avx: std::arch::is_x86_feature_detected!("avx") }
    }

    pub(super) fn code_address(&self) -> u64 {
        self.pages as u64
    }

    pub(super) fn instruction_address(&self) -> u64 {
        self.code_address() + INSTRUCTION_OFFSET as u64
    }

    pub(super) fn data_address(&self) -> u64 {
        self.code_address() + CODE_BYTES as u64
    }

    /// Runs an instruction, which must not fault, jump, use the stack, or touch other memory than
    /// the data.
    pub(super) fn run(&mut self, instruction: &[u8], state: &State) -> State {
        assert_eq!(state.data.len(), DATA_BYTES);
        let code = self.code(instruction);
        assert!(code.len() <= CODE_BYTES);
        *self.registers =
            Registers { gprs: state.gprs, flags: state.flags, host_rsp: 0, vectors: state.vectors };
        let mut after = State { data: vec![0; DATA_BYTES], ..State::default() };
        let registers: *mut Registers = &mut *self.registers;
        // SAFETY: both copies stay inside the mapping, which is ours alone and outlives this call,
        // and inside vectors of the checked lengths. The code saves and restores the
        // registers that the System V ABI wants kept, clears DF, and writes to `registers`,
        // which is valid and borrowed by nobody else, and by contract of this function to
        // the data pages.
        unsafe {
            ptr::copy_nonoverlapping(code.as_ptr(), self.pages, code.len());
            let data = self.pages.add(CODE_BYTES);
            ptr::copy_nonoverlapping(state.data.as_ptr(), data, DATA_BYTES);
            let entry: extern "sysv64" fn(*mut Registers) = std::mem::transmute(self.pages);
            entry(registers);
            ptr::copy_nonoverlapping(data, after.data.as_mut_ptr(), DATA_BYTES);
        }
        after.gprs = self.registers.gprs;
        after.flags = self.registers.flags;
        after.vectors = self.registers.vectors;
        after
    }

    /// Loads the registers, runs the instruction, stores the registers.
    fn code(&self, instruction: &[u8]) -> Vec<u8> {
        let registers = (&raw const *self.registers) as u64;
        // push rbx, rbp, r12 to r15
        let mut code = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];
        code.extend(based_on_rdi(&[0x48, 0x89], 4, HOST_RSP)); // mov [rdi + HOST_RSP], rsp
        code.extend(based_on_rdi(&[0xff], 6, FLAGS)); // push qword [rdi + FLAGS]
        code.push(0x9d); // popfq
        for index in 0..2 {
            code.extend(based_on_rdi(
                self.vector_move(0x6f, 0x10),
                index,
                VECTORS + 32 * u32::from(index),
            ));
        }
        // RDI last.
        for register in (0..16).filter(|&register| register != 7).chain([7]) {
            let rex = 0x48 | (register >> 3) << 2;
            code.extend(based_on_rdi(&[rex, 0x8b], register & 7, 8 * u32::from(register)));
        }
        code.push(0xe9); // jmp
        code.extend((INSTRUCTION_OFFSET as u32 - code.len() as u32 - 4).to_le_bytes());
        code.resize(INSTRUCTION_OFFSET, 0xcc);
        code.extend(instruction);

        code.extend([0x48, 0xa3]); // mov [registers], rax
        code.extend(registers.to_le_bytes());
        code.extend([0x48, 0xb8]); // mov rax, registers
        code.extend(registers.to_le_bytes());
        for register in 1..16 {
            let rex = 0x48 | (register >> 3) << 2;
            code.extend(based_on_rax(&[rex, 0x89], register & 7, 8 * u32::from(register)));
        }
        code.extend(based_on_rax(&[0x48, 0x8b], 4, HOST_RSP)); // mov rsp, [rax + HOST_RSP]
        code.extend([0x9c, 0x59]); // pushfq; pop rcx
        code.extend(based_on_rax(&[0x48, 0x89], 1, FLAGS));
        for index in 0..2 {
            code.extend(based_on_rax(
                self.vector_move(0x7f, 0x11),
                index,
                VECTORS + 32 * u32::from(index),
            ));
        }
        if self.avx {
            code.extend([0xc5, 0xf8, 0x77]); // vzeroupper
        }
        code.push(0xfc); // cld
        // pop r15 to r12, rbp, rbx; ret
        code.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
        code
    }

    /// VMOVDQU of 256 bits, or MOVUPS on a CPU without AVX.
    fn vector_move(&self, avx: u8, sse: u8) -> &'static [u8] {
        match (self.avx, avx, sse) {
            (true, 0x6f, _) => &[0xc5, 0xfe, 0x6f],
            (true, ..) => &[0xc5, 0xfe, 0x7f],
            (false, _, 0x10) => &[0x0f, 0x10],
            (false, ..) => &[0x0f, 0x11],
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it after this.
        unsafe { libc::munmap(self.pages.cast(), CODE_BYTES + DATA_BYTES) };
    }
}

fn based_on_rdi(opcode: &[u8], register: u8, displacement: u32) -> Vec<u8> {
    with_displacement(opcode, 0x87 | register << 3, displacement)
}

fn based_on_rax(opcode: &[u8], register: u8, displacement: u32) -> Vec<u8> {
    with_displacement(opcode, 0x80 | register << 3, displacement)
}

fn with_displacement(opcode: &[u8], mod_rm: u8, displacement: u32) -> Vec<u8> {
    [opcode, &[mod_rm], &displacement.to_le_bytes()].concat()
}
