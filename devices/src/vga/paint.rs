//! Turning the picture into rows of dots, and only those that changed.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::Vga;
use super::picture::{Cursor, Format, FrameInfo, Line, Picture, Scan, Shift, TextStyle};
use super::planes::Planes;

/// Where a [`Painter`] paints.
pub trait Surface {
    /// The picture's size is now `frame`'s. Every row will be painted.
    fn resize(&mut self, frame: FrameInfo);
    /// Row `y` is now `dots`, each 00RRGGBBh, as many as the picture is wide.
    fn row(&mut self, y: u32, dots: &[u32]);
}

/// A character set: 256 glyphs of 32 lines of eight dots.
const FONT_BYTES: usize = 256 * 32;

/// Marks a row whose last content is not known.
const UNKNOWN: u64 = 0;

/// Paints a card's picture, remembering what it painted last: of packed pixels it reads the rows in
/// whose pages something was written since, of text and planes, which are small, all that is shown.
/// Only rows that changed are painted. One per surface.
#[derive(Debug)]
pub struct Painter {
    frame: Option<FrameInfo>,
    picture: Option<Picture>,
    /// A hash of what each row showed.
    rows: Vec<u64>,
    /// The rows that are looked at now.
    wanted: Range<u32>,
    /// The last look for writes to video memory: rows whose hash is known were read after it.
    last_look: u64,
    fonts: Fonts,
    /// The content of the row at work: bytes of video memory, or characters.
    source: Vec<u8>,
    cells: Vec<u16>,
    dots: Vec<u32>,
}

/// The two character sets in use.
#[derive(Debug)]
struct Fonts {
    sets: [Vec<u8>; 2],
    generation: Option<u32>,
}

impl Default for Painter {
    fn default() -> Self {
        Self::new()
    }
}

impl Painter {
    /// A painter that has painted nothing yet.
    pub fn new() -> Self {
        Self {
            frame: None,
            picture: None,
            rows: Vec::new(),
            wanted: 0..0,
            last_look: 0,
            fonts: Fonts { sets: [Vec::new(), Vec::new()], generation: None },
            source: Vec::new(),
            cells: Vec::new(),
            dots: Vec::new(),
        }
    }

    /// Forgets what was painted: the next [`Painter::paint`] paints all rows.
    pub fn invalidate(&mut self) {
        self.frame = None;
        self.picture = None;
    }

    /// Paints the rows of `vga`'s picture that changed since the last call; returns how many.
    pub fn paint(&mut self, vga: &Vga, surface: &mut dyn Surface) -> u32 {
        self.paint_rows(vga, 0..u32::MAX, surface)
    }

    /// Paints the picture's rows in `rows` alone, for surfaces that take them part by part, from
    /// the first to the last. A painter that does so is not for [`Painter::paint`] before it is
    /// invalidated: it does not find what changed elsewhere.
    pub fn paint_rows(&mut self, vga: &Vga, rows: Range<u32>, surface: &mut dyn Surface) -> u32 {
        let state = vga.snapshot();
        let picture = Picture::new(&state, vga.vram().length_bytes());
        let frame = picture.info();
        if self.frame.map(|old| (old.width, old.height)) != Some((frame.width, frame.height)) {
            surface.resize(frame);
            self.picture = None;
        }
        self.frame = Some(frame);
        if self.picture.as_ref() != Some(&picture) {
            self.rows.clear();
            self.fonts.generation = None;
        }
        self.rows.resize(picture.height as usize, UNKNOWN);
        let planes = vga.planes(state.layout);
        self.wanted = rows.start..rows.end.min(picture.height);
        let painted = match &picture.format {
            Format::Blank => self.paint_blank(picture.width, surface),
            Format::Text { scan, style } => {
                if self.fonts.load(&planes, style.maps, state.font_generation) {
                    self.rows.fill(UNKNOWN);
                }
                self.paint_text(&picture, scan, style, Cursor::new(&state), &planes, surface)
            }
            Format::Dots { scan, shift } => {
                self.paint_dots(&picture, scan, *shift, &planes, surface)
            }
            &Format::Packed { start_bytes, pitch_bytes, bits } => {
                self.paint_packed(&picture, start_bytes, pitch_bytes, bits, &planes, surface)
            }
        };
        self.picture = Some(picture);
        painted
    }

    /// True if row `y` showed something other than what hashes to `hash`.
    fn row_changed(&mut self, y: u32, hash: u64) -> bool {
        let Some(row) = self.rows.get_mut(y as usize) else { return false };
        core::mem::replace(row, hash) != hash
    }

    fn paint_blank(&mut self, width: u32, surface: &mut dyn Surface) -> u32 {
        self.dots.clear();
        self.dots.resize(width as usize, 0);
        let mut painted = 0;
        for y in self.wanted.clone() {
            if self.row_changed(y, !UNKNOWN) {
                surface.row(y, &self.dots);
                painted += 1;
            }
        }
        painted
    }

