#!/bin/sh
# Finds a Rust that can build xtask, installs Debian's where there is none, and hands over to `cargo xtask "$@"`.
set -eu
cd "$(dirname "$0")/.."

RUST="cargo-web rustc-web rust-web-src rust-web-clippy rustfmt-web lld gcc libc6-dev"
# The packages that `cargo xtask` itself installs when they are needed (xtask/src/setup.rs), for
# those who cannot install: one list.
REST="acpica-tools binutils cpio dosfstools dpkg e2fsprogs gdisk grub-common grub-efi-amd64-bin grub-pc-bin gzip
isolinux mtools nasm ovmf qemu-system-x86 seabios syslinux-common xorriso"
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
        echo "Bulkhead needs Rust 1.$MINIMUM or newer, a C linker, and tools to run and test with. On Debian, as root:" >&2
        echo "    apt-get install" $RUST $REST >&2
        echo "Elsewhere: rustup (https://rustup.rs) with the target x86_64-unknown-none, gcc, and what these packages hold." >&2
        exit 1
    fi
    mkdir -p build
    echo "Installing Rust from Debian's packages (log: build/bootstrap.log) ..." >&2
    if ! { $sudo apt-get update &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $RUST; } \
        >build/bootstrap.log 2>&1 </dev/null; then
        tail -n 20 build/bootstrap.log >&2
        echo "Could not install: $RUST" >&2
        exit 1
    fi
    if ! cargo=$(find_cargo); then
        echo "Debian's packages are installed, but $(cargo --version) is too old: 1.$MINIMUM is needed." >&2
        echo "Debian 12 has a newer Rust in its security updates: add the suite bookworm-security to apt's sources." >&2
        exit 1
    fi
fi

PATH="$(dirname "$cargo"):$PATH" exec "$cargo" xtask "$@"
