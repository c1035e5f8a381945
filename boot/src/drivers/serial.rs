//! COM1 and COM2: sending without waiting, receiving by interrupt into a ring.

use super::ring::ByteRing;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

const COM1_PORT: u16 = 0x3f8;
const COM2_PORT: u16 = 0x2f8;
/// ISA interrupt of COM1.
pub const COM1_IRQ: u8 = 4;
/// ISA interrupt of COM2.
pub const COM2_IRQ: u8 = 3;

/// COM1. Its ring holds what a person types or pastes.
pub static COM1: Port<4096> = Port::new(COM1_PORT);
/// COM2. Its ring holds whole requests of a program.
pub static COM2: Port<65536> = Port::new(COM2_PORT);

/// A serial port, with a ring of `N` received bytes.
pub struct Port<const N: usize> {
    base: u16,
    transmitter: Mutex<Uart16550<PioBackend>>,
    present: AtomicBool,
    received: ByteRing<N>,
}

impl<const N: usize> Port<N> {
    const fn new(base: u16) -> Self {
        // SAFETY: COM1's and COM2's ports are theirs on every PC, and nothing else drives them. `receive_interrupt`
        // reads two of the registers beside, which the crate does not read after its initialisation.
        let Ok(uart) = (unsafe { Uart16550::new_port(base) }) else { panic!("not a port") };
        Self {
            base,
            transmitter: Mutex::new(uart),
            present: AtomicBool::new(false),
            received: ByteRing::new(),
        }
    }

    /// Sets the port up for `baud`, 8n1, with receive interrupts; returns whether there is one.
    pub fn init(&self, baud: u32) -> bool {
        // An absent port reads all ones; do not write to what is not there.
        // SAFETY: reading the line status has no effect that matters before the initialisation.
        if unsafe { x86::io::inb(self.base + LINE_STATUS) } == 0xff {
            return false;
        }
        let config = Config {
            interrupts: IER::DATA_READY,
            fifo_trigger_level: Some(FifoTriggerLevel::Eight),
            baud_rate: BaudRate::from_integer(baud),
            ..Config::DEFAULT
        };
        let present = self.transmitter.lock().init(config).is_ok();
        self.present.store(present, Ordering::Relaxed);
        present
    }

    /// Sends bytes; returns how many the port took without waiting. An absent port takes all, to nowhere.
    pub fn send(&self, bytes: &[u8]) -> usize {
        if !self.present.load(Ordering::Relaxed) {
            return bytes.len();
        }
        self.transmitter.lock().send_bytes(bytes)
    }

    /// Sends bytes and waits for it, whoever holds the port: for the last words.
    pub fn send_waiting(&self, bytes: &[u8]) {
        if !self.present.load(Ordering::Relaxed) {
            return;
        }
        for &byte in bytes {
            // SAFETY: the port's line status and data registers; the machine is about to stop, so that bytes mixed
            // with another sender's are the worst that can happen. The wait is bounded for ports that hang.
            unsafe {
                for _ in 0..1_000_000 {
                    if LSR::from_bits_retain(x86::io::inb(self.base + LINE_STATUS)).contains(LSR::THR_EMPTY) {
                        break;
                    }
                }
                x86::io::outb(self.base, byte);
            }
        }
    }

    /// Takes one received byte.
    pub fn take(&self) -> Option<u8> {
        self.received.pop()
    }

    /// The port's interrupt: moves what has been received to the ring. Bytes without room are lost.
    pub fn receive_interrupt(&self) {
        for _ in 0..RECEIVE_LIMIT {
            // SAFETY: the port's line status register and receive buffer, which the transmitting side leaves alone.
            unsafe {
                if !LSR::from_bits_retain(x86::io::inb(self.base + LINE_STATUS)).contains(LSR::DATA_READY) {
                    break;
                }
                self.received.push(x86::io::inb(self.base));
            }
        }
    }
}

const LINE_STATUS: u16 = 5;
/// Bytes handled in one interrupt: a broken port that always has one must not hang the machine.
const RECEIVE_LIMIT: usize = 256;