    fn paint_text(
        &mut self,
        picture: &Picture,
        scan: &Scan,
        style: &TextStyle,
        cursor: Option<Cursor>,
        planes: &Planes<'_>,
        surface: &mut dyn Surface,
    ) -> u32 {
        let mut painted = 0;
        let mut fetched = None;
        let mut hash = UNKNOWN;
        let mut cursor_column = None;
        for y in self.wanted.clone() {
            let line = scan.line(y);
            let source = (line.address, line.pan_dots);
            if fetched != Some(source) {
                fetched = Some(source);
                self.cells.resize(scan.columns as usize + usize::from(line.pan_dots > 0), 0);
                planes.load_cells(line.address, &mut self.cells);
                cursor_column = cursor.and_then(|cursor| {
                    let column = cursor.address.checked_sub(line.address)?;
                    (column < scan.columns as usize).then_some((column, cursor))
                });
                hash = hash_cells(&self.cells, cursor_column);
            }
            if !self.row_changed(y, hash) {
                continue;
            }
            self.dots.clear();
            let cursor_here = cursor_column.and_then(|(column, cursor)| {
                let lines = u32::from(cursor.first_line)..=u32::from(cursor.last_line);
                lines.contains(&line.row_line).then_some(column)
            });
            self.draw_cells(picture, style, scan.wide_dots, line, cursor_here);
            surface.row(y, shifted(&self.dots, line.pan_dots, picture.width));
            painted += 1;
        }
        painted
    }

    /// Draws one scan line of the characters in `cells`.
    fn draw_cells(
        &mut self,
        picture: &Picture,
        style: &TextStyle,
        wide: bool,
        line: Line,
        cursor: Option<usize>,
    ) {
        for (column, &cell) in self.cells.iter().enumerate() {
            let [character, attribute] = cell.to_le_bytes();
            let set = usize::from(attribute & 0x08 == 0);
            let glyph_line = usize::from(character) * 32 + line.row_line as usize;
            let glyph = self.fonts.sets[set].get(glyph_line).copied().unwrap_or(0);
            let full = cursor == Some(column)
                || (attribute & 0x77 == 0x01 && line.row_line == u32::from(style.underline_line));
            let glyph = if full { 0xff } else { glyph };
            let ninth =
                full || style.line_graphics && matches!(character, 0xc0..=0xdf) && glyph & 1 != 0;
            // The nine dots, the first in bit 8.
            let pattern = u32::from(glyph) << 1 | u32::from(ninth);
            let background = attribute >> 4 & if style.blink { 0x07 } else { 0x0f };
            let colours = [
                picture.palette[usize::from(background)],
                picture.palette[usize::from(attribute & 0x0f)],
            ];
            for dot in 0..style.cell_dots {
                push_dot(&mut self.dots, colours[(pattern >> (8 - dot) & 1) as usize], wide);
            }
        }
    }

    fn paint_dots(
        &mut self,
        picture: &Picture,
        scan: &Scan,
        shift: Shift,
        planes: &Planes<'_>,
        surface: &mut dyn Surface,
    ) -> u32 {
        let mut painted = 0;
        let mut fetched = None;
        let mut hash = UNKNOWN;
        for y in self.wanted.clone() {
            let line = scan.line(y);
            let source = (line.address, line.pan_dots);
            if fetched != Some(source) {
                fetched = Some(source);
                self.load_groups(scan, line, planes);
                hash = hash_bytes(&self.source);
                self.dots.clear();
            }
            if !self.row_changed(y, hash) {
                continue;
            }
            if self.dots.is_empty() {
                for group in self.source.chunks_exact(4) {
                    let group = [group[0], group[1], group[2], group[3]];
                    draw_group(&mut self.dots, &picture.palette, shift, scan.wide_dots, group);
                }
            }
            surface.row(y, shifted(&self.dots, line.pan_dots, picture.width));
            painted += 1;
        }
        painted
    }

    /// Reads the groups of one scan line, and one more where it is panned.
    fn load_groups(&mut self, scan: &Scan, line: Line, planes: &Planes<'_>) {
        let address = line.address;
        let count = scan.columns as usize + usize::from(line.pan_dots > 0);
        self.source.resize(count * 4, 0);
        let before_wrap = count.min(scan.until_wrap(address));
        let (first, second) = self.source.split_at_mut(before_wrap * 4);
        planes.load_run(address, first);
        if !second.is_empty() {
            planes.load_run(scan.wrap(address, before_wrap), second);
        }
    }

