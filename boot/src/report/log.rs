//! The log: every line goes to a ring with its time, and is drained to the console port when nobody
//! waits.

use crate::cpu::tsc;
use crate::drivers::display;
use crate::drivers::display::last_screen::{COLUMNS, LastScreen};
use crate::drivers::serial::{self, COM1, COM2};
use crate::memory::image;
use crate::report::log_ring::{CAPACITY, LogRing};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use config::command_line::{ComPort, ConsoleDevice};
use control::host::SerialPort;
use control::printable::Printable;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Mutex;

static RING: Mutex<LogRing> = Mutex::new(LogRing::new());

/// Which ports show the log, a bit each.
static SINKS: AtomicU8 = AtomicU8::new(0);
const SINK_COM1: u8 = 1 << 0;
const SINK_COM2: u8 = 1 << 1;

/// A guest's unfinished line on the console is left alone for so long.
const FOREIGN_LINE_MS: u64 = 500;
/// The guest's output ended in the middle of a line, at this time stamp; 0: it did not.
static FOREIGN_LINE_TSC: AtomicU64 = AtomicU64::new(0);
/// The log has begun a line on the console that is not finished.
static MID_LINE: AtomicBool = AtomicBool::new(false);

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                Level::Error => "error: ",
                Level::Warn => "warning: ",
                Level::Info => "",
                Level::Debug => "debug: ",
                Level::Trace => "trace: ",
            };
            let mut ring = RING.lock();
            // The ring takes everything. Guests' words are among it.
            let _ = writeln!(Printable(&mut *ring), "[{}] {level}{}", Uptime::now(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Time since the image was entered, as the log shows it.
struct Uptime(u64);

impl Uptime {
    fn now() -> Self {
        Self(tsc::ticks_to_ns(tsc::read().wrapping_sub(image::boot_tsc())))
    }
}

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5}.{:06}", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
    }
}

/// Lines that are not guests' go to the ring from here on.
pub fn init() {
    // Fails only if it was set before.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}

/// Names the ports that show the log. The screen shows only the last words: it is the guests'.
pub fn set_consoles(consoles: &[ConsoleDevice]) {
    let bit = |console: &ConsoleDevice| match console {
        ConsoleDevice::Serial(ComPort::Com1) => SINK_COM1,
        ConsoleDevice::Serial(ComPort::Com2) => SINK_COM2,
        ConsoleDevice::Vga => 0,
    };
    SINKS.store(consoles.iter().map(bit).fold(0, |all, one| all | one), Ordering::Relaxed);
}

/// Sends what the ports take without waiting; true if something still waits. The slowest port sets
/// the pace.
pub fn drain() -> bool {
    if !RING.lock().has_pending() {
        return false;
    }
    let foreign_tsc = FOREIGN_LINE_TSC.load(Ordering::Relaxed);
    if foreign_tsc != 0 && !MID_LINE.load(Ordering::Relaxed) {
        if tsc::read().wrapping_sub(foreign_tsc) < tsc::hz() / 1000 * FOREIGN_LINE_MS {
            return true;
        }
        if send(b"\r\n") == 0 {
            return true;
        }
        FOREIGN_LINE_TSC.store(0, Ordering::Relaxed);
    }
    let mut ring = RING.lock();
    loop {
        let mut chunk = [0; 16];
        let length = ring.peek(&mut chunk);
        let chunk = &chunk[..length];
        // A line end goes out as two bytes, alone.
        let (text, taken) = match chunk.iter().position(|&byte| byte == b'\n') {
            Some(0) => (&b"\r\n"[..], 1),
            Some(end) => (&chunk[..end], end),
            None => (chunk, length),
        };
        if text.is_empty() {
            return false;
        }
        let sent = send(text);
        if sent == 0 {
            return true;
        }
        MID_LINE.store(text != b"\r\n", Ordering::Relaxed);
        // Of a line end, "\r" alone may have gone; terminals do not mind another.
        ring.consume(if text == b"\r\n" { usize::from(sent == 2) } else { sent.min(taken) });
    }
}

fn send(text: &[u8]) -> usize {
    let sinks = SINKS.load(Ordering::Relaxed);
    let mut sent = text.len();
    if sinks & SINK_COM1 != 0 {
        sent = sent.min(COM1.send(text));
    }
    if sinks & SINK_COM2 != 0 && sent > 0 {
        sent = sent.min(COM2.send(&text[..sent]));
    }
    sent
}

/// A guest's or the prompt's bytes for a port; a log line that has begun there is finished first.
pub fn send_foreign(port: SerialPort, bytes: &[u8]) -> usize {
    let (sink, sent) = match port {
        SerialPort::Com1 if is_mid_line(SINK_COM1) => return 0,
        SerialPort::Com2 if is_mid_line(SINK_COM2) => return 0,
        SerialPort::Com1 => (SINK_COM1, COM1.send(bytes)),
        SerialPort::Com2 => (SINK_COM2, COM2.send(bytes)),
    };
    if SINKS.load(Ordering::Relaxed) & sink != 0
        && let Some(&last) = bytes[..sent].last()
    {
        FOREIGN_LINE_TSC
            .store(if last == b'\n' { 0 } else { tsc::read().max(1) }, Ordering::Relaxed);
    }
    sent
}

fn is_mid_line(sink: u8) -> bool {
    SINKS.load(Ordering::Relaxed) & sink != 0 && MID_LINE.load(Ordering::Relaxed)
}

/// The most that [`text`] has.
pub const TEXT_BYTES: usize = CAPACITY;

/// A copy of the ring, oldest first.
pub fn text() -> Vec<u8> {
    RING.lock().to_vec()
}

/// Writes straight to the ports and to the screen, waiting for them: for the last words.
pub struct LastWords {
    screen: Option<LastScreen>,
    /// The line that the screen does not show yet.
    line: ArrayVec<u8, COLUMNS>,
}

impl LastWords {
    /// Sends what is still in the ring first.
    pub fn new() -> Self {
        // SAFETY: a CPU that held the lock does not go on: the machine is about to stop. At worst a
        // line is mixed with another.
        unsafe { RING.force_unlock() };
        // With no console named, COM1 is the best guess.
        if SINKS.load(Ordering::Relaxed) == 0 && COM1.init(serial::DEFAULT_COM1) {
            SINKS.store(SINK_COM1, Ordering::Relaxed);
        }
        let mut words = Self { screen: display::last_screen(), line: ArrayVec::new() };
        if MID_LINE.load(Ordering::Relaxed) || FOREIGN_LINE_TSC.load(Ordering::Relaxed) != 0 {
            words.send(b"\r\n");
        }
        let mut chunk = [0; 64];
        loop {
            let length = RING.lock().peek(&mut chunk);
            if length == 0 {
                return words;
            }
            RING.lock().consume(length);
            words.send_lines(&chunk[..length]);
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let sinks = SINKS.load(Ordering::Relaxed);
        if sinks & SINK_COM1 != 0 {
            COM1.send_waiting(bytes);
        }
        if sinks & SINK_COM2 != 0 {
            COM2.send_waiting(bytes);
        }
    }

    fn send_lines(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            self.send(text);
            for &byte in text {
                if self.line.is_full() {
                    self.show_line();
                }
                self.line.push(byte);
            }
            if text.len() < part.len() {
                self.send(b"\r\n");
                self.show_line();
            }
        }
    }

    fn show_line(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.add_line(&self.line);
        }
        self.line.clear();
    }
}

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.send_lines(text.as_bytes());
        Ok(())
    }
}
