//! Requests that wait for the management port, in a queue for each client.
//!
//! One serial line cannot tell who is at its other end. Clients that share it name themselves in
//! their requests' ids, as `NAME/...`; those that do not are one client. Each has a queue of its
//! own, and they take turns, so that nobody waits behind all that another has asked for. A client
//! that is gone cannot be seen: its requests cost each other client one answer in between, and its
//! place, once all are taken, goes to one that is there.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest request.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Clients that can have requests waiting.
const MAX_CLIENTS: usize = 4;
/// Requests that wait of one client.
const MAX_REQUESTS: usize = 16;
/// Bytes of them.
const MAX_BYTES: usize = MAX_LINE_BYTES;

/// The requests that wait.
#[derive(Debug, Default)]
pub struct Requests {
    /// Those that have requests; the first is served next.
    clients: VecDeque<Client>,
    /// Requests that came so far.
    count: u64,
}

#[derive(Debug, Default)]
struct Client {
    name: String,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Its last request's number.
    last: u64,
}

impl Requests {
    /// Takes a request of the client called `name`. Returns those of another client that had to
    /// make room for it: of the one that has been silent for longest.
    ///
    /// # Errors
    /// Why the client's own queue has no room for it.
    pub fn push(&mut self, name: &str, line: Vec<u8>) -> Result<VecDeque<Vec<u8>>, &'static str> {
        self.count += 1;
        let is_known = self.clients.iter().any(|client| client.name == name);
        let dropped = if is_known { VecDeque::new() } else { self.make_room() };
        if !is_known {
            self.clients.push_back(Client { name: name.to_owned(), ..Client::default() });
        }
        let Some(client) = self.clients.iter_mut().find(|client| client.name == name) else {
            return Ok(dropped);
        };
        client.last = self.count;
        if client.lines.len() == MAX_REQUESTS || client.bytes + line.len() > MAX_BYTES {
            return Err("too many requests of this client wait");
        }
        client.bytes += line.len();
        client.lines.push_back(line);
        Ok(dropped)
    }

    /// Makes room for one more client; returns the requests that are lost by it.
    fn make_room(&mut self) -> VecDeque<Vec<u8>> {
        if self.clients.len() < MAX_CLIENTS {
            return VecDeque::new();
        }
        let silent = (0..self.clients.len()).min_by_key(|&index| self.clients[index].last);
        let client = silent.and_then(|index| self.clients.remove(index));
        client.map(|client| client.lines).unwrap_or_default()
    }

    /// The next request and its client's name.
    pub fn pop(&mut self) -> Option<(String, Vec<u8>)> {
        let mut client = self.clients.pop_front()?;
        let line = client.lines.pop_front()?;
        client.bytes -= line.len();
        let name = client.name.clone();
        if !client.lines.is_empty() {
            self.clients.push_back(client);
        }
        Some((name, line))
    }

    /// Drops what the client called `name` has asked for.
    pub fn drop_of(&mut self, name: &str) {
        self.clients.retain(|client| client.name != name);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.clients.clear();
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn push(requests: &mut Requests, name: &str, line: &str) -> Result<(), &'static str> {
        requests.push(name, line.as_bytes().to_vec()).map(|dropped| assert!(dropped.is_empty()))
    }

    fn drain(requests: &mut Requests) -> Vec<(String, String)> {
        core::iter::from_fn(|| requests.pop())
            .map(|(name, line)| (name, String::from_utf8(line).unwrap()))
            .collect()
    }

    #[test]
    fn clients_take_turns() {
        let mut requests = Requests::default();
        for number in 0..3 {
            push(&mut requests, "a", &format!("a{number}")).unwrap();
        }
        push(&mut requests, "b", "b0").unwrap();
        push(&mut requests, "", "c0").unwrap();
        let order: Vec<String> = drain(&mut requests).into_iter().map(|(_, line)| line).collect();
        assert_eq!(order, ["a0", "b0", "c0", "a1", "a2"]);
        assert!(requests.is_empty());
    }

    #[test]
    fn each_queue_is_bounded() {
        let mut requests = Requests::default();
        for _ in 0..MAX_REQUESTS {
            push(&mut requests, "a", "x").unwrap();
        }
        assert_eq!(push(&mut requests, "a", "x"), Err("too many requests of this client wait"));
        assert_eq!(requests.push("b", vec![b'x'; MAX_BYTES]), Ok(VecDeque::new()));
        assert_eq!(push(&mut requests, "b", "x"), Err("too many requests of this client wait"));
        push(&mut requests, "c", "x").unwrap();
        push(&mut requests, "d", "x").unwrap();
        requests.drop_of("b");
        push(&mut requests, "e", "x").unwrap();
        assert_eq!(drain(&mut requests).len(), MAX_REQUESTS + 3);
        push(&mut requests, "a", "x").unwrap();
        requests.clear();
        assert!(requests.is_empty());
    }

    #[test]
    fn the_client_that_has_been_silent_for_longest_makes_room() {
        let mut requests = Requests::default();
        for name in ["a", "b", "c", "d", "a"] {
            push(&mut requests, name, name).unwrap();
        }
        assert_eq!(requests.push("e", b"e".to_vec()), Ok(VecDeque::from([b"b".to_vec()])));
        let names: Vec<String> = drain(&mut requests).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "c", "d", "e", "a"]);
    }
}
