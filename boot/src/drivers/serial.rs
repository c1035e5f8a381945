//! COM1 and COM2: sending without waiting, receiving by interrupt into a ring.

use super::ring::ByteRing;
use config::command_line::{Parity, SerialSettings};
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::spec::CLK_FREQUENCY_HZ;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR, Parity as LineParity, WordLength};
use uart_16550::{BaudRate, Config, Uart16550};
use x86::io::{inb, outb};

/// COM1 as every PC has it.
pub const DEFAULT_COM1: SerialSettings = SerialSettings {
    baud: Some(DEFAULT_BAUD),
    data_bits: 8,
    parity: Parity::None,
    stop_bits: 1,
    base_port: 0x3f8,
};
/// ISA interrupt of COM1.
pub const COM1_IRQ: u8 = 4;
/// ISA interrupt of COM2.
pub const COM2_IRQ: u8 = 3;

/// COM1. Its ring holds what a person types or pastes.
pub static COM1: Port<4096> = Port::new(0x3f8, &COM1_RECEIVED);
/// COM2. Its ring holds whole requests of a program.
pub static COM2: Port<65536> = Port::new(0x2f8, &COM2_RECEIVED);

// Apart, so that they take no room in the image's file.
static COM1_RECEIVED: ByteRing<4096> = ByteRing::new();
static COM2_RECEIVED: ByteRing<65536> = ByteRing::new();

/// A serial port, with a ring of `N` received bytes.
pub struct Port<const N: usize> {
    base: AtomicU16,
    transmitter: Mutex<Uart16550<PioBackend>>,
    present: AtomicBool,
    received: &'static ByteRing<N>,
}

impl<const N: usize> Port<N> {
    const fn new(base: u16, received: &'static ByteRing<N>) -> Self {
        Self {
            base: AtomicU16::new(base),
            transmitter: Mutex::new(uart(base)),
            present: AtomicBool::new(false),
            received,
        }
    }

    /// Sets the port up, with receive interrupts; returns whether there is one.
    pub fn init(&self, settings: SerialSettings) -> bool {
        let base = settings.base_port;
        // An absent port reads all ones; do not write to what is not there.
        // SAFETY: reading the line status has no effect that matters before the initialisation.
        if base > u16::MAX - 7 || unsafe { inb(base + LINE_STATUS) } == 0xff {
            return false;
        }
        self.base.store(base, Ordering::Relaxed);
        let mut transmitter = self.transmitter.lock();
        *transmitter = uart(base);
        // SAFETY: there is a port at `base`, which nothing else drives.
        let speed = settings.baud.map_or_else(|| unsafe { Speed::left_at(base) }, Speed::of_baud);
        let present = transmitter.init(config(settings, speed)).is_ok();
        self.present.store(present, Ordering::Relaxed);
        present
    }

    /// Sends bytes; returns how many the port took without waiting. An absent port takes all, to
    /// nowhere.
    pub fn send(&self, bytes: &[u8]) -> usize {
        if !self.present.load(Ordering::Relaxed) {
            return bytes.len();
        }
        let mut sent = 0;
        while sent < bytes.len() {
            // A FIFO's worth at the most; a port that empties it at once (an emulated one) takes
            // more.
            match self.transmitter.lock().send_bytes(&bytes[sent..]) {
                0 => break,
                count => sent += count,
            }
        }
        if sent < bytes.len() {
            // More is left to send: an interrupt is to wake this CPU when there is room.
            self.set_interrupts(IER::DATA_READY | IER::THR_EMPTY);
        }
        sent
    }

    fn set_interrupts(&self, interrupts: IER) {
        // SAFETY: the port's interrupt enable register, which the crate writes in its
        // initialisation only.
        unsafe { outb(self.base() + INTERRUPT_ENABLE, interrupts.bits()) };
    }

    /// Sends bytes and waits for it, whoever holds the port: for the last words.
    pub fn send_waiting(&self, bytes: &[u8]) {
        if !self.present.load(Ordering::Relaxed) {
            return;
        }
        for &byte in bytes {
            // SAFETY: the port's line status and data registers; the machine is about to stop, so
            // that bytes mixed with another sender's are the worst that can happen. The
            // wait is bounded for ports that hang.
            unsafe {
                for _ in 0..1_000_000 {
                    if LSR::from_bits_retain(inb(self.base() + LINE_STATUS))
                        .contains(LSR::THR_EMPTY)
                    {
                        break;
                    }
                }
                outb(self.base(), byte);
            }
        }
    }

    fn base(&self) -> u16 {
        self.base.load(Ordering::Relaxed)
    }

