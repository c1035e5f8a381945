//! The machine's own display: VGA text, the Bochs DISPI card's graphics modes, or the framebuffer
//! that the boot loader set up. No mode is set before one is asked for.

mod dispi;
mod framebuffer;
pub mod last_screen;
mod vga_text;

use control::host::{Display, DisplayMode};
use dispi::Dispi;
use framebuffer::Surface;
use handover::{Handover, Screen};
use last_screen::LastScreen;
use spin::{Mutex, Once};
use vga_text::{SavedText, VgaText};

static DISPLAY: Once<HostDisplay> = Once::new();

/// Looks for a display; the text says what was found.
pub fn init(handover: &Handover) -> &'static str {
    let text = VgaText::find();
    let dispi = Dispi::find();
    let fixed = match handover.screen() {
        Screen::Framebuffer(framebuffer) => Surface::new(&framebuffer),
        _ => None,
    };
    let (mode, found) = match (&text, &fixed, &dispi) {
        (Some(_), _, Some(_)) => (vga_text::MODE, "VGA text, DISPI graphics"),
        (Some(_), _, None) => (vga_text::MODE, "VGA text"),
        (None, Some(surface), Some(_)) => (surface.mode(), "DISPI graphics"),
        (None, Some(surface), None) => (surface.mode(), "framebuffer"),
        (None, None, Some(_)) => (DisplayMode::Graphics { width: 0, height: 0 }, "DISPI graphics"),
        (None, None, None) => return "no display",
    };
    let state = State { mode, text, dispi, surface: fixed, saved: None };
    DISPLAY.call_once(|| HostDisplay(Mutex::new(state)));
    found
}

/// The display, if there is one.
pub fn get() -> Option<&'static dyn Display> {
    DISPLAY.get().map(|display| display as &dyn Display)
}

/// A screen for the last words of a CPU that runs alone and does not go on; `None` where there is
/// none.
pub fn last_screen() -> Option<LastScreen> {
    if let Some(text) = VgaText::find() {
        return Some(LastScreen::text(text));
    }
    let display = &DISPLAY.get()?.0;
    // SAFETY: no CPU that held the lock goes on (above).
    unsafe { display.force_unlock() };
    let surface = display.lock().surface.clone()?;
    Some(LastScreen::pixels(surface))
}

struct HostDisplay(Mutex<State>);

struct State {
    mode: DisplayMode,
    /// The machine came up in text mode.
    text: Option<VgaText>,
    dispi: Option<Dispi>,
    /// Where pixels go.
    surface: Option<Surface>,
    /// The registers and memory that going back to text mode takes.
    saved: Option<SavedText>,
}

impl State {
    fn enter_text(&mut self) {
        let (Some(text), DisplayMode::Graphics { .. }) = (&mut self.text, self.mode) else {
            return;
        };
        if let (Some(dispi), Some(saved)) = (&self.dispi, self.saved.take()) {
            dispi.disable();
            saved.restore();
            text.clear();
            self.mode = vga_text::MODE;
        }
    }

    fn enter_graphics(&mut self, width: u16, height: u16) {
        if let Some(dispi) = &self.dispi
            && self.mode != (DisplayMode::Graphics { width, height })
            && dispi.can_show(width, height)
        {
            if let DisplayMode::Text { .. } = self.mode {
                self.saved = Some(SavedText::save());
            }
            let surface = dispi.set_mode(width, height);
            self.mode = surface.mode();
            self.surface = Some(surface);
        }
        // A picture smaller than the screen is shown in its middle.
        if let Some(surface) = &mut self.surface {
            surface.center(width, height);
        }
    }
}

impl Display for HostDisplay {
    fn request_mode(&self, wanted: DisplayMode) -> DisplayMode {
        let mut state = self.0.lock();
        match wanted {
            DisplayMode::Text { .. } => state.enter_text(),
            DisplayMode::Graphics { width, height } => state.enter_graphics(width, height),
        }
        state.mode
    }

    fn write_cells(&self, column: u16, row: u16, cells: &[u16]) {
        let state = self.0.lock();
        if let (DisplayMode::Text { .. }, Some(text)) = (state.mode, &state.text) {
            text.write_cells(column, row, cells);
        }
    }

    fn set_cursor(&self, position: Option<(u16, u16)>) {
        let mut state = self.0.lock();
        if let (DisplayMode::Text { .. }, Some(text)) = (state.mode, &mut state.text) {
            text.set_cursor(position);
        }
    }

    fn write_pixels(&self, x: u16, y: u16, pixels: &[u32]) {
        let state = self.0.lock();
        if let (DisplayMode::Graphics { .. }, Some(surface)) = (state.mode, &state.surface) {
            surface.write_pixels(x, y, pixels);
        }
    }
}
