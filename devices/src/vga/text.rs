//! The characters on the screen, for harnesses and logs.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::Vga;
use super::picture::{Cursor, Format, FrameKind, Picture};

/// The characters of a text mode's screen, and its cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextScreen {
    /// Characters in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Row by row: the character (code page 437) in the low byte, the attribute in the high one.
    pub cells: Vec<u16>,
    /// Column and row of the cursor, if it is on the screen and switched on.
    pub cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// The characters of row `row`; empty past the end.
    pub fn row(&self, row: usize) -> impl Iterator<Item = char> + '_ {
        let start = row.saturating_mul(self.columns);
        let cells = self.cells.get(start..start.saturating_add(self.columns)).unwrap_or(&[]);
        cells.iter().map(|&cell| CODE_PAGE_437[usize::from(cell as u8)])
    }
}

/// The rows, each without the spaces at its end.
impl fmt::Display for TextScreen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..self.rows {
            let line: alloc::string::String = self.row(row).collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Vga {
    /// The text mode's screen; `None` in graphics modes and when no mode was set or the screen is
    /// off.
    pub fn text_screen(&self) -> Option<TextScreen> {
        let state = self.snapshot();
        let picture = Picture::new(&state, self.vram().length_bytes());
        let Format::Text { scan, .. } = &picture.format else { return None };
        let FrameKind::Text { columns, rows } = picture.info().kind else { return None };
        let (columns, rows) = (columns as usize, rows as usize);
        let planes = self.planes(state.layout);
        let mut cells = vec![0; columns * rows];
        for (row, line) in cells.chunks_exact_mut(columns).enumerate() {
            planes.load_cells(scan.wrap(scan.start, row * scan.pitch), line);
        }
        let cursor = Cursor::new(&state).and_then(|cursor| {
            let distance = cursor.address.checked_sub(scan.start)?;
            let row = distance.checked_div(scan.pitch)?;
            let column = distance % scan.pitch;
            (column < columns && row < rows).then_some((column, row))
        });
        Some(TextScreen { columns, rows, cells, cursor })
    }
}

/// The code of a character in code page 437; that of a question mark if it has none.
pub fn code_page_437(character: char) -> u8 {
    if matches!(character, ' '..='~') {
        return character as u8;
    }
    let code = CODE_PAGE_437.iter().position(|candidate| *candidate == character);
    code.map_or(b'?', |code| code as u8)
}

/// Code page 437 as the VGA's fonts draw it. Code 0 is drawn as a space.
const CODE_PAGE_437: [char; 256] = {
    let low = [
        ' ', '☺', '☻', '♥', '♦', '♣', '♠', '•', '◘', '○', '◙', '♂', '♀', '♪', '♫', '☼', '►', '◄',
        '↕', '‼', '¶', '§', '▬', '↨', '↑', '↓', '→', '←', '∟', '↔', '▲', '▼',
    ];
    let high = [
        'Ç', 'ü', 'é', 'â', 'ä', 'à', 'å', 'ç', 'ê', 'ë', 'è', 'ï', 'î', 'ì', 'Ä', 'Å', 'É', 'æ',
        'Æ', 'ô', 'ö', 'ò', 'û', 'ù', 'ÿ', 'Ö', 'Ü', '¢', '£', '¥', '₧', 'ƒ', 'á', 'í', 'ó', 'ú',
        'ñ', 'Ñ', 'ª', 'º', '¿', '⌐', '¬', '½', '¼', '¡', '«', '»', '░', '▒', '▓', '│', '┤', '╡',
        '╢', '╖', '╕', '╣', '║', '╗', '╝', '╜', '╛', '┐', '└', '┴', '┬', '├', '─', '┼', '╞', '╟',
        '╚', '╔', '╩', '╦', '╠', '═', '╬', '╧', '╨', '╤', '╥', '╙', '╘', '╒', '╓', '╫', '╪', '┘',
        '┌', '█', '▄', '▌', '▐', '▀', 'α', 'ß', 'Γ', 'π', 'Σ', 'σ', 'µ', 'τ', 'Φ', 'Θ', 'Ω', 'δ',
        '∞', 'φ', 'ε', '∩', '≡', '±', '≥', '≤', '⌠', '⌡', '÷', '≈', '°', '∙', '·', '√', 'ⁿ', '²',
        '■', '\u{a0}',
    ];
    let mut page = [' '; 256];
    let mut code = 0;
    while code < 256 {
        page[code] = match code {
            0x00..=0x1f => low[code],
            0x7f => '⌂',
            0x80..=0xff => high[code - 0x80],
            _ => code as u8 as char,
        };
        code += 1;
    }
    page
};
