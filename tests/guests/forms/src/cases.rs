//! The cases: from the tables of `iced-x86` to bytes.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, Encoder, EncodingKind, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpCodeInfo, OpKind, Register, UsedMemory,
};

use crate::features::{Bit, bit};
use crate::layout::Mode;
use crate::preparation::{Memory, memory, segments};
use crate::{left_out, operands};

/// An instruction to be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its form.
    pub code: Code,
    /// The size of the code it stands in.
    pub mode: Mode,
    /// Its encoding.
    pub bytes: Vec<u8>,
    /// The flags that it leaves defined, of the lower 16.
    pub flags: u16,
    /// Whether it uses the stack, which is in the window then.
    pub stack: bool,
    /// Whether the stack grows.
    pub pushes: bool,
    /// Whether memory at RDI is a second operand, which is 64 bytes behind the first then.
    pub has_second: bool,
    /// Whether it writes memory, perhaps after reading it: the error code of a page fault says so.
    pub writes: bool,
    /// The value of RBP.
    pub base_pointer: BasePointer,
    /// The content of memory.
    pub memory: Memory,
    /// How many bytes from the operand on memory is filled and compared.
    pub extent: usize,
    /// How many of the operand's bytes are in the first of two pages; zero if it cannot lie in
    /// two.
    pub split: usize,
}

/// The value of RBP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasePointer {
    /// A number.
    Number,
    /// The stack pointer.
    Stack,
    /// A two.
    Two,
}

/// Cases of the same features.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The bits of CPUID.
    pub bits: Vec<Bit>,
    /// The components of XCR0.
    pub components: u32,
    /// The cases of each mnemonic.
    pub cases: BTreeMap<String, Vec<Case>>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// By name.
    pub groups: BTreeMap<String, Group>,
    /// The forms that are left out, by reason.
    pub left_out: BTreeMap<&'static str, BTreeSet<String>>,
    /// The forms that are neither covered nor left out: must be empty.
    pub forgotten: Vec<String>,
}

impl Table {
    /// Walks the tables.
    pub fn new() -> Self {
        let mut table = Self::default();
        for code in Code::values() {
            for mode in Mode::ALL {
                table.add(code, mode);
            }
        }
        table
    }

    fn add(&mut self, code: Code, mode: Mode) {
        let info = code.op_code();
        if !info.is_instruction() || !exists(info, mode) {
            return;
        }
        if let Some(reason) = left_out::reason(code, mode) {
            if has_memory(code, mode) {
                self.left_out.entry(reason).or_default().insert(format!("{code:?}"));
            }
            return;
        }
        if !has_memory(code, mode) {
            return;
        }
        match group(code).and_then(|(name, bits)| Ok((name, bits, cases(code, mode)?))) {
            Ok((name, bits, cases)) => {
                let group = self.groups.entry(name).or_default();
                group.bits = bits;
                group.components = components(info);
                group
                    .cases
                    .entry(format!("{:?}", code.mnemonic()).to_lowercase())
                    .or_default()
                    .extend(cases);
            }
            Err(why) => self.forgotten.push(format!("{code:?} in {mode:?}: {why}")),
        }
    }
}

fn exists(info: &OpCodeInfo, mode: Mode) -> bool {
    mode.pick(info.mode16(), info.mode32(), info.mode64())
}

/// Whether memory is an operand: one that is named, or the stack.
fn has_memory(code: Code, mode: Mode) -> bool {
    let is_named = code.op_code().op_kinds().iter().any(|&kind| operands::is_memory(kind));
    // The instructions that cannot be built have operands that only Knights Corner knows.
    is_named
        || match operands::instruction(code, mode) {
            Ok(instruction) => {
                !InstructionInfoFactory::new().info(&instruction).used_memory().is_empty()
            }
            Err(_) => code.op_code().encoding() == EncodingKind::MVEX,
        }
}

/// The group's name, and the bits of CPUID.
fn group(code: Code) -> Result<(String, Vec<Bit>), String> {
    let mut names = Vec::new();
    let mut bits = Vec::new();
    for &feature in code.cpuid_features() {
        if let Some(bit) = bit(feature)? {
            bits.push(bit);
            names.push(format!("{feature:?}").to_lowercase().replace('_', "."));
        }
    }
    let is_x87 = (0xd8..=0xdf).contains(&code.op_code().op_code())
        && code.op_code().encoding() == EncodingKind::Legacy;
    match (names.is_empty(), is_x87) {
        (false, _) => Ok((names.join("-"), bits)),
        (true, true) => Ok(("x87".to_owned(), bits)),
        (true, false) => Ok(("integer".to_owned(), bits)),
    }
}

