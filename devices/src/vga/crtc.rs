//! The CRT controller: registers, the geometry that they describe, and where the beam is.

use super::spec::*;

/// Registers of the CRT controller (ports 3x4h and 3x5h).
#[derive(Clone, Debug, Default)]
pub struct Crtc {
    pub index: u8,
    registers: [u8; 0x19],
    pub timing: Timing,
}

/// Where the beam is when, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    line_ns: u64,
    shown_ns_of_line: u64,
    frame_ns: u64,
    shown_ns_of_frame: u64,
    retrace_start_ns: u64,
}

impl Timing {
    /// The value of input status 1 at guest time `now_ns`.
    ///
    /// A real retrace pulse lasts two lines (64 us), which a guest that polls through exits could
    /// miss for many frames; here it lasts until the first line is shown again. Code that waits
    /// for its start or its end sees both once a frame all the same.
    pub fn status(&self, now_ns: u64) -> InputStatus1 {
        if self.frame_ns == 0 || self.line_ns == 0 {
            return InputStatus1::new();
        }
        let in_frame = now_ns % self.frame_ns;
        let dark =
            in_frame >= self.shown_ns_of_frame || in_frame % self.line_ns >= self.shown_ns_of_line;
        InputStatus1::new()
            .with_display_off(dark)
            .with_vertical_retrace(in_frame >= self.retrace_start_ns)
    }
}

const fn bit(flag: bool, position: u32) -> u32 {
    (flag as u32) << position
}

impl Crtc {
    const OVERFLOW: u8 = 0x07;

    pub fn read(&self) -> u8 {
        self.registers.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Registers 0 to 7 are protected by bit 7 of register 11h, but for bit 4 of the overflow
    /// register.
    pub fn write(&mut self, value: u8) {
        let protected = self.registers[0x11] & 0x80 != 0 && self.index <= Self::OVERFLOW;
        let Some(register) = self.registers.get_mut(usize::from(self.index)) else { return };
        if !protected {
            *register = value;
        } else if self.index == Self::OVERFLOW {
            let line_compare_8 = Overflow::from(value).line_compare_8();
            *register = Overflow::from(*register).with_line_compare_8(line_compare_8).into();
        }
    }

    /// True if the register at the current index takes part in [`Crtc::timing`].
    pub fn drives_timing(&self) -> bool {
        matches!(self.index, 0 | 1 | 6 | 7 | 9 | 0x10 | 0x12)
    }

    fn overflow(&self) -> Overflow {
        self.registers[7].into()
    }

    pub fn preset_row_scan(&self) -> PresetRowScan {
        self.registers[8].into()
    }

    pub fn maximum_scan_line(&self) -> MaximumScanLine {
        self.registers[9].into()
    }

    pub fn cursor_start(&self) -> CursorStart {
        self.registers[0x0a].into()
    }

    pub fn cursor_end(&self) -> CursorEnd {
        self.registers[0x0b].into()
    }

    /// First address shown, in characters (or groups of eight or four dots).
    pub fn start_address(&self) -> u16 {
        u16::from_be_bytes([self.registers[0x0c], self.registers[0x0d]])
    }

    /// The character under the cursor, counted from address 0.
    pub fn cursor_address(&self) -> u16 {
        u16::from_be_bytes([self.registers[0x0e], self.registers[0x0f]])
    }

    /// From one row to the next, in characters.
    pub fn row_pitch(&self) -> u16 {
        u16::from(self.registers[0x13]) * 2
    }

    /// The row scan line that underlines.
    pub fn underline_line(&self) -> u8 {
        self.registers[0x14] & 0x1f
    }

    /// Addresses count groups of four characters. Bits 12 and 13 then become the lowest of the
    /// address in a plane, so that bit 14 and above are beyond the plane's 64 KiB.
    pub fn counts_doublewords(&self) -> bool {
        self.registers[0x14] & 0x40 != 0
    }

    pub fn mode(&self) -> CrtcMode {
        self.registers[0x17].into()
    }

    /// Characters shown in a row.
    pub fn columns(&self) -> u32 {
        u32::from(self.registers[1]) + 1
    }

    /// Scan lines shown.
    pub fn lines(&self) -> u32 {
        let overflow = self.overflow();
        let last = u32::from(self.registers[0x12])
            | bit(overflow.display_end_8(), 8)
            | bit(overflow.display_end_9(), 9);
        last + 1
    }

    /// The last scan line above the split, after which the address starts again from 0.
    pub fn line_compare(&self) -> u32 {
        u32::from(self.registers[0x18])
            | bit(self.overflow().line_compare_8(), 8)
            | bit(self.maximum_scan_line().line_compare_9(), 9)
    }

    fn total_lines(&self) -> u32 {
        let overflow = self.overflow();
        let total =
            u32::from(self.registers[6]) | bit(overflow.total_8(), 8) | bit(overflow.total_9(), 9);
        total + 2
    }

    fn retrace_start_line(&self) -> u32 {
        let overflow = self.overflow();
        u32::from(self.registers[0x10])
            | bit(overflow.retrace_start_8(), 8)
            | bit(overflow.retrace_start_9(), 9)
    }

    /// Recomputes [`Crtc::timing`] after a register, the dot clock or the width of characters
    /// changed.
    pub fn update_timing(&mut self, misc: MiscOutput, clocking: ClockingMode) {
        let dot_hz: u64 = if misc.clock() == 1 { 28_322_000 } else { 25_175_000 };
        let dots: u64 = if clocking.eight_dots() { 8 } else { 9 };
        let character_dots = dots << u32::from(clocking.half_dot_clock());
        let total_columns = u64::from(self.registers[0]) + 5;
        let dots_ns = |dots: u64| dots * 1_000_000_000 / dot_hz;
        let line_ns = dots_ns(total_columns * character_dots);
        let total_lines = u64::from(self.total_lines());
        let shown_lines = u64::from(self.lines()).min(total_lines - 1);
        let retrace = u64::from(self.retrace_start_line()).clamp(shown_lines, total_lines - 1);
        self.timing = Timing {
            line_ns,
            shown_ns_of_line: dots_ns(u64::from(self.columns()) * character_dots).min(line_ns),
            frame_ns: line_ns * total_lines,
            shown_ns_of_frame: line_ns * shown_lines,
            retrace_start_ns: line_ns * retrace,
        };
    }
}
