//! The text that users write.

use alloc::format;
use alloc::string::String;
use config::guest::MAX_VCPUS;
use config::{CommandLine, GuestConfig};

/// A guest's configuration: whatever is accepted makes a machine that the firmware can be told of.
pub fn xl_cfg(data: &[u8]) {
    let (result, warnings) = GuestConfig::parse("fuzz.cfg", data);
    for diagnostic in warnings.iter().chain(result.as_ref().err()) {
        let line = format!("{diagnostic}");
        assert!(!diagnostic.message.is_empty() && !line.contains(char::is_control), "{line:?}");
    }
    let Ok(config) = result else { return };
    assert!((1..=MAX_VCPUS).contains(&config.vcpus) && config.memory_mib > 0);
    for (index, disk) in config.disks.iter().enumerate() {
        let is_same = |other: &config::Disk| other.device.index == disk.device.index;
        assert!(!config.disks[..index].iter().any(is_same), "two disks at one place");
    }
    let description = config.machine_description([7; 16], (0..config.max_vcpus).collect());
    let files = firmware::fw_cfg_files(&description);
    assert!(files.iter().all(|(name, _)| !name.is_empty() && name.len() < 56));
}

/// The hypervisor's command line: nothing is an error, and no word is complained of more than once.
pub fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (options, warnings) = CommandLine::parse(&text);
    assert!(warnings.len() <= text.split_ascii_whitespace().count());
    assert!((5..=8).contains(&options.com1.data_bits) && (1..=2).contains(&options.com1.stop_bits));
    assert!((1..=MAX_VCPUS).contains(&options.guest_vcpus));
}
