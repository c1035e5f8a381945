//! Registers of the IBM VGA and of the Bochs DISPI extension.
//!
//! Names and bits follow the *IBM PS/2 Hardware Interface Technical Reference, Video Subsystems*
//! (1992), chapter 2, and Bochs' `VBE_DISPI` interface (version b0c5).

use bitfield_struct::bitfield;

/// Miscellaneous output (written at 3c2h, read at 3cch).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct MiscOutput {
    /// CRTC and input status 1 at 3dxh; at 3bxh when clear.
    pub colour_ports: bool,
    /// The CPU may reach video memory.
    pub ram_enable: bool,
    /// 0: 25.175 MHz, 1: 28.322 MHz.
    #[bits(2)]
    pub clock: u8,
    #[bits(1)]
    __: u8,
    pub odd_even_page: bool,
    pub hsync_negative: bool,
    pub vsync_negative: bool,
}

/// Sequencer 1: clocking mode.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct ClockingMode {
    /// Characters 8 dots wide; 9 when clear.
    pub eight_dots: bool,
    #[bits(1)]
    __: u8,
    pub shift_load_2: bool,
    /// Every dot lasts two ticks of the clock (320 or 360 dots a line).
    pub half_dot_clock: bool,
    pub shift_load_4: bool,
    pub screen_off: bool,
    #[bits(2)]
    __: u8,
}

/// Sequencer 3: character map select. Map B draws characters whose attribute bit 3 is clear, map A
/// the others.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CharacterMaps {
    #[bits(2)]
    pub b_low: u8,
    #[bits(2)]
    pub a_low: u8,
    pub b_high: bool,
    pub a_high: bool,
    #[bits(2)]
    __: u8,
}

impl CharacterMaps {
    /// Plane 2 addresses of maps A and B. The numbering of the 8 KiB maps is interleaved: 0, 2, 4,
    /// 6 (low bits) are 16 KiB apart and the high bit adds 8 KiB.
    pub const fn offsets(self) -> [usize; 2] {
        [
            (self.a_low() as usize) << 14 | (self.a_high() as usize) << 13,
            (self.b_low() as usize) << 14 | (self.b_high() as usize) << 13,
        ]
    }
}

/// Sequencer 4: memory mode.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct MemoryMode {
    #[bits(1)]
    __: u8,
    pub extended: bool,
    /// All planes take every address; when clear, even addresses go to planes 0 and 2, odd ones to
    /// 1 and 3.
    pub sequential: bool,
    /// The low two address bits choose the plane.
    pub chain_4: bool,
    #[bits(4)]
    __: u8,
}

/// Graphics 3: data rotate and function select.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct DataRotate {
    #[bits(3)]
    pub count: u8,
    /// 0: replace, 1: and, 2: or, 3: xor with the latches.
    #[bits(2)]
    pub function: u8,
    #[bits(3)]
    __: u8,
}

/// Graphics 5: mode.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct GraphicsMode {
    #[bits(2)]
    pub write_mode: u8,
    #[bits(1)]
    __: u8,
    /// Reads compare colours (read mode 1).
    pub compare: bool,
    pub odd_even: bool,
    /// Two bits a dot from alternating planes (CGA 320 x 200).
    pub interleaved: bool,
    /// Eight bits a dot.
    pub colour_256: bool,
    #[bits(1)]
    __: u8,
}

/// Graphics 6: miscellaneous.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct GraphicsMisc {
    pub graphics: bool,
    pub chain_odd_even: bool,
    /// 0: a0000h 128 KiB, 1: a0000h 64 KiB, 2: b0000h 32 KiB, 3: b8000h 32 KiB.
    #[bits(2)]
    pub memory_map: u8,
    #[bits(4)]
    __: u8,
}

/// Attribute 10h: mode control.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct AttributeMode {
    pub graphics: bool,
    pub mono: bool,
    /// The ninth dot of characters c0h to dfh repeats the eighth.
    pub line_graphics: bool,
    pub blink: bool,
    #[bits(1)]
    __: u8,
    /// Below the split the picture is not panned.
    pub split_unpanned: bool,
    pub pel_8_bit: bool,
    /// Palette bits 5 and 4 come from the colour select register.
    pub p54_select: bool,
}

/// Attribute 14h: colour select.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct ColourSelect {
    #[bits(2)]
    pub p54: u8,
    #[bits(2)]
    pub p76: u8,
    #[bits(4)]
    __: u8,
}

/// CRTC 7: overflow, the high bits of vertical counts.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Overflow {
    pub total_8: bool,
    pub display_end_8: bool,
    pub retrace_start_8: bool,
    pub blank_start_8: bool,
    pub line_compare_8: bool,
    pub total_9: bool,
    pub display_end_9: bool,
    pub retrace_start_9: bool,
}

/// CRTC 8: preset row scan.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct PresetRowScan {
    #[bits(5)]
    pub row: u8,
    #[bits(2)]
    pub byte_pan: u8,
    #[bits(1)]
    __: u8,
}

/// CRTC 9: maximum scan line.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct MaximumScanLine {
    /// Scan lines in a character row, less one.
    #[bits(5)]
    pub last_line: u8,
    pub blank_start_9: bool,
    pub line_compare_9: bool,
    pub double_scan: bool,
}

/// CRTC 0ah: cursor start.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CursorStart {
    #[bits(5)]
    pub line: u8,
    pub off: bool,
    #[bits(2)]
    __: u8,
}

/// CRTC 0bh: cursor end.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CursorEnd {
    #[bits(5)]
    pub line: u8,
    #[bits(2)]
    pub skew: u8,
    #[bits(1)]
    __: u8,
}

/// CRTC 17h: mode control.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CrtcMode {
    /// When clear, address bit 13 comes from bit 0 of the row scan counter (CGA's two banks).
    pub linear_13: bool,
    /// When clear, address bit 14 comes from bit 1 of the row scan counter (Hercules' four banks).
    pub linear_14: bool,
    pub half_line_clock: bool,
    pub count_by_2: bool,
    #[bits(1)]
    __: u8,
    pub word_wrap_15: bool,
    /// Byte addresses; word addresses when clear.
    pub byte_mode: bool,
    pub sync_enable: bool,
}

/// Input status 1 (3dah or 3bah).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct InputStatus1 {
    /// Blanking: no dot is being shown.
    pub display_off: bool,
    #[bits(2)]
    __: u8,
    pub vertical_retrace: bool,
    #[bits(4)]
    __: u8,
}

/// DISPI register 4: enable.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct DispiEnable {
    pub enabled: bool,
    /// Reads of XRES, YRES and BPP give the greatest values.
    pub get_caps: bool,
    #[bits(3)]
    __: u8,
    pub dac_8_bit: bool,
    pub linear: bool,
    pub keep_memory: bool,
    #[bits(8)]
    __: u8,
}
