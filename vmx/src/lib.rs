//! The Intel VT-x backend (a stub until its own issue).
#![no_std]
