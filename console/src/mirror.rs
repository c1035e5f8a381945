//! The guest's screen on the machine's own display.

use alloc::vec;
use alloc::vec::Vec;
use control::host::{Display, DisplayMode};
use devices::vga::{FrameInfo, FrameKind, Painter, Surface, TextScreen, Vga};

/// Between two looks while the picture changes.
const BUSY_PERIOD_NS: u64 = 40_000_000;
/// Between two looks while it does not.
const IDLE_PERIOD_NS: u64 = 200_000_000;
/// Looking may take one part in so many of the time.
const COST_SHARE: u64 = 10;
const MAX_PERIOD_NS: u64 = 1_000_000_000;

/// A space, grey on black.
const BLANK_CELL: u16 = 0x0720;

/// Shows one guest's screen on one display, and writes only what has changed.
#[derive(Debug)]
pub struct Mirror {
    /// The mode that was last asked for, and the one in force since.
    mode: Option<(DisplayMode, DisplayMode)>,
    /// The display has not yet refused to show text.
    shows_text: bool,
    text: TextShown,
    painter: Painter,
    period_ns: u64,
}

impl Default for Mirror {
    fn default() -> Self {
        Self::new()
    }
}

impl Mirror {
    /// A mirror that has shown nothing yet.
    pub fn new() -> Self {
        Self {
            mode: None,
            shows_text: true,
            text: TextShown::default(),
            painter: Painter::new(),
            period_ns: BUSY_PERIOD_NS,
        }
    }

    /// Another guest, or another user of the display: the next look shows everything.
    pub fn invalidate(&mut self) {
        *self = Self::new();
    }

    /// Another screen is shown from now on: all of it at the next look, and one that is off as
    /// black.
    pub fn turn(&mut self) {
        *self = Self { mode: self.mode, shows_text: self.shows_text, ..Self::new() };
    }

    /// Looks often again, because somebody is there.
    pub fn hurry(&mut self) {
        self.period_ns = BUSY_PERIOD_NS;
    }

    /// Time from a look to the next.
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Brings the display up to date; returns whether anything was written. `clock_ns` tells what a
    /// look costs.
    pub fn refresh(
        &mut self,
        vga: &Vga,
        display: &dyn Display,
        clock_ns: impl Fn() -> u64,
    ) -> bool {
        self.measured(clock_ns, |mirror| mirror.show(vga, display))
    }

    /// The same with a text screen of the hypervisor's own; false if the display shows no text.
    pub fn refresh_text(
        &mut self,
        screen: &TextScreen,
        display: &dyn Display,
        clock_ns: impl Fn() -> u64,
    ) -> bool {
        let Some(size) = self.text_size(screen, display) else { return false };
        self.measured(clock_ns, |mirror| mirror.text.show(screen, size, display));
        true
    }

    fn measured(
        &mut self,
        clock_ns: impl Fn() -> u64,
        show: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        let start_ns = clock_ns();
        let changed = show(self);
        let cost_ns = clock_ns().saturating_sub(start_ns);
        let wanted_ns = if changed {
            BUSY_PERIOD_NS
        } else {
            self.period_ns.saturating_mul(2).min(IDLE_PERIOD_NS)
        };
        self.period_ns = wanted_ns.max(cost_ns.saturating_mul(COST_SHARE).min(MAX_PERIOD_NS));
        changed
    }

    fn show(&mut self, vga: &Vga, display: &dyn Display) -> bool {
        if let Some(screen) = vga.text_screen() {
            if let Some(size) = self.text_size(&screen, display) {
                return self.text.show(&screen, size, display);
            }
        } else if vga.frame().kind == FrameKind::Blank {
            // The screen is off, perhaps only while the guest sets a mode: the display keeps its
            // own.
            match self.mode {
                None => return false,
                Some((_, DisplayMode::Text { columns, rows })) => {
                    return self.text.show(&empty_screen(), (columns.into(), rows.into()), display);
                }
                Some(_) => {}
            }
        }
        let mut surface = DotSurface { display, mode: &mut self.mode };
        self.painter.paint(vga, &mut surface) != 0
    }

