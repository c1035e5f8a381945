//! The instructions that are compared: opcodes with the operands that they take.

use super::processor::State;
use crate::registers::{Gpr, Rflags};

const CARRY: u64 = 1;
const PARITY: u64 = 4;
const AUXILIARY: u64 = 0x10;
const ZERO: u64 = 0x40;
const SIGN: u64 = 0x80;
const OVERFLOW: u64 = 0x800;
/// The flags that arithmetic sets.
pub(super) const ALL_FLAGS: u64 = CARRY | PARITY | AUXILIARY | ZERO | SIGN | OVERFLOW;

/// A small generator of random numbers (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// A number, often one at which arithmetic behaves differently.
    pub(super) fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => [
                0,
                1,
                0x7f,
                0x80,
                0xff,
                0x7fff,
                0x8000,
                0xffff,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_ffff,
            ][self.below(11) as usize],
            1 => [u64::MAX, i64::MAX as u64, i64::MIN as u64, u64::MAX - 1][self.below(4) as usize],
            _ => self.next(),
        }
    }
}

/// How wide the operand is.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    /// One byte, by opcode.
    Byte,
    /// 2, 4 or 8 bytes, by prefix.
    Full,
    /// 2, 4 or 8 bytes, and RCX is a bit offset near the operand.
    BitString,
    /// 4 bytes, or 8 with REX.W.
    Wide,
    /// 16 bytes with REX.W, aligned.
    Pair,
    /// As many bytes as said, by opcode.
    Vector(u8),
    /// The same, aligned.
    AlignedVector(u8),
}

#[derive(Clone, Copy, PartialEq)]
enum Immediate {
    None,
    Byte,
    /// As wide as the operand, at most 4 bytes.
    Full,
}

/// The meaning of ModRM's register field.
#[derive(Clone, Copy, PartialEq)]
enum Field {
    /// A general register.
    Register,
    /// A part of the opcode.
    Opcode(u8),
    /// XMM0 or XMM1.
    Vector,
}

#[derive(Clone, Copy, PartialEq)]
enum Flags {
    AllDefined,
    Undefined(u64),
    Shift,
    Rotate,
    ShiftDouble,
}

/// One instruction in one encoding.
#[derive(Clone)]
pub(super) struct Form {
    pub(super) name: String,
    /// Legacy prefixes, before REX.
    prefix: Vec<u8>,
    opcode: Vec<u8>,
    field: Field,
    immediate: Immediate,
    size: Size,
    flags: Flags,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Division,
    String,
    Moffs,
    /// A VEX prefix is in the opcode: no other prefix.
    Vex,
}

/// An instruction with its operands chosen.
pub(super) struct Sample {
    pub(super) instruction: Vec<u8>,
    pub(super) undefined_flags: u64,
    pub(super) may_divide_by_zero: bool,
}

impl Form {
    fn new(name: &str, opcode: &[u8], field: Field, size: Size) -> Self {
        Self {
            name: format!("{name} {opcode:02x?}"),
            prefix: Vec::new(),
            opcode: opcode.to_vec(),
            field,
            immediate: Immediate::None,
            size,
            flags: Flags::AllDefined,
            kind: Kind::Plain,
        }
    }

    fn immediate(self, immediate: Immediate) -> Self {
        Self { immediate, ..self }
    }

    fn flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    fn prefix(self, prefix: &[u8]) -> Self {
        Self { prefix: prefix.to_vec(), ..self }
    }

    /// Chooses operands, and sets the registers that address them.
    pub(super) fn sample(&self, random: &mut Random, state: &mut State, data: u64) -> Sample {
        match self.kind {
            Kind::String => self.string_sample(random, state, data),
            Kind::Moffs => self.moffs_sample(random, data),
            Kind::Plain | Kind::Division | Kind::Vex => self.memory_sample(random, state, data),
        }
    }

