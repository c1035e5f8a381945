#!/bin/sh
# Finds a Rust that can build xtask, installs Debian's where there is none, and hands over to `cargo xtask "$@"`.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="cargo-web rustc-web rust-web-src rust-web-clippy rustfmt-web lld gcc libc6-dev"
MINIMUM=88 # the minor version of Rust named in Cargo.toml (rust-version)

# Succeeds if the cargo named $1 is new enough and there is a linker for host programs.
usable() {
    version=$("$1" --version 2>/dev/null) || return 1
    minor=$(expr "$version" : 'cargo 1\.\([0-9]*\)') || return 1
    [ "$minor" -ge "$MINIMUM" ] && command -v cc >/dev/null 2>&1
}

find_cargo() {
    for candidate in cargo "$HOME/.cargo/bin/cargo" /usr/bin/cargo; do
        usable "$candidate" && command -v "$candidate" && return 0
    done
    return 1
}

if ! cargo=$(find_cargo); then
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null 2>&1; then
        sudo=sudo
    else
        sudo=none
    fi
    if [ "$sudo" = none ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "Bulkhead needs Rust 1.$MINIMUM or newer and a C linker. On Debian, as root:" >&2
        echo "    apt-get install $PACKAGES" >&2
        echo "Elsewhere: rustup (https://rustup.rs) with the target x86_64-unknown-none, and gcc." >&2
        exit 1
    fi
    mkdir -p build
    echo "Installing Rust from Debian's packages (log: build/bootstrap.log) ..." >&2
    if ! { $sudo apt-get update &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $PACKAGES; } \
        >build/bootstrap.log 2>&1 </dev/null; then
        tail -n 20 build/bootstrap.log >&2
        echo "Could not install: $PACKAGES" >&2
        exit 1
    fi
    cargo=$(find_cargo) || { echo "No usable cargo, although Debian's packages are installed." >&2; exit 1; }
fi

PATH="$(dirname "$cargo"):$PATH" exec "$cargo" xtask "$@"