    /// Columns and rows of the display, if it shows text.
    fn text_size(&mut self, screen: &TextScreen, display: &dyn Display) -> Option<(usize, usize)> {
        if !self.shows_text {
            return None;
        }
        let wanted = DisplayMode::Text { columns: clip(screen.columns), rows: clip(screen.rows) };
        let got = match self.mode {
            Some((asked, got)) if asked == wanted => got,
            _ => {
                self.text = TextShown::default();
                self.painter.invalidate();
                let got = display.request_mode(wanted);
                self.mode = Some((wanted, got));
                got
            }
        };
        match got {
            DisplayMode::Text { columns, rows } => Some((columns.into(), rows.into())),
            DisplayMode::Graphics { .. } => {
                self.shows_text = false;
                None
            }
        }
    }
}

fn clip(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

const fn empty_screen() -> TextScreen {
    TextScreen { columns: 0, rows: 0, cells: Vec::new(), cursor: None }
}

/// The state of a display in text mode.
#[derive(Debug, Default)]
struct TextShown {
    cells: Vec<u16>,
    cursor: Option<Option<(u16, u16)>>,
}

impl TextShown {
    /// Shows `screen` on a display of `size` columns and rows: cut off, or with spaces beside it.
    fn show(&mut self, screen: &TextScreen, size: (usize, usize), display: &dyn Display) -> bool {
        let (columns, rows) = size;
        let everything = self.cells.len() != columns * rows;
        if everything {
            self.cells = vec![BLANK_CELL; columns * rows];
        }
        let mut changed = everything;
        let mut line = vec![BLANK_CELL; columns];
        for (row, shown) in self.cells.chunks_exact_mut(columns.max(1)).enumerate() {
            line.fill(BLANK_CELL);
            if row < screen.rows {
                let source = screen.cells.iter().skip(row * screen.columns).take(screen.columns);
                line.iter_mut().zip(source).for_each(|(cell, &source)| *cell = source);
            }
            let differs = |(now, old): (&u16, &u16)| now != old;
            let first = line.iter().zip(&*shown).position(differs);
            let last = line.iter().zip(&*shown).rposition(differs);
            let span = if everything {
                0..columns
            } else {
                first.unwrap_or(0)..last.map_or(0, |last| last + 1)
            };
            if !span.is_empty() {
                display.write_cells(clip(span.start), clip(row), &line[span]);
                shown.copy_from_slice(&line);
                changed = true;
            }
        }
        let inside = |&(column, row): &(usize, usize)| column < columns && row < rows;
        let cursor = screen.cursor.filter(inside).map(|(column, row)| (clip(column), clip(row)));
        if self.cursor != Some(cursor) {
            self.cursor = Some(cursor);
            display.set_cursor(cursor);
            changed = true;
        }
        changed
    }
}

/// A display in a graphics mode. It puts a smaller picture in its middle by itself.
struct DotSurface<'a> {
    display: &'a dyn Display,
    mode: &'a mut Option<(DisplayMode, DisplayMode)>,
}

impl Surface for DotSurface<'_> {
    fn resize(&mut self, frame: FrameInfo) {
        let wanted = DisplayMode::Graphics {
            width: clip(frame.width as usize),
            height: clip(frame.height as usize),
        };
        *self.mode = Some((wanted, self.display.request_mode(wanted)));
    }

    fn row(&mut self, y: u32, dots: &[u32]) {
        let Some((_, DisplayMode::Graphics { width, height })) = *self.mode else { return };
        if let Ok(y) = u16::try_from(y)
            && y < height
        {
            self.display.write_pixels(0, y, &dots[..dots.len().min(width.into())]);
        }
    }
}