    /// Operand size in bytes, and the prefixes that choose it: 66h or none, REX.W or none.
    fn operand_size(&self, random: &mut Random) -> (u64, bool, u8) {
        match self.size {
            Size::Byte => (1, false, 0),
            Size::Full | Size::BitString => match random.below(3) {
                0 => (2, true, 0),
                1 => (4, false, 0),
                _ => (8, false, 8),
            },
            Size::Wide => match random.below(2) {
                0 => (4, false, 0),
                _ => (8, false, 8),
            },
            Size::Pair => (16, false, 8),
            Size::Vector(bytes) | Size::AlignedVector(bytes) => (bytes.into(), false, 0),
        }
    }

    fn memory_sample(&self, random: &mut Random, state: &mut State, data: u64) -> Sample {
        let (bytes, narrow, wide) = self.operand_size(random);
        let mut address = match self.size {
            // Some across the boundary of the pages.
            Size::Pair | Size::AlignedVector(_) => random.below(8192 / bytes) * bytes,
            _ if random.below(4) == 0 => 4096 - random.below(bytes + 1),
            _ => 64 + random.below(8192 - 128),
        } + data;
        if self.kind == Kind::Division {
            // Often a quotient that fits.
            state.gprs[Gpr::Rdx as usize] = random.below(3).wrapping_sub(1);
        }
        if self.size == Size::BitString {
            state.gprs[Gpr::Rcx as usize] = random.below(1024).wrapping_sub(512);
            address = data + 1024 + random.below(4096);
        }

        let mut instruction = self.prefix.clone();
        if narrow {
            instruction.push(0x66);
        }
        let (field, rex_r) = match self.field {
            Field::Opcode(field) => (field, 0),
            Field::Vector => (random.below(2) as u8, 0),
            Field::Register if self.size == Size::BitString => (Gpr::Rcx as u8, 0),
            // Not RSP; without REX, 4 to 7 are AH to BH in byte operations.
            Field::Register => loop {
                let register = random.below(16) as u8;
                if register != Gpr::Rsp as u8 || self.size == Size::Byte && wide == 0 {
                    break (register & 7, register >> 3);
                }
            },
        };
        let addressing = Addressing::choose(random, state, address, self.kind == Kind::Vex);
        let rex = wide | rex_r << 2 | addressing.rex;
        if rex != 0 {
            instruction.push(0x40 | rex);
        }
        instruction.extend(&self.opcode);
        instruction.push(addressing.mod_rm | field << 3);
        instruction.extend(&addressing.rest);
        // A count as an immediate, or in CL.
        let mut count = state.gprs[Gpr::Rcx as usize] as u8;
        if self.opcode[0] == 0xd0 || self.opcode[0] == 0xd1 {
            count = 1;
        }
        match self.immediate {
            Immediate::None => {}
            Immediate::Byte => {
                count = random.value() as u8;
                instruction.push(count);
            }
            Immediate::Full => {
                instruction.extend(&random.value().to_le_bytes()[..bytes.min(4) as usize]);
            }
        }
        if self.flags == Flags::ShiftDouble && bytes == 2 {
            // Beyond 16, all is undefined.
            match self.immediate {
                Immediate::Byte => *instruction.last_mut().unwrap() %= 17,
                _ => state.gprs[Gpr::Rcx as usize] = u64::from(count % 17),
            }
            count %= 17;
        }
        Sample {
            instruction,
            undefined_flags: self.undefined_flags(bytes, count),
            may_divide_by_zero: self.kind == Kind::Division,
        }
    }

    fn undefined_flags(&self, bytes: u64, count: u8) -> u64 {
        let count = count & if bytes == 8 { 63 } else { 31 };
        let overflow = if count > 1 { OVERFLOW } else { 0 };
        match self.flags {
            Flags::AllDefined => 0,
            Flags::Undefined(flags) => flags,
            Flags::Shift | Flags::ShiftDouble if count == 0 => 0,
            Flags::Shift | Flags::ShiftDouble => {
                let carry = if u64::from(count) >= 8 * bytes { CARRY } else { 0 };
                overflow | carry | AUXILIARY
            }
            Flags::Rotate => overflow,
        }
    }

