//! `cargo xtask symbolize`: names for the addresses of a backtrace that the hypervisor printed.

use anyhow::{Result, anyhow};

use crate::paths;

/// Returns `log` with a line `at FUNCTION (FILE:LINE)` behind each line that has a frame, `#N
/// 0xADDRESS`.
///
/// # Errors
/// If there is no `build/bulkhead.debug` of the image that printed the log.
pub fn symbolize(log: &str) -> Result<String> {
    let image = paths::debug_image();
    let loader = addr2line::Loader::new(&image).map_err(|error| {
        anyhow!("{}: {error} (build it by `cargo xtask build`)", image.display())
    })?;
    let mut output = String::new();
    for line in log.lines() {
        output += line;
        output.push('\n');
        let Some((number, address)) = frame(line) else { continue };
        // A frame holds the address to return to: the call is before it. Frame 0 is where the CPU
        // is.
        let address = if number == 0 { address } else { address.saturating_sub(1) };
        let mut frames = loader.find_frames(address).map_err(|error| anyhow!("{error}"))?;
        let mut known = false;
        while let Some(frame) = frames.next()? {
            let name = frame
                .function
                .map(|name| name.demangle().map(|name| name.into_owned()))
                .transpose()?;
            let place =
                frame.location.and_then(|place| Some(format!("{}:{}", place.file?, place.line?)));
            output += &format!(
                "        at {} ({})\n",
                name.as_deref().unwrap_or("?"),
                place.as_deref().unwrap_or("?")
            );
            known = true;
        }
        if let Some(symbol) = loader.find_symbol(address).filter(|_| !known) {
            output += &format!("        at {symbol}\n");
        }
    }
    Ok(output)
}

/// The frame's number and address, if `line` has one.
fn frame(line: &str) -> Option<(u32, u64)> {
    let (_, frame) = line.split_once('#')?;
    let (number, address) = frame.split_once(' ')?;
    let address = address.trim_start().strip_prefix("0x")?;
    let end =
        address.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(address.len());
    Some((number.parse().ok()?, u64::from_str_radix(&address[..end], 16).ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn frames_are_found_in_log_lines() {
        assert_eq!(
            super::frame("[    1.25] #12 0xffff800000201a3c extra"),
            Some((12, 0xffff_8000_0020_1a3c))
        );
        assert_eq!(super::frame("  #0  0x2010"), Some((0, 0x2010)));
        assert_eq!(super::frame("vector #14 at 0x10"), None);
        assert_eq!(super::frame("#GP(0)"), None);
    }
}
