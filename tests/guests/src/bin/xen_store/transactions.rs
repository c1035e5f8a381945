//! Transactions of one guest that meet each other.

use conformance::report::{check, equal};
use conformance::xen::store::{Store, kind::*};

use crate::operations::{OK, read, remove, write};

type Reply = Result<&'static [u8], &'static str>;

/// The number of a new transaction: 0, which none has, if there is none.
fn start(store: Store) -> u32 {
    store.begin().unwrap_or(0)
}

fn end(store: Store, transaction: u32, commit: bool) -> Reply {
    store.ask(TRANSACTION_END, transaction, &[if commit { b"T\0" } else { b"F\0" }])
}

fn read_in(store: Store, transaction: u32, path: &str) -> Reply {
    store.ask(READ, transaction, &[path.as_bytes(), b"\0"])
}

fn write_in(store: Store, transaction: u32, path: &str, value: &[u8]) -> Reply {
    store.ask(WRITE, transaction, &[path.as_bytes(), b"\0", value])
}

pub fn run(store: Store) {
    let _ = (write(store, "data/t", b"old"), write(store, "data/u", b"old"));
    let first = start(store);
    check("transaction", first != 0);
    equal("transaction-writes", write_in(store, first, "data/t", b"new"), OK);
    equal("transaction-sees-it", read_in(store, first, "data/t"), Ok(b"new"));
    equal("others-do-not", read(store, "data/t"), Ok(b"old"));
    equal("transaction-ends", (end(store, first, true), read(store, "data/t")), (OK, Ok(b"new")));
    equal("transaction-is-over", end(store, first, true), Err("ENOENT"));
    equal("transaction-that-is-not", read_in(store, 0x7777_7777, "data/t"), Err("ENOENT"));

    let first = start(store);
    let _ = write_in(store, first, "data/t", b"never");
    equal(
        "transaction-dropped",
        (end(store, first, false), read(store, "data/t")),
        (OK, Ok(b"new")),
    );

    // Both change the same node: the second one to end has to begin again.
    let (first, second) = (start(store), start(store));
    check("transactions-differ", first != second);
    equal("both-write-1", write_in(store, first, "data/t", b"1"), OK);
    equal("both-write-2", write_in(store, second, "data/t", b"2"), OK);
    equal("both-see-their-own", read_in(store, first, "data/t"), Ok(b"1"));
    equal("first-ends", end(store, first, true), OK);
    equal("second-conflicts", end(store, second, true), Err("EAGAIN"));
    equal("first-stays", read(store, "data/t"), Ok(b"1"));
    equal("second-is-over", end(store, second, true), Err("ENOENT"));

    // Different nodes do not matter, nor do writes elsewhere.
    let (first, second) = (start(store), start(store));
    let _ = (write_in(store, first, "data/t", b"3"), write_in(store, second, "data/u", b"4"));
    let _ = write(store, "data/elsewhere", b"x");
    equal("apart-1", end(store, first, true), OK);
    equal("apart-2", end(store, second, true), OK);
    equal("apart-t", read(store, "data/t"), Ok(b"3"));
    equal("apart-u", read(store, "data/u"), Ok(b"4"));

    // A node that was read has to be as it was.
    let first = start(store);
    equal("read-of-old", read_in(store, first, "data/t"), Ok(b"3"));
    let _ = write(store, "data/t", b"changed");
    let _ = write_in(store, first, "data/u", b"by what was read");
    equal("read-of-old-conflicts", end(store, first, true), Err("EAGAIN"));
    equal("read-of-old-changes-nothing", read(store, "data/u"), Ok(b"4"));

    // One removes what the other looks for.
    let first = start(store);
    equal("gone-read", read_in(store, first, "data/t"), Ok(b"changed"));
    let _ = remove(store, "data/t");
    let _ = write_in(store, first, "data/u", b"5");
    equal("gone-conflicts", end(store, first, true), Err("EAGAIN"));

    let first = start(store);
    let nested = store.ask(TRANSACTION_START, first, &[b"\0"]);
    equal("nested", nested, Err("EBUSY"));
    equal("end-wrong", store.ask(TRANSACTION_END, first, &[b"X\0"]), Err("EINVAL"));
    let _ = end(store, first, false);
    equal("end-of-none", end(store, 0, true), Err("ENOENT"));

    // One more than ten, as xenstored compares.
    let mut transactions = [0; 11];
    for transaction in &mut transactions {
        *transaction = start(store);
    }
    check("eleven-transactions", !transactions.contains(&0));
    equal("twelve-transactions", store.ask(TRANSACTION_START, 0, &[b"\0"]), Err("ENOSPC"));
    equal("reset-watches", store.ask(RESET_WATCHES, 0, &[b"\0"]), OK);
    equal("reset-ends-transactions", end(store, transactions[3], true), Err("ENOENT"));
    let again = start(store);
    equal("transaction-after-reset", end(store, again, false), OK);
    let _ = (remove(store, "data/u"), remove(store, "data/elsewhere"));
}
