#!/bin/sh
# loom 0.7.3 orders a plain store against another thread's exchange too freely: it reports
# executions that no memory model allows, so that a model of correct code can fail.
#
# One thread stores 1 and then 2, another exchanges 10 and looks again after a join, all
# sequentially consistent. An exchange that has read 0 or 1 stands directly behind that value in the
# word's modification order, before the store of 2, which is then the last value (C++20,
# [atomics.order] 10). A good guess is that loom, which tries every order, gives (0, 2), (1, 2) and
# (2, 10). It gives (0, 10) and (1, 10) too: the store of 2 is taken to have come before the
# exchange that did not see it.
#
# Seen with loom 0.7.3 from crates.io: {(0, 2), (0, 10), (1, 2), (1, 10), (2, 10)}
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'END'
[package]
name = "order"
version = "0.0.0"
edition = "2021"

[dependencies]
loom = "=0.7.3"
END
cat > "$folder/src/main.rs" <<'END'
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

fn main() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let all = seen.clone();
    loom::model(move || {
        let word = loom::sync::Arc::new(AtomicUsize::new(0));
        let other = word.clone();
        let writer = loom::thread::spawn(move || {
            other.store(1, SeqCst);
            other.store(2, SeqCst);
        });
        let exchanged = word.swap(10, SeqCst);
        writer.join().unwrap();
        all.lock().unwrap().insert((exchanged, word.load(SeqCst)));
    });
    println!("{:?}", seen.lock().unwrap());
}
END
cargo run --quiet --manifest-path "$folder/Cargo.toml" > "$folder/seen"
echo "(exchanged, last value) in loom 0.7.3: $(cat "$folder/seen")"
[ "$(cat "$folder/seen")" = "{(0, 2), (0, 10), (1, 2), (1, 10), (2, 10)}" ] || {
    echo "this has changed" >&2
    exit 1
}