    fn paint_packed(
        &mut self,
        picture: &Picture,
        start_bytes: usize,
        pitch_bytes: usize,
        bits: u16,
        planes: &Planes<'_>,
        surface: &mut dyn Surface,
    ) -> u32 {
        let dot_bytes = usize::from(bits).div_ceil(8);
        let row_bytes = picture.width as usize * dot_bytes;
        self.source.resize(row_bytes, 0);
        let look = planes.vram.look_for_writes(start_bytes, picture.height as usize * pitch_bytes);
        let last_look = core::mem::replace(&mut self.last_look, look);
        let mut painted = 0;
        for y in self.wanted.clone() {
            let offset = start_bytes + y as usize * pitch_bytes;
            let is_known = self.rows.get(y as usize).is_some_and(|&hash| hash != UNKNOWN);
            if is_known && !planes.vram.written_since(offset, row_bytes, last_look) {
                continue;
            }
            planes.vram.read(offset, &mut self.source);
            if !self.row_changed(y, hash_bytes(&self.source)) {
                continue;
            }
            self.dots.clear();
            draw_packed(&mut self.dots, &picture.palette, bits, &self.source);
            surface.row(y, &self.dots);
            painted += 1;
        }
        painted
    }
}

impl Fonts {
    /// Reads both character sets if they may have changed; true if they were read.
    fn load(&mut self, planes: &Planes<'_>, maps: [usize; 2], generation: u32) -> bool {
        if self.generation == Some(generation) {
            return false;
        }
        self.generation = Some(generation);
        let mut groups = vec![0; FONT_BYTES * 4];
        for (set, start) in self.sets.iter_mut().zip(maps) {
            planes.load_run(start, &mut groups);
            set.clear();
            set.extend(groups.chunks_exact(4).map(|group| group[2]));
        }
        true
    }
}

fn push_dot(dots: &mut Vec<u32>, colour: u32, wide: bool) {
    dots.push(colour);
    if wide {
        dots.push(colour);
    }
}

fn draw_group(dots: &mut Vec<u32>, palette: &[u32; 256], shift: Shift, wide: bool, group: [u8; 4]) {
    let [a, b, c, d] = group;
    match shift {
        Shift::Planar => {
            for bit in (0..8).rev() {
                let plane = |byte: u8, plane: u32| (byte >> bit & 1) << plane;
                let colour = plane(a, 0) | plane(b, 1) | plane(c, 2) | plane(d, 3);
                push_dot(dots, palette[usize::from(colour)], wide);
            }
        }
        Shift::Interleaved => {
            for (low, high) in [(a, c), (b, d)] {
                for place in [6, 4, 2, 0] {
                    let colour = low >> place & 3 | (high >> place & 3) << 2;
                    push_dot(dots, palette[usize::from(colour)], wide);
                }
            }
        }
        Shift::Bytes => {
            group.iter().for_each(|&byte| push_dot(dots, palette[usize::from(byte)], wide))
        }
    }
}

fn draw_packed(dots: &mut Vec<u32>, palette: &[u32; 256], bits: u16, source: &[u8]) {
    let word = |pair: &[u8]| u32::from(u16::from_le_bytes([pair[0], pair[1]]));
    match bits {
        8 => dots.extend(source.iter().map(|&byte| palette[usize::from(byte)])),
        15 => dots.extend(source.chunks_exact(2).map(|pair| {
            let dot = word(pair);
            widen(dot >> 10, 5) << 16 | widen(dot >> 5, 5) << 8 | widen(dot, 5)
        })),
        16 => dots.extend(source.chunks_exact(2).map(|pair| {
            let dot = word(pair);
            widen(dot >> 11, 5) << 16 | widen(dot >> 5, 6) << 8 | widen(dot, 5)
        })),
        24 => {
            dots.extend(
                source.chunks_exact(3).map(|dot| u32::from_le_bytes([dot[0], dot[1], dot[2], 0])),
            );
        }
        _ => dots.extend(
            source.chunks_exact(4).map(|dot| u32::from_le_bytes([dot[0], dot[1], dot[2], 0])),
        ),
    }
}

/// The low `bits` (5 or 6) bits of `part` as eight bits, full scale to full scale.
fn widen(part: u32, bits: u32) -> u32 {
    let part = part & ((1 << bits) - 1);
    part << (8 - bits) | part >> (2 * bits - 8)
}

/// `width` dots from dot `pan_dots` on.
fn shifted(dots: &[u32], pan_dots: u32, width: u32) -> &[u32] {
    let start = pan_dots as usize;
    dots.get(start..start + width as usize).unwrap_or(dots)
}

/// Mixes `word` into `hash`: each step is a bijection, so a single changed word always shows.
const fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

fn known(hash: u64) -> u64 {
    if hash == UNKNOWN { 1 } else { hash }
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(1, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    known(rest.iter().fold(hash, |hash, &byte| mix(hash, u64::from(byte))))
}

fn hash_cells(cells: &[u16], cursor: Option<(usize, Cursor)>) -> u64 {
    let hash = cells.iter().fold(1, |hash, &cell| mix(hash, u64::from(cell)));
    known(match cursor {
        None => hash,
        Some((column, cursor)) => {
            let shape = u64::from(cursor.first_line) << 8 | u64::from(cursor.last_line);
            mix(hash, (column as u64 + 1) << 16 | shape)
        }
    })
}