/// The state components that XCR0 has to have.
fn components(info: &OpCodeInfo) -> u32 {
    match info.encoding() {
        EncodingKind::EVEX => 0xe7,
        EncodingKind::VEX | EncodingKind::XOP => 7,
        _ => 0,
    }
}

fn cases(code: Code, mode: Mode) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for plain in variants(code, mode)? {
        let mut encoder = Encoder::new(mode.bits());
        encoder.encode(&plain, mode.code_base()).map_err(|error| error.to_string())?;
        let bytes = encoder.take_buffer();
        for memory in memory(code, &plain, mode) {
            cases.push(case(code, mode, &plain, bytes.clone(), memory));
        }
    }
    Ok(cases)
}

/// The form with and without each prefix, mask, zeroing and broadcast that it may have; masks and
/// broadcasts in 64-bit code only, since all code encodes them in the same way.
fn variants(code: Code, mode: Mode) -> Result<Vec<Instruction>, String> {
    let info = code.op_code();
    let plain = operands::instruction(code, mode)?;
    let mut variants = vec![plain];
    let changed = |change: &dyn Fn(&mut Instruction)| {
        let mut instruction = plain;
        change(&mut instruction);
        instruction
    };
    for &segment in segments(code).iter().filter(|&&segment| segment != Register::None) {
        let operand = u32::from(plain.op0_kind() != OpKind::Register);
        variants.push(changed(&|instruction| instruction.set_op_register(operand, segment)));
    }
    if segments(code).len() > 1 {
        variants.remove(0);
    }
    if info.can_use_lock_prefix() {
        variants.push(changed(&|instruction| instruction.set_has_lock_prefix(true)));
    }
    if info.can_use_rep_prefix() {
        variants.push(changed(&|instruction| instruction.set_has_rep_prefix(true)));
    }
    if info.can_use_repne_prefix() {
        variants.push(changed(&|instruction| instruction.set_has_repne_prefix(true)));
    }
    if info.can_use_op_mask_register() && (mode == Mode::Bits64 || info.require_op_mask_register())
    {
        variants.push(changed(&|instruction| instruction.set_op_mask(Register::K1)));
    }
    // A masked store to memory never zeroes.
    if info.can_use_zeroing_masking() && plain.op0_kind() != OpKind::Memory && mode == Mode::Bits64
    {
        variants.push(changed(&|instruction| {
            instruction.set_op_mask(Register::K1);
            instruction.set_zeroing_masking(true);
        }));
    }
    if info.can_broadcast() && mode == Mode::Bits64 {
        variants.push(changed(&|instruction| instruction.set_is_broadcast(true)));
    }
    if info.require_op_mask_register() {
        variants.remove(0);
    }
    Ok(variants)
}

fn case(code: Code, mode: Mode, instruction: &Instruction, bytes: Vec<u8>, memory: Memory) -> Case {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_memory();
    let uses =
        |register: Register| used.iter().any(|memory| memory.base().full_register() == register);
    let is_written = |memory: &UsedMemory| {
        matches!(memory.access(), Write | CondWrite | ReadWrite | ReadCondWrite)
    };
    let base_pointer = match instruction.mnemonic() {
        Mnemonic::Enter | Mnemonic::Leave => BasePointer::Stack,
        Mnemonic::Invpcid => BasePointer::Two,
        _ => BasePointer::Number,
    };
    let (extent, split) = extent(code, instruction);
    Case {
        code,
        mode,
        bytes,
        flags: !undefined_flags(instruction),
        stack: uses(Register::RSP) || base_pointer == BasePointer::Stack,
        pushes: instruction.stack_pointer_increment() < 0,
        writes: used.iter().any(is_written),
        has_second: uses(Register::RDI) && (uses(Register::RSI) || uses(Register::RBX)),
        base_pointer,
        memory,
        extent,
        split,
    }
}

