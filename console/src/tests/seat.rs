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
    let round = [(NEXT, 1), (NEXT, 2), (NEXT, 3), (NEXT, 0), (PREVIOUS, 3), (PREVIOUS, 2)];
    for (key, index) in round {
        bench.chord(key);
        if index == bench.guests.len() {
            assert!(text(&screen)[0].starts_with("*** Screen and keyboard are Bulkhead's"));
            assert!(bench.typed_to().is_empty());
            screen.lock().writes.clear();
            continue;
        }
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

/// The rows of the display, as far as they were written since.
fn text(screen: &Mutex<Screen>) -> Vec<String> {
    let mut rows = vec![[b' '; 80]; 25];
    for (column, row, cells) in &screen.lock().writes {
        for (place, cell) in cells.iter().enumerate() {
            rows[usize::from(*row)][usize::from(*column) + place] = *cell as u8;
        }
    }
    rows.iter().map(|row| String::from_utf8_lossy(row).trim_end().into()).collect()
}

#[test]
fn the_prompt_is_on_the_machines_own_screen() {
    let (mut bench, screen) = bench(2, None);
    bench.chord(NEXT);
    screen.lock().writes.clear();
    bench.chord(NEXT);
    for (key, pressed) in "domid two\n".chars().flat_map(devices::keys::key_presses) {
        bench.keys(&[key.code | if pressed { 0 } else { RELEASE }]);
    }
    // The serial prompt is another one.
    bench.host.type_at(SerialPort::Com1, b"\x01\x01\x01\x01\x01\x01domname 1\r");
    bench.run_ms(200);
    let rows = text(&screen);
    assert_eq!(rows[1..4], ["bulkhead> domid two", "2", "bulkhead>"]);
    assert_eq!(screen.lock().cursor, Some((10, 3)));
    let sent = String::from_utf8(bench.host.take_sent(SerialPort::Com1)).unwrap();
    assert!(sent.contains("domname 1\r\none\r\n") && !sent.contains("domid"), "{sent}");
    // A guest that starts does not take the screen away.
    bench.consoles.detach(1);
    bench.attach(0);
    screen.lock().writes.clear();
    bench.run_ms(300);
    assert!(screen.lock().writes.is_empty());
}

#[test]
fn a_key_after_the_last_guests_end_leads_to_the_prompt() {
    let (mut bench, screen) = bench(1, None);
    bench.run_ms(100);
    assert_eq!(shown(&screen), '1');
    bench.end(0);
    bench.run_ms(500);
    assert!(screen.lock().writes.is_empty(), "its last picture stays");
    bench.keys(&[A, A | RELEASE]);
    assert_eq!(text(&screen)[1], "bulkhead>", "that key types nothing");
}

#[test]
fn a_display_without_text_has_no_prompt_on_it() {
    let fixed = DisplayMode::Graphics { width: 1024, height: 768 };
    let (mut bench, screen) = bench(1, Some(fixed));
    bench.chord(NEXT);
    assert_eq!(bench.typed_to(), [0]);
    screen.lock().requests.clear();
    bench.chord(NEXT);
    assert!(screen.lock().requests.is_empty(), "it is not tried again");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any bytes from the keyboard, chords among them: guests hear of no release without a press,
    /// and the prompt goes on answering.
    #[test]
    fn no_key_harms(
        bytes in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::prelude::any::<u8>(),
                proptest::sample::select(vec![CONTROL, ALT, NEXT, PREVIOUS, 0x1c, 0xe0])
            ],
            0..200
        )
    ) {
        let (mut bench, screen) = bench(2, None);
        for bytes in bytes.chunks(8) {
            bench.keys(bytes);
        }
        for index in 0..2 {
            let mut down = Vec::new();
            let mut is_release = false;
            for byte in bench.reads_keys(index) {
                match byte {
                    0xe0 | 0xe1 => {}
                    0xf0 => is_release = true,
                    code if core::mem::take(&mut is_release) => {
                        proptest::prop_assert!(down.contains(&code), "{code:x} came up");
                    }
                    code => down.push(code),
                }
            }
        }
        let rows = text(&screen);
        proptest::prop_assert_eq!(rows.len(), 25);
    }
}