    fn moffs_sample(&self, random: &mut Random, data: u64) -> Sample {
        let (_, narrow, wide) = self.operand_size(random);
        let mut instruction = Vec::new();
        if narrow {
            instruction.push(0x66);
        }
        if wide != 0 {
            instruction.push(0x48);
        }
        instruction.extend(&self.opcode);
        instruction.extend((data + random.below(8000)).to_le_bytes());
        Sample { instruction, undefined_flags: 0, may_divide_by_zero: false }
    }

    fn string_sample(&self, random: &mut Random, state: &mut State, data: u64) -> Sample {
        let (bytes, narrow, wide) = self.operand_size(random);
        let mut instruction = self.prefix.clone();
        if narrow {
            instruction.push(0x66);
        }
        if wide != 0 {
            instruction.push(0x48);
        }
        instruction.extend(&self.opcode);
        let count = random.below(1000 / bytes);
        let down = random.below(4) == 0;
        // Close enough for the operands to overlap at times.
        let distance = random.below(3) * random.below(1000);
        let start = data + 2500 + random.below(1500);
        state.gprs[Gpr::Rcx as usize] = count;
        state.gprs[Gpr::Rsi as usize] = start;
        state.gprs[Gpr::Rdi as usize] = start + distance;
        if random.below(2) == 0 {
            state.gprs.swap(Gpr::Rsi as usize, Gpr::Rdi as usize);
        }
        state.flags = Rflags::from_bits(state.flags).with_direction(down).into_bits();
        // For comparisons: alike for a while.
        if random.below(2) == 0 {
            state.data.fill(0x41);
            state.gprs[Gpr::Rax as usize] = 0x4141_4141_4141_4141;
            state.data[2500 + random.below(2000) as usize] = 0x42;
        }
        Sample { instruction, undefined_flags: 0, may_divide_by_zero: false }
    }
}

/// A memory operand's encoding.
struct Addressing {
    rex: u8,
    mod_rm: u8,
    rest: Vec<u8>,
}

impl Addressing {
    /// `low_registers`: without a REX prefix.
    fn choose(random: &mut Random, state: &mut State, address: u64, low_registers: bool) -> Self {
        match random.below(4) {
            // [rbx]
            0 => {
                state.gprs[Gpr::Rbx as usize] = address;
                Self { rex: 0, mod_rm: 0x03, rest: Vec::new() }
            }
            // [rbp + disp8]
            1 => {
                let displacement = random.next() as i8;
                state.gprs[Gpr::Rbp as usize] = address.wrapping_sub(displacement as u64);
                Self { rex: 0, mod_rm: 0x45, rest: vec![displacement as u8] }
            }
            // [r13 + r12 * 4 + disp32]
            2 if !low_registers => {
                let displacement = random.next() as i32;
                let index = random.value();
                state.gprs[Gpr::R12 as usize] = index;
                state.gprs[Gpr::R13 as usize] =
                    address.wrapping_sub(displacement as u64).wrapping_sub(index.wrapping_mul(4));
                let rest = [&[0xa5][..], &displacement.to_le_bytes()].concat();
                Self { rex: 3, mod_rm: 0x84, rest }
            }
            // [rsi + rdi * 8]
            _ => {
                let index = random.value();
                state.gprs[Gpr::Rdi as usize] = index;
                state.gprs[Gpr::Rsi as usize] = address.wrapping_sub(index.wrapping_mul(8));
                Self { rex: 0, mod_rm: 0x04, rest: vec![0xfe] }
            }
        }
    }
}

/// The two encodings of an instruction: on a byte (`opcode`) and on wider operands (the next
/// opcode).
fn byte_and_full(name: &str, opcode: &[u8], field: Field) -> [Form; 2] {
    let (last, first) = opcode.split_last().unwrap();
    let full = [first, &[last + 1]].concat();
    [Form::new(name, opcode, field, Size::Byte), Form::new(name, &full, field, Size::Full)]
}

