//! The mirror on the machine's display.

use super::*;
use control::host::{Display, DisplayMode};
use spin::Mutex;

const TEXT: DisplayMode = DisplayMode::Text { columns: 80, rows: 25 };

/// The calls that a display received, and its mode.
#[derive(Default)]
pub struct Screen {
    mode: Option<DisplayMode>,
    pub requests: Vec<DisplayMode>,
    pub writes: Vec<(u16, u16, Vec<u16>)>,
    pub cursor: Option<(u16, u16)>,
    rows: Vec<(u16, u16, Vec<u32>)>,
}

/// A display with a fixed mode, or any.
#[derive(Clone)]
pub struct TestDisplay {
    pub fixed: Option<DisplayMode>,
    pub screen: Arc<Mutex<Screen>>,
}

impl Display for TestDisplay {
    fn request_mode(&self, wanted: DisplayMode) -> DisplayMode {
        let mut screen = self.screen.lock();
        screen.requests.push(wanted);
        let mode = self.fixed.unwrap_or(wanted);
        screen.mode = Some(mode);
        mode
    }

    fn write_cells(&self, column: u16, row: u16, cells: &[u16]) {
        self.screen.lock().writes.push((column, row, cells.to_vec()));
    }

    fn set_cursor(&self, position: Option<(u16, u16)>) {
        self.screen.lock().cursor = position;
    }

    fn write_pixels(&self, x: u16, y: u16, pixels: &[u32]) {
        self.screen.lock().rows.push((x, y, pixels.to_vec()));
    }
}

fn bench(fixed: Option<DisplayMode>) -> (Bench, Arc<Mutex<Screen>>) {
    let host = TestHost::leak();
    let screen = Arc::new(Mutex::new(Screen::default()));
    host.plug_display(TestDisplay { fixed, screen: screen.clone() });
    (Bench::on(host, "console=com1"), screen)
}

#[test]
fn text_is_shown_as_cells_and_only_changes_are_written() {
    let (mut bench, screen) = bench(None);
    bench.attend();
    assert!(screen.lock().requests.is_empty(), "nothing to show yet");
    bench.set_text_mode();
    bench.write_text(80 * 2 + 3, "hello");
    bench.run_ns(100_000_000);
    assert_eq!(screen.lock().requests, [TEXT]);
    assert_eq!(screen.lock().writes.len(), 25);
    screen.lock().writes.clear();
    bench.run_ns(1_000_000_000);
    assert!(screen.lock().writes.is_empty());
    bench.write_text(80 * 2 + 5, "LP");
    bench.run_ns(200_000_000);
    assert_eq!(screen.lock().writes, [(5, 2, vec![0x074c, 0x0750])]);
    assert_eq!(screen.lock().cursor, Some((0, 0)));
}

#[test]
fn looks_are_rarer_while_nothing_changes() {
    let (mut bench, _) = bench(None);
    bench.set_text_mode();
    bench.attend();
    assert_eq!(bench.alarm_in_ns(), Some(40_000_000));
    bench.run_ns(1_000_000_000);
    assert!(bench.alarm_in_ns().unwrap() <= 200_000_000);
    let mut looks = 0;
    for _ in 0..5 {
        let ns = bench.alarm_in_ns().unwrap();
        bench.advance_ns(ns);
        bench.attend();
        looks += u32::from(bench.alarm_in_ns().unwrap() > 190_000_000);
    }
    assert_eq!(looks, 5);
    bench.write_text(0, "x");
    bench.advance_ns(200_000_000);
    bench.attend();
    assert_eq!(bench.alarm_in_ns(), Some(40_000_000));
}

#[test]
fn graphics_are_shown_in_the_guests_size_and_only_changed_rows_are_written() {
    let (mut bench, screen) = bench(None);
    bench.set_graphics_mode(640, 480);
    bench.attend();
    assert_eq!(screen.lock().requests, [DisplayMode::Graphics { width: 640, height: 480 }]);
    assert_eq!(screen.lock().rows.len(), 480);
    screen.lock().rows.clear();
    DeviceMemory::write(&*bench.vram, 10 * 640 * 4, &[1, 2, 3, 0]);
    bench.run_ns(200_000_000);
    let rows = core::mem::take(&mut screen.lock().rows);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].0, rows[0].1, rows[0].2[0], rows[0].2.len()), (0, 10, 0x03_0201, 640));
}

#[test]
fn a_larger_display_is_given_the_guests_rows() {
    let (mut bench, screen) = bench(Some(DisplayMode::Graphics { width: 1024, height: 768 }));
    bench.set_graphics_mode(640, 480);
    bench.run_ns(200_000_000);
    let screen = screen.lock();
    assert!(
        screen
            .rows
            .iter()
            .map(|(x, y, pixels)| (*x, *y, pixels.len()))
            .eq((0..480).map(|y| (0, y, 640)))
    );
}

#[test]
fn on_a_smaller_display_the_picture_is_cut_off() {
    let (mut bench, screen) = bench(Some(DisplayMode::Graphics { width: 320, height: 200 }));
    bench.set_graphics_mode(640, 480);
    bench.run_ns(200_000_000);
    let screen = screen.lock();
    assert_eq!(screen.rows.len(), 200);
    assert!(screen.rows.iter().all(|(x, y, pixels)| *x == 0 && *y < 200 && pixels.len() == 320));
}

#[test]
fn text_is_painted_where_the_display_has_only_dots() {
    let (mut bench, screen) = bench(Some(DisplayMode::Graphics { width: 1024, height: 768 }));
    bench.set_text_mode();
    bench.run_ns(500_000_000);
    let wanted = DisplayMode::Graphics { width: 720, height: 400 };
    assert_eq!(screen.lock().requests, [TEXT, wanted]);
    assert!(screen.lock().rows.iter().any(|(x, y, _)| (*x, *y) == (0, 399)));
    screen.lock().rows.clear();
    bench.write_text(0, "x");
    bench.run_ns(200_000_000);
    assert_eq!(screen.lock().rows.len(), 16);
}

#[test]
fn the_display_follows_the_guest_between_text_and_graphics() {
    let (mut bench, screen) = bench(None);
    bench.set_text_mode();
    bench.run_ns(200_000_000);
    bench.set_graphics_mode(640, 480);
    bench.run_ns(400_000_000);
    assert_eq!(screen.lock().mode, Some(DisplayMode::Graphics { width: 640, height: 480 }));
    for (index, value) in [(0x1ce, 4), (0x1cf, 0)] {
        bench.vga_out(index, value, 2);
    }
    screen.lock().writes.clear();
    bench.set_text_mode();
    bench.run_ns(400_000_000);
    assert_eq!(screen.lock().mode, Some(TEXT));
    assert_eq!(screen.lock().writes.len(), 25);
    bench.set_graphics_mode(640, 480);
    screen.lock().rows.clear();
    bench.run_ns(400_000_000);
    assert_eq!(screen.lock().rows.len(), 480);
}

#[test]
fn a_dark_screen_keeps_the_mode() {
    let (mut bench, screen) = bench(None);
    bench.set_text_mode();
    bench.write_text(0, "secret");
    bench.run_ns(200_000_000);
    bench.vga_out(0x3c4, 0x2001, 2);
    screen.lock().writes.clear();
    bench.run_ns(400_000_000);
    assert_eq!(screen.lock().requests, [TEXT]);
    assert_eq!(screen.lock().writes, [(0, 0, vec![0x0720; 6])]);
    assert_eq!(screen.lock().cursor, None);
}
