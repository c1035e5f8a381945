//! XenStore at the consoles.

use alloc::string::String;
use alloc::vec::Vec;
use control::mailbox::{Answer, MAX_STORE_TEXT_BYTES};
use xen::backends::SharedStore;
use xen::store::commands;

/// Below a text that would be longer than a console takes.
const REST: &str = "...\n";

/// The output of one of Xen's commands for the store.
pub fn command(store: &SharedStore, name: &str, words: &[String]) -> Answer {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut text = String::new();
    let mut is_full = false;
    let print = |line: &str| {
        is_full |= text.len() + line.len() + 1 + REST.len() > MAX_STORE_TEXT_BYTES;
        if !is_full {
            text.push_str(line);
            text.push('\n');
        }
    };
    match store.with(|store| commands::run(store, name, &words, print)) {
        Ok(()) if is_full => Answer::Text(text + REST),
        Ok(()) => Answer::Text(text),
        Err(reason) => Answer::Failed(reason),
    }
}