/// See [`Case::extent`] and [`Case::split`].
fn extent(code: Code, instruction: &Instruction) -> (usize, usize) {
    const USUAL: usize = 128;
    const X87_STATE: usize = 128;
    const LEGACY_STATE: usize = 512;
    const EXTENDED_STATE: usize = 0xb00;
    match instruction.mnemonic() {
        Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => {
            (LEGACY_STATE, 0x80)
        }
        _ if instruction.is_save_restore_instruction()
            && code.op_code().encoding() == EncodingKind::Legacy
            && !is_x87(instruction) =>
        {
            (EXTENDED_STATE, 0xc0)
        }
        // Its index is up to E7h.
        Mnemonic::Xlatb => (2 * USUAL, 0),
        _ if instruction.is_vsib() => (USUAL, 10),
        _ if is_x87(instruction) => (X87_STATE, instruction.memory_size().size() / 2),
        // The address is in the instruction.
        _ if instruction.op_kinds().any(|kind| kind == OpKind::Memory)
            && instruction.memory_base() == Register::None =>
        {
            (USUAL, 0)
        }
        _ => (USUAL, instruction.memory_size().size() / 2),
    }
}

fn is_x87(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Fsave | Mnemonic::Fnsave | Mnemonic::Frstor)
}

/// `RflagsBits` in the processor's order.
fn undefined_flags(instruction: &Instruction) -> u16 {
    use iced_x86::RflagsBits;
    const ORDER: [(u32, u16); 6] = [
        (RflagsBits::CF, 1 << 0),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::OF, 1 << 11),
    ];
    let undefined = instruction.rflags_undefined();
    ORDER.iter().filter(|(bit, _)| undefined & bit != 0).map(|(_, flag)| flag).sum()
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn no_form_is_forgotten() {
        assert_eq!(Table::new().forgotten, Vec::<String>::new());
    }

    /// By the manual's own notation, which is not what the table is made from.
    #[test]
    fn every_form_that_the_manual_writes_with_memory_is_covered_or_left_out() {
        let table = Table::new();
        let covered: BTreeSet<String> = table
            .groups
            .values()
            .flat_map(|group| group.cases.values().flatten())
            .map(|case| format!("{:?}", case.code))
            .chain(table.left_out.values().flatten().cloned())
            .collect();
        let is_memory = |word: &str| {
            let size =
                word.strip_prefix("vm").or(word.strip_prefix("moffs")).or(word.strip_prefix('m'));
            word == "mem"
                || size.is_some_and(|size| {
                    size.is_empty() || size.starts_with(|first: char| first.is_ascii_digit())
                })
        };
        let has_memory =
            |text: &str| text.split(|byte: char| !byte.is_ascii_alphanumeric()).any(is_memory);
        let implied = [
            "PUSH", "POP", "CALL", "RET", "IRET", "ENTER", "LEAVE", "MOVS", "STOS", "LODS", "SCAS",
            "CMPS", "XLAT", "MASKMOV",
        ];
        // These have no memory, or share the first letters.
        let others = [
            "POPCNT",
            "MOVSX",
            "MOVSD xmm1, xmm2",
            "MOVSS xmm1, xmm2",
            "MOVSHDUP",
            "MOVSLDUP",
            "CMPSS",
            "CMPSD",
            "LEA",
            "MVEX",
        ];
        let (mut seen, mut missing) = (0, Vec::new());
        for code in Code::values().filter(|code| code.op_code().is_instruction()) {
            let text = code.op_code().instruction_string();
            let is_implied = implied.iter().any(|start| text.starts_with(start))
                && !others.iter().any(|start| text.starts_with(start));
            let exists = Mode::ALL.into_iter().any(|mode| exists(code.op_code(), mode));
            if exists && (has_memory(text) || is_implied) {
                seen += 1;
                if !covered.contains(&format!("{code:?}")) {
                    missing.push(format!("{code:?}: {text}"));
                }
            }
        }
        assert!(seen > 3800, "{seen}");
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn each_case_decodes_to_its_form() {
        for case in Table::new().groups.values().flat_map(|group| group.cases.values().flatten()) {
            let options = match format!("{:?}", case.code).starts_with("Reservednop") {
                true => DecoderOptions::FORCE_RESERVED_NOP,
                false => DecoderOptions::NONE,
            };
            let decoded =
                Decoder::with_ip(case.mode.bits(), &case.bytes, case.mode.code_base(), options)
                    .decode();
            // WAIT stands before the instruction.
            let is_wait = decoded.mnemonic() == Mnemonic::Wait;
            assert!(
                is_wait || decoded.code() == case.code,
                "{:?} is decoded as {:?}",
                case.code,
                decoded.code()
            );
            assert!(is_wait || decoded.len() == case.bytes.len(), "{:?}", case.code);
        }
    }
}
