//! Bytes on their way out of a serial port of the machine.

use alloc::collections::VecDeque;
use control::host::{Host, SerialPort};

/// Sends at most `limit` bytes of `queue` to `port`, as far as it takes them.
pub fn send_some(host: &dyn Host, port: SerialPort, queue: &mut VecDeque<u8>, limit: usize) {
    let mut left = limit;
    loop {
        let (first, _) = queue.as_slices();
        let part = &first[..first.len().min(left)];
        if part.is_empty() {
            return;
        }
        let wanted = part.len();
        let sent = host.serial_write(port, part).min(wanted);
        queue.drain(..sent);
        left -= sent;
        if sent < wanted {
            return;
        }
    }
}
