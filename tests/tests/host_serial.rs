//! The machine's own serial port, as the command line wants it.

use anyhow::{Context, ensure};
use serde_json::json;
use tests::{Guest, Machine, PATIENCE, Result, Spec, spec, start};

/// The port's divisor, read by QEMU's monitor behind the hypervisor's back.
fn divisor(machine: &mut Machine) -> Result<u16> {
    let mut command = |line: &str| -> Result<String> {
        let params = json!({ "command-line": line });
        let said = machine.host_control().call("human-monitor-command", params, PATIENCE)?;
        Ok(said.as_str().unwrap_or_default().trim().to_owned())
    };
    command("stop")?;
    command("o /b 0x3fb 0x83")?;
    // "portb[0x03f8] = 0x0c"
    let mut read = |port: &str| -> Result<u8> {
        let said = command(&format!("i /b {port}"))?;
        let digits = said.rsplit_once("0x").with_context(|| format!("{port}: {said}"))?.1;
        Ok(u8::from_str_radix(digits, 16)?)
    };
    Ok(u16::from_le_bytes([read("0x3f8")?, read("0x3f9")?]))
}

#[test]
fn its_speed_is_that_of_the_command_line_or_stays_the_firmwares() -> Result<()> {
    // QEMU's port begins with 9600 baud, and SeaBIOS leaves it so.
    for (cmdline, expected) in [("com1=auto", 12), ("com1=57600", 2), ("", 1)] {
        let mut machine = start(&Spec { cmdline: cmdline.into(), ..spec(Guest::Input)? })?;
        machine.expect_serial("INPUT keys")?;
        let divisor = divisor(&mut machine)?;
        ensure!(divisor == expected, "{cmdline:?}: the divisor is {divisor}");
    }
    Ok(())
}
