//! The chord that moves the machine's own screen, keyboard and mouse round.

use super::display::{Screen, TestDisplay};
use super::several::Several;
use super::*;
use control::host::{DisplayMode, InputEvent};
use spin::Mutex;

const CONTROL: u8 = 0x1d;
const ALT: u8 = 0x38;
const NEXT: u8 = 0x1b;
const PREVIOUS: u8 = 0x1a;
const A: u8 = 0x1e;
const RELEASE: u8 = 0x80;

fn bench(count: usize, fixed: Option<DisplayMode>) -> (Several, Arc<Mutex<Screen>>) {
    let host = TestHost::leak();
    let screen = Arc::new(Mutex::new(Screen::default()));
    host.plug_display(TestDisplay { fixed, screen: screen.clone() });
    let bench = Several::on(host, count);
    for (index, (guest, _)) in bench.guests.iter().enumerate() {
        set_text_mode(&guest.ports.vga);
        DeviceMemory::write(&*guest.odd_even, 0, &[b'1' + index as u8, 7].repeat(2000));
    }
    (bench, screen)
}

impl Several {
    fn keys(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.host.input(InputEvent::KeyboardByte(byte));
        }
        self.run_ms(300);
    }

    fn chord(&mut self, key: u8) {
        self.keys(&[CONTROL, ALT, key, key, key | RELEASE, ALT | RELEASE, CONTROL | RELEASE]);
    }

    /// The guests that the letter A, typed at the machine's keyboard, comes to.
    fn typed_to(&mut self) -> Vec<usize> {
        (0..self.guests.len()).for_each(|index| _ = self.reads_keys(index));
        self.keys(&[A, A | RELEASE]);
        let came = (0..self.guests.len()).filter(|&index| {
            let keys = self.reads_keys(index);
            assert!(keys.is_empty() || keys == [0x1c, 0xf0, 0x1c], "{keys:x?}");
            !keys.is_empty()
        });
        came.collect()
    }
}

/// The character that all cells of the display show now.
fn shown(screen: &Mutex<Screen>) -> char {
    let mut screen = screen.lock();
    let cells: Vec<u16> = screen.writes.drain(..).flat_map(|(.., cells)| cells).collect();
    assert_eq!(cells.len(), 2000);
    assert!(cells.iter().all(|cell| *cell == cells[0]), "of one guest");
    char::from(cells[0] as u8)
}

#[test]
fn the_chord_moves_screen_and_keyboard_round() {
    let (mut bench, screen) = bench(3, None);
    bench.run_ms(100);
    assert_eq!((shown(&screen), bench.typed_to()), ('1', vec![0]));
    for (key, index) in [(NEXT, 1), (NEXT, 2), (NEXT, 0), (PREVIOUS, 2), (PREVIOUS, 1)] {
        bench.chord(key);
        assert_eq!(shown(&screen), char::from(b'1' + index as u8));
        assert_eq!(bench.typed_to(), [index]);
    }
}

#[test]
fn a_guest_that_loses_the_keyboard_sees_its_keys_and_buttons_come_up() {
    let (mut bench, _) = bench(2, None);
    bench.host.input(InputEvent::Mouse { dx: 0, dy: 0, dz: 0, buttons: 1 });
    bench.keys(&[A, CONTROL, ALT, NEXT]);
    let down = [0x1c, 0x14, 0x11];
    // In the order of their codes.
    let up = [0xf0, 0x14, 0xf0, 0x1c, 0xf0, 0x11];
    let keys: Vec<u8> = bench.reads_keys(0);
    assert_eq!(keys, [down.as_slice(), &up].concat());
    bench.keys(&[NEXT | RELEASE, ALT | RELEASE, CONTROL | RELEASE, A | RELEASE]);
    assert_eq!((bench.reads_keys(0), bench.reads_keys(1)), (vec![], vec![]));
}

#[test]
fn a_screen_that_is_off_shows_nothing_of_another_guests() {
    let (mut bench, screen) = bench(2, None);
    bench.run_ms(100);
    assert_eq!(shown(&screen), '1');
    vga_out(&bench.guests[1].0.ports.vga, 0x3c4, 0x2001, 2);
    bench.chord(NEXT);
    assert_eq!(shown(&screen), ' ');
}

#[test]
fn with_one_guest_the_chord_does_nothing_and_is_not_seen() {
    let (mut bench, screen) = bench(1, None);
    bench.run_ms(100);
    shown(&screen);
    bench.keys(&[CONTROL, ALT]);
    bench.reads_keys(0);
    bench.keys(&[NEXT, NEXT | RELEASE]);
    assert!(bench.reads_keys(0).is_empty());
    assert!(screen.lock().writes.is_empty());
}
