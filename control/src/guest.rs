//! A guest's devices, as far as they are joined to consoles.

use crate::output::{DebugLines, OutputRing};
use alloc::string::String;
use alloc::sync::Arc;
use devices::console::ByteSink;
use devices::i8042::I8042;
use devices::uart::Uart;
use devices::vga::Vga;

/// Where a new guest's devices transmit to.
#[derive(Clone)]
pub struct OpenPorts {
    /// Of COM1.
    pub output: Arc<OutputRing>,
    /// Of the firmware's debug port.
    pub debug: Arc<dyn ByteSink>,
}

impl OpenPorts {
    /// For a guest called `name` that is being built.
    pub fn new(name: &str) -> Self {
        Self { output: Arc::new(OutputRing::new()), debug: Arc::new(DebugLines::new(name)) }
    }
}

/// The devices of one life of a guest that its consoles use.
#[derive(Clone)]
pub struct GuestPorts {
    /// The guest's name.
    pub name: String,
    /// COM1, which transmits to `output`.
    pub uart: Arc<Uart>,
    /// The output of COM1.
    pub output: Arc<OutputRing>,
    /// The screen.
    pub vga: Arc<Vga>,
    /// Keyboard and mouse.
    pub i8042: Arc<I8042>,
}