/// Moves, arithmetic, bits and shifts.
pub(super) fn integer() -> Vec<Form> {
    use Field::{Opcode, Register};
    let mut forms = Vec::new();
    let logic_flags = Flags::Undefined(AUXILIARY);
    for (number, name) in
        ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].into_iter().enumerate()
    {
        let number = number as u8;
        let flags = if matches!(number, 1 | 4 | 6) { logic_flags } else { Flags::AllDefined };
        let opcode = number << 3;
        forms.extend(byte_and_full(name, &[opcode], Register).map(|form| form.flags(flags)));
        forms.extend(byte_and_full(name, &[opcode + 2], Register).map(|form| form.flags(flags)));
        forms.push(
            Form::new(name, &[0x80], Opcode(number), Size::Byte)
                .immediate(Immediate::Byte)
                .flags(flags),
        );
        forms.push(
            Form::new(name, &[0x81], Opcode(number), Size::Full)
                .immediate(Immediate::Full)
                .flags(flags),
        );
        forms.push(
            Form::new(name, &[0x83], Opcode(number), Size::Full)
                .immediate(Immediate::Byte)
                .flags(flags),
        );
        if number != 7 {
            forms.push(
                Form::new("lock", &[opcode + 1], Register, Size::Full).prefix(&[0xf0]).flags(flags),
            );
        }
    }
    forms.extend(byte_and_full("test", &[0x84], Register).map(|form| form.flags(logic_flags)));
    forms.push(
        Form::new("test", &[0xf6], Opcode(0), Size::Byte)
            .immediate(Immediate::Byte)
            .flags(logic_flags),
    );
    forms.push(
        Form::new("test", &[0xf7], Opcode(0), Size::Full)
            .immediate(Immediate::Full)
            .flags(logic_flags),
    );
    forms.extend(byte_and_full("not", &[0xf6], Opcode(2)));
    forms.extend(byte_and_full("neg", &[0xf6], Opcode(3)));
    forms.extend(byte_and_full("inc", &[0xfe], Opcode(0)));
    forms.extend(byte_and_full("dec", &[0xfe], Opcode(1)));
    let product_flags = Flags::Undefined(AUXILIARY | SIGN | ZERO | PARITY);
    forms.extend(byte_and_full("mul", &[0xf6], Opcode(4)).map(|form| form.flags(product_flags)));
    forms.extend(byte_and_full("imul", &[0xf6], Opcode(5)).map(|form| form.flags(product_flags)));
    forms.push(Form::new("imul", &[0x0f, 0xaf], Register, Size::Full).flags(product_flags));
    forms.push(
        Form::new("imul", &[0x69], Register, Size::Full)
            .immediate(Immediate::Full)
            .flags(product_flags),
    );
    forms.push(
        Form::new("imul", &[0x6b], Register, Size::Full)
            .immediate(Immediate::Byte)
            .flags(product_flags),
    );
    for (name, number) in [("div", 6), ("idiv", 7)] {
        forms.extend(
            byte_and_full(name, &[0xf6], Opcode(number))
                .map(|form| form.flags(Flags::Undefined(ALL_FLAGS)).kind(Kind::Division)),
        );
    }
    forms.extend(moves());
    forms.extend(byte_and_full("xchg", &[0x86], Register));
    forms.extend(byte_and_full("xadd", &[0x0f, 0xc0], Register));
    forms.extend(byte_and_full("cmpxchg", &[0x0f, 0xb0], Register));
    forms.push(Form::new("cmpxchg8b", &[0x0f, 0xc7], Opcode(1), Size::Vector(8)));
    forms.push(Form::new("cmpxchg16b", &[0x0f, 0xc7], Opcode(1), Size::Pair));
    forms.extend(bits_and_shifts());
    forms
}

