//! `xenstore-watch` at a prompt: events are fetched, one after the other, until there have been as
//! many as were asked for or the person at the prompt ends it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::mailbox::{Answer, Client, MAX_WATCH_EVENTS, Mailbox, Request, WatchRequest};

/// From one look for events to the next.
const PERIOD_NS: u64 = 50_000_000;
/// Until the next look for an answer.
const RETRY_NS: u64 = 1_000_000;

/// A watch that a prompt shows.
pub struct Watch {
    machine: Arc<Mailbox>,
    client: Client,
    /// Its number, while there is a watch.
    number: Option<u32>,
    /// So many events are still to be shown.
    left: Option<u32>,
    is_asked: bool,
    is_ending: bool,
    next_ns: u64,
}

/// Lines to show, and whether those were the last.
#[derive(Debug, Default)]
pub struct Shown {
    /// Lines.
    pub text: String,
    /// The watch has ended.
    pub is_last: bool,
}

impl Watch {
    /// Begins to watch nodes, for `count` events at the most.
    pub fn begin(
        machine: &Arc<Mailbox>,
        client: Client,
        paths: Vec<String>,
        count: Option<u32>,
    ) -> Self {
        let mut watch = Self {
            machine: machine.clone(),
            client,
            number: None,
            left: count,
            is_asked: false,
            is_ending: false,
            next_ns: 0,
        };
        watch.ask(WatchRequest::Begin { paths });
        watch
    }

    /// It is to end.
    pub const fn end(&mut self) {
        self.is_ending = true;
    }

    /// True once it is to end.
    pub const fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// When to call [`Watch::attend`] again.
    pub fn due_ns(&self, now_ns: u64, may_show: bool) -> u64 {
        if self.is_asked || self.is_ending {
            now_ns + RETRY_NS
        } else if may_show {
            self.next_ns
        } else {
            self.next_ns.max(now_ns + RETRY_NS)
        }
    }

    fn ask(&mut self, request: WatchRequest) {
        self.is_asked = self.machine.post(self.client, Request::Watch(request));
    }

    /// Looks for answers and events. Unless it `may_show` more, events wait in the store, which
    /// bounds them.
    pub fn attend(&mut self, now_ns: u64, may_show: bool) -> Shown {
        let mut text = String::new();
        if self.is_asked {
            let Some(answer) = self.machine.take_answer(self.client) else {
                return Shown::default();
            };
            self.is_asked = false;
            match answer {
                Answer::Watching(number) => self.number = Some(number),
                Answer::Events(paths) => {
                    self.next_ns = now_ns + PERIOD_NS;
                    self.left = self.left.map(|left| left.saturating_sub(paths.len() as u32));
                    if !self.is_ending {
                        paths.iter().for_each(|path| text.extend([path, "\n"]));
                    }
                }
                Answer::Failed(reason) => {
                    return Shown { text: reason + "\n", is_last: true };
                }
                _ => {}
            }
        }
        self.is_ending |= self.left == Some(0);
        let Some(watch) = self.number else { return Shown { text, is_last: true } };
        if self.is_ending {
            self.number = None;
            self.ask(WatchRequest::End { watch });
        } else if may_show && now_ns >= self.next_ns {
            let count = self.left.unwrap_or(MAX_WATCH_EVENTS).min(MAX_WATCH_EVENTS);
            self.ask(WatchRequest::Take { watch, count });
        }
        Shown { text, is_last: false }
    }
}
