//! The whole-system tests, a module a subject. They are one program, so that the last test of one
//! file runs beside the first of another.

mod boot_rom;
mod configs;
mod conformance;
mod cpus;
mod disks;
mod endurance;
mod grub;
mod guests;
mod host_console;
mod host_serial;
mod hostile;
mod input;
mod installer;
mod last_words;
mod linux;
mod machine_checks;
mod net;
mod patterns;
mod posted;
mod ram;
mod rates;
mod refusals;
mod speculation;
mod spinning;
mod stepping;
mod stops;
mod tools;
mod xen;