fn moves() -> Vec<Form> {
    use Field::{Opcode, Register};
    let mut forms = Vec::new();
    forms.extend(byte_and_full("mov", &[0x88], Register));
    forms.extend(byte_and_full("mov", &[0x8a], Register));
    forms.push(Form::new("mov", &[0xc6], Opcode(0), Size::Byte).immediate(Immediate::Byte));
    forms.push(Form::new("mov", &[0xc7], Opcode(0), Size::Full).immediate(Immediate::Full));
    forms.extend(byte_and_full("mov", &[0xa0], Register).map(|form| form.kind(Kind::Moffs)));
    forms.extend(byte_and_full("mov", &[0xa2], Register).map(|form| form.kind(Kind::Moffs)));
    for opcode in [0xb6, 0xb7, 0xbe, 0xbf] {
        forms.push(Form::new("movzx, movsx", &[0x0f, opcode], Register, Size::Full));
    }
    forms.push(Form::new("movsxd", &[0x63], Register, Size::Wide));
    forms.push(Form::new("movnti", &[0x0f, 0xc3], Register, Size::Wide));
    if std::arch::is_x86_feature_detected!("movbe") {
        forms.push(Form::new("movbe", &[0x0f, 0x38, 0xf0], Register, Size::Full));
        forms.push(Form::new("movbe", &[0x0f, 0x38, 0xf1], Register, Size::Full));
    }
    for condition in 0..16 {
        forms.push(Form::new("setcc", &[0x0f, 0x90 + condition], Opcode(0), Size::Byte));
        forms.push(Form::new("cmovcc", &[0x0f, 0x40 + condition], Register, Size::Full));
    }
    forms
}

fn bits_and_shifts() -> Vec<Form> {
    use Field::{Opcode, Register};
    let mut forms = Vec::new();
    let bit_flags = Flags::Undefined(OVERFLOW | SIGN | AUXILIARY | PARITY);
    for (number, opcode) in [(4, 0xa3), (5, 0xab), (6, 0xb3), (7, 0xbb)] {
        forms.push(Form::new("bit", &[0x0f, opcode], Register, Size::BitString).flags(bit_flags));
        let form = Form::new("bit", &[0x0f, 0xba], Opcode(number), Size::Full);
        forms.push(form.immediate(Immediate::Byte).flags(bit_flags));
    }
    for number in [0, 1, 2, 3, 4, 5, 7] {
        let flags = if number < 4 { Flags::Rotate } else { Flags::Shift };
        forms.extend(byte_and_full("shift", &[0xd0], Opcode(number)).map(|form| form.flags(flags)));
        forms.extend(byte_and_full("shift", &[0xd2], Opcode(number)).map(|form| form.flags(flags)));
        let by_immediate = byte_and_full("shift", &[0xc0], Opcode(number));
        forms.extend(by_immediate.map(|form| form.immediate(Immediate::Byte).flags(flags)));
    }
    for opcode in [0xa4, 0xac] {
        let form = Form::new("double shift", &[0x0f, opcode], Register, Size::Full);
        forms.push(form.immediate(Immediate::Byte).flags(Flags::ShiftDouble));
        let form = Form::new("double shift", &[0x0f, opcode + 1], Register, Size::Full);
        forms.push(form.flags(Flags::ShiftDouble));
    }
    forms
}

/// MOVS, CMPS, STOS, LODS and SCAS, alone and repeated.
pub(super) fn string() -> Vec<Form> {
    let mut forms = Vec::new();
    for (name, opcode) in
        [("movs", 0xa4), ("cmps", 0xa6), ("stos", 0xaa), ("lods", 0xac), ("scas", 0xae)]
    {
        for prefix in [&[][..], &[0xf3], &[0xf2]] {
            // F2 repeats as F3 does where nothing is compared, but only by custom.
            if prefix == [0xf2] && !matches!(opcode, 0xa6 | 0xae) {
                continue;
            }
            forms.extend(
                byte_and_full(name, &[opcode], Field::Register)
                    .map(|form| form.prefix(prefix).kind(Kind::String)),
            );
        }
    }
    forms
}

