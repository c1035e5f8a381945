//! PV drivers of a guest, as the consoles see them.

use super::Several;
use alloc::sync::Arc;
use control::guest::PvDrivers;
use control::output::OutputRing;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::Mutex;

/// PV drivers that keep what reaches them.
#[derive(Default)]
pub struct Drivers {
    typed: Mutex<Vec<u8>>,
    room: AtomicUsize,
    pub shut_down: AtomicUsize,
    /// Its target, and the most that it may have; it has what it is to have.
    pub memory_kib: Mutex<[u64; 2]>,
    /// Virtual CPUs that it was told to use.
    pub vcpus: AtomicU32,
}

impl PvDrivers for Drivers {
    fn put(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room.load(Ordering::Relaxed));
        self.typed.lock().unwrap().extend(&bytes[..count]);
        count
    }

    fn ask_to_shut_down(&self) -> bool {
        self.shut_down.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn memory_kib(&self) -> Option<u64> {
        Some(self.memory_kib.lock().unwrap()[0])
    }

    fn set_memory_target(&self, kib: u64) -> bool {
        let may = kib <= 128 << 10;
        if may {
            *self.memory_kib.lock().unwrap() = [kib; 2];
        }
        may
    }

    fn set_max_memory(&self, kib: u64) -> bool {
        let memory = &mut *self.memory_kib.lock().unwrap();
        let may = kib >= memory[0];
        if may {
            memory[1] = kib;
        }
        may
    }

    fn set_vcpus(&self, count: u32) {
        self.vcpus.store(count, Ordering::Relaxed);
    }
}

impl Drivers {
    pub fn take_typed(&self) -> String {
        String::from_utf8(core::mem::take(&mut self.typed.lock().unwrap())).unwrap()
    }
}

/// A guest with PV drivers, and the output of its PV console.
pub fn with_drivers() -> (Several, Arc<Drivers>, Arc<OutputRing>) {
    let mut bench = Several::new(2);
    let drivers = Arc::new(Drivers { room: AtomicUsize::new(100), ..Drivers::default() });
    let ports = &mut bench.guests[0].0.ports;
    ports.pv = Some(drivers.clone());
    let [_, hvc0] = ports.output.clone();
    bench.attach(0);
    bench.shown();
    (bench, drivers, hvc0)
}
