//! The AMD-V backend: VMCB, world switch, decoded exits.