    /// Takes one received byte.
    pub fn take(&self) -> Option<u8> {
        self.received.pop()
    }

    /// The port's interrupt: moves what has been received to the ring (bytes without room are
    /// lost). That there is room to send is known by having been woken.
    ///
    /// The interrupt line is edge-triggered, and rises again only if it has fallen: everything that
    /// raises it is served before this returns. For the same reason it must be called once when
    /// the line is connected.
    pub fn interrupt(&self) {
        for _ in 0..SERVICE_LIMIT {
            // SAFETY: reading the interrupt identification acknowledges the transmitter's
            // interrupt.
            let identification = unsafe { inb(self.base() + INTERRUPT_IDENTIFICATION) };
            match identification & INTERRUPT_CAUSE {
                cause if cause & NO_INTERRUPT != 0 => return,
                TRANSMITTER_EMPTY => self.set_interrupts(IER::DATA_READY),
                _ => self.receive(),
            }
        }
    }

    fn receive(&self) {
        for _ in 0..RECEIVE_LIMIT {
            // SAFETY: the port's line status register and receive buffer, which the transmitting
            // side leaves alone.
            unsafe {
                if !LSR::from_bits_retain(inb(self.base() + LINE_STATUS)).contains(LSR::DATA_READY)
                {
                    break;
                }
                self.received.push(inb(self.base()));
            }
        }
    }
}

/// A rate, and the clock that it is divided from.
struct Speed {
    baud: u32,
    clock_hz: u32,
}

impl Speed {
    const fn of_baud(baud: u32) -> Self {
        Self { baud, clock_hz: CLK_FREQUENCY_HZ }
    }

    /// The speed that the firmware has set, as its divisor says; that of [`DEFAULT_COM1`] if it
    /// has set none.
    ///
    /// # Safety
    /// There is a serial port at `base`, which nothing else drives.
    unsafe fn left_at(base: u16) -> Self {
        // SAFETY: the caller's promise. The line control register is put back.
        let divisor = unsafe {
            let line_control = inb(base + LINE_CONTROL);
            outb(base + LINE_CONTROL, line_control | DIVISOR_ACCESS);
            let divisor = u16::from_le_bytes([inb(base), inb(base + 1)]);
            outb(base + LINE_CONTROL, line_control);
            divisor
        };
        match divisor {
            0 => Self::of_baud(DEFAULT_BAUD),
            // One baud of a clock that needs just this divisor for it: the rate that a divisor
            // stands for need not be a whole number.
            divisor => Self { baud: 1, clock_hz: CLOCKS_PER_BIT * u32::from(divisor) },
        }
    }
}

const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_IDENTIFICATION: u16 = 2;
const LINE_CONTROL: u16 = 3;
const LINE_STATUS: u16 = 5;
const DIVISOR_ACCESS: u8 = 1 << 7;
const INTERRUPT_CAUSE: u8 = 0b1111;
const NO_INTERRUPT: u8 = 0b0001;
const TRANSMITTER_EMPTY: u8 = 0b0010;
/// Causes served in one interrupt, and bytes in one of them: a broken port that always has one must
/// not hang the machine.
const SERVICE_LIMIT: usize = 64;
const RECEIVE_LIMIT: usize = 256;

const DEFAULT_BAUD: u32 = 115_200;
/// Cycles of the divided clock that a bit takes.
const CLOCKS_PER_BIT: u32 = 16;

const fn uart(base: u16) -> Uart16550<PioBackend> {
    // SAFETY: the ports are those of a PC's COM port, or those that the command line names for one;
    // nothing else drives them. `interrupt` uses registers beside, which the crate leaves alone
    // after its initialisation.
    let Ok(uart) = (unsafe { Uart16550::new_port(base) }) else {
        panic!("no room for eight ports")
    };
    uart
}

fn config(settings: SerialSettings, speed: Speed) -> Config {
    Config {
        interrupts: IER::DATA_READY,
        fifo_trigger_level: Some(FifoTriggerLevel::Eight),
        frequency: speed.clock_hz,
        baud_rate: BaudRate::from_integer(speed.baud),
        data_bits: match settings.data_bits {
            5 => WordLength::FiveBits,
            6 => WordLength::SixBits,
            7 => WordLength::SevenBits,
            _ => WordLength::EightBits,
        },
        extra_stop_bits: settings.stop_bits > 1,
        parity: match settings.parity {
            Parity::None => LineParity::Disabled,
            Parity::Odd => LineParity::Odd,
            Parity::Even => LineParity::Even,
            Parity::Mark => LineParity::Forced1,
            Parity::Space => LineParity::Forced0,
        },
        ..Config::DEFAULT
    }
}
