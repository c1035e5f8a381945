//! XenStore at the consoles.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use control::budget::Budget;
use control::host::Host;
use control::mailbox::{
    Answer, MAX_STORE_TEXT_BYTES, MAX_WATCH_EVENTS, MAX_WATCH_PATHS, WatchRequest,
};
use xen::backends::SharedStore;
use xen::store::{Local, MAX_LOCAL_EVENT_BYTES, commands};

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

/// Watches of consoles at once. A client that is gone cannot be seen: the oldest makes room.
const MAX_WATCHES: usize = 8;

/// The watches of consoles.
#[derive(Default)]
pub struct Watches {
    list: VecDeque<(u32, Local, Budget)>,
    last: u32,
}

impl Watches {
    /// Begins or ends a watch, or fetches its events.
    pub fn ask(
        &mut self,
        host: &'static dyn Host,
        store: &SharedStore,
        request: &WatchRequest,
    ) -> Answer {
        match request {
            WatchRequest::Begin { paths } => match self.begin(host, store, paths) {
                Ok(number) => Answer::Watching(number),
                Err(reason) => Answer::Failed(reason),
            },
            WatchRequest::Take { watch, count } => {
                let Some(&(_, local, _)) = self.list.iter().find(|(number, ..)| number == watch)
                else {
                    return Answer::Failed(format!("there is no watch {watch} any more"));
                };
                let count = (*count).min(MAX_WATCH_EVENTS) as usize;
                store.with(|store| {
                    let events = core::iter::from_fn(|| store.next_event(local));
                    Answer::Events(events.map(|event| event.path).take(count).collect())
                })
            }
            WatchRequest::End { watch } => {
                if let Some(index) = self.list.iter().position(|(number, ..)| number == watch) {
                    self.end(store, index);
                }
                Answer::Done
            }
        }
    }

    fn begin(
        &mut self,
        host: &'static dyn Host,
        store: &SharedStore,
        paths: &[String],
    ) -> Result<u32, String> {
        if paths.len() > MAX_WATCH_PATHS {
            return Err(format!("xenstore-watch: at most {MAX_WATCH_PATHS} paths"));
        }
        if self.list.len() >= MAX_WATCHES {
            self.end(store, 0);
        }
        let budget = Budget::reserve(host, 2 * MAX_LOCAL_EVENT_BYTES as u64);
        let budget = budget.map_err(|too_little| format!("{too_little}"))?;
        let local = store.with(|store| {
            let local = store.open();
            for path in paths {
                if store.watch(local, path, b"console").is_err() {
                    store.close(local);
                    return Err(format!("xenstore-watch: Unable to add watch on {path}"));
                }
            }
            Ok(local)
        })?;
        self.last = self.last.wrapping_add(1);
        self.list.push_back((self.last, local, budget));
        Ok(self.last)
    }

    fn end(&mut self, store: &SharedStore, index: usize) {
        if let Some((_, local, _)) = self.list.remove(index) {
            store.with(|store| store.close(local));
        }
    }
}
