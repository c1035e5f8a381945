//! The guest's firmware: SeaBIOS in memory, fw_cfg files, ACPI, SMBIOS, e820.
