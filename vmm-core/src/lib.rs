//! Virtual machines and vCPUs: run loop, exit dispatch, emulator, consoles, configuration.