/// SSE moves, and AVX ones where the CPU has them.
pub(super) fn vector(avx: bool) -> Vec<Form> {
    use Size::{AlignedVector, Vector};
    // Prefix (as VEX numbers it: none, 66h, F3h, F2h), opcode, size; loads and stores.
    let moves: &[(&str, u8, u8, Size)] = &[
        ("movups", 0, 0x10, Vector(16)),
        ("movups", 0, 0x11, Vector(16)),
        ("movupd", 1, 0x10, Vector(16)),
        ("movupd", 1, 0x11, Vector(16)),
        ("movss", 2, 0x10, Vector(4)),
        ("movss", 2, 0x11, Vector(4)),
        ("movsd", 3, 0x10, Vector(8)),
        ("movsd", 3, 0x11, Vector(8)),
        ("movaps", 0, 0x28, AlignedVector(16)),
        ("movaps", 0, 0x29, AlignedVector(16)),
        ("movapd", 1, 0x28, AlignedVector(16)),
        ("movapd", 1, 0x29, AlignedVector(16)),
        ("movntps", 0, 0x2b, AlignedVector(16)),
        ("movntpd", 1, 0x2b, AlignedVector(16)),
        ("movntdq", 1, 0xe7, AlignedVector(16)),
        ("movdqa", 1, 0x6f, AlignedVector(16)),
        ("movdqa", 1, 0x7f, AlignedVector(16)),
        ("movdqu", 2, 0x6f, Vector(16)),
        ("movdqu", 2, 0x7f, Vector(16)),
        ("lddqu", 3, 0xf0, Vector(16)),
        ("movd", 1, 0x6e, Vector(4)),
        ("movd", 1, 0x7e, Vector(4)),
        ("movq", 2, 0x7e, Vector(8)),
        ("movq", 1, 0xd6, Vector(8)),
        ("movlps", 0, 0x12, Vector(8)),
        ("movlps", 0, 0x13, Vector(8)),
        ("movlpd", 1, 0x12, Vector(8)),
        ("movlpd", 1, 0x13, Vector(8)),
        ("movhps", 0, 0x16, Vector(8)),
        ("movhps", 0, 0x17, Vector(8)),
        ("movhpd", 1, 0x16, Vector(8)),
        ("movhpd", 1, 0x17, Vector(8)),
    ];
    let mut forms = Vec::new();
    for &(name, prefix, opcode, size) in moves {
        let prefixes: &[u8] = [&[][..], &[0x66], &[0xf3], &[0xf2]][usize::from(prefix)];
        forms.push(Form::new(name, &[0x0f, opcode], Field::Vector, size).prefix(prefixes));
        if !avx {
            continue;
        }
        // The second source of VMOVLPS and VMOVHPS loads is XMM1; the others have none.
        let merges =
            matches!((name, opcode), ("movlps" | "movlpd", 0x12) | ("movhps" | "movhpd", 0x16));
        let source = if merges { !1 & 0xf } else { 0xf };
        let vex = |long: u8| [0xc5, 0x80 | source << 3 | long << 2 | prefix, opcode];
        forms.push(Form::new(name, &vex(0), Field::Vector, size).kind(Kind::Vex));
        let long_size = match size {
            Vector(16) => Vector(32),
            AlignedVector(16) => AlignedVector(32),
            _ => continue,
        };
        forms.push(Form::new(name, &vex(1), Field::Vector, long_size).kind(Kind::Vex));
    }
    if std::arch::is_x86_feature_detected!("sse4.1") {
        forms.push(
            Form::new("movntdqa", &[0x0f, 0x38, 0x2a], Field::Vector, AlignedVector(16))
                .prefix(&[0x66]),
        );
    }
    forms
}
