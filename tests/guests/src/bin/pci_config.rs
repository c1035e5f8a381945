//! PCI configuration by mechanism 1, what every such PC has on its bus, base addresses that are
//! sized, moved and disabled, and the host bridge's memory attributes (PCI 2.2; Intel 290549,
//! 290550, 290562).

#![no_std]
#![no_main]

use conformance::clock::{self, POWER_MANAGEMENT, until};
use conformance::cpu::{inl, outb, outl, peek, poke};
use conformance::pci::{
    ADDRESS, COMMAND, COMMAND_BUS_MASTER, COMMAND_IO, COMMAND_MEMORY, DATA, ENABLE, Function,
};
use conformance::report::{check, equal, fail, skip};

conformance::topic!(run);

const HOST_BRIDGE: u32 = 0x1237_8086;
const ISA_BRIDGE: u32 = 0x7000_8086;
const IDE: u32 = 0x7010_8086;
const VGA_CLASS: u16 = 0x0300;

fn run() {
    mechanism();
    functions();
    framebuffer();
    bus_master();
    power_management();
    attributes();
}

fn mechanism() {
    let host_bridge = Function { device: 0, function: 0 };
    let address = host_bridge.address(8);
    outl(ADDRESS, address);
    equal("address-reads-back", inl(ADDRESS), address);
    outb(ADDRESS, 0x55);
    equal("address-takes-double-words-only", inl(ADDRESS), address);
    outl(ADDRESS, address & !ENABLE);
    equal("nothing-without-enable", inl(DATA), u32::MAX);
    equal("absent-function", Function { device: 31, function: 7 }.read(0), u32::MAX);
    let id = host_bridge.read(0);
    let bytes = core::array::from_fn(|index| host_bridge.read8(index as u8));
    equal("bytes", u32::from_le_bytes(bytes), id);
    equal("words", [host_bridge.read16(0), host_bridge.read16(2)], [id as u16, (id >> 16) as u16]);
    host_bridge.write(0, !id);
    equal("id-is-read-only", host_bridge.read(0), id);
    host_bridge.write(8, 0);
    equal("class-is-read-only", host_bridge.read(8) >> 16, 0x0600);
}

fn functions() {
    for (case, id, class) in [
        ("host-bridge", HOST_BRIDGE, 0x0600),
        ("isa-bridge", ISA_BRIDGE, 0x0601),
        ("ide", IDE, 0x0101),
        ("power-management", POWER_MANAGEMENT, 0x0680),
    ] {
        equal(case, Function::find(id).map(|function| function.read(8) >> 16), Some(class));
    }
    let isa_bridge = Function::find(ISA_BRIDGE).map(|function| function.read8(0x0e));
    equal("isa-bridge-has-more-functions", isa_bridge, Some(0x80));
    let routes = Function::find(ISA_BRIDGE).map(|function| {
        let before = function.read(0x60);
        function.write(0x60, 0x8b8a_0b0a);
        let routes = function.read(0x60);
        function.write(0x60, before);
        routes
    });
    equal("interrupt-routes-read-back", routes, Some(0x8b8a_0b0a));
}

const FRAMEBUFFER_CASES: [&str; 10] = [
    "framebuffer-is-32-bit-memory",
    "framebuffer-size-is-a-power-of-two",
    "framebuffer-is-aligned",
    "framebuffer-is-memory",
    "framebuffer-moves",
    "framebuffer-address-reads-back",
    "framebuffer-left-its-place",
    "framebuffer-is-back",
    "framebuffer-disabled",
    "framebuffer-enabled",
];

fn framebuffer() {
    const BAR: u8 = 0x10;
    let Some(vga) = Function::find_class(VGA_CLASS) else {
        for case in FRAMEBUFFER_CASES {
            skip(case, "the VGA is on no PCI bus");
        }
        return;
    };
    let bar = vga.read(BAR);
    let base = u64::from(bar & !0xf);
    equal("framebuffer-is-32-bit-memory", bar & 7, 0);
    let command = vga.read16(COMMAND);
    vga.write16(COMMAND, command & !COMMAND_MEMORY);
    vga.write(BAR, u32::MAX);
    let mask = vga.read(BAR) & !0xf;
    vga.write(BAR, bar);
    vga.write16(COMMAND, command | COMMAND_MEMORY);
    check(
        "framebuffer-size-is-a-power-of-two",
        mask != 0 && (!mask).wrapping_add(1).is_power_of_two(),
    );
    equal("framebuffer-is-aligned", base as u32 & !mask, 0);

    const OFFSET: u64 = 0x20_0000;
    const PATTERN: u32 = 0x1234_abcd;
    let moved = if base == 0xd000_0000 { 0xd800_0000 } else { 0xd000_0000_u64 };
    poke(base + OFFSET, PATTERN);
    equal("framebuffer-is-memory", peek::<u32>(base + OFFSET), PATTERN);
    vga.write(BAR, moved as u32);
    equal("framebuffer-moves", peek::<u32>(moved + OFFSET), PATTERN);
    equal("framebuffer-address-reads-back", vga.read(BAR) & !0xf, moved as u32);
    check("framebuffer-left-its-place", peek::<u32>(base + OFFSET) != PATTERN);
    poke(moved + OFFSET, !PATTERN);
    vga.write(BAR, bar);
    equal("framebuffer-is-back", peek::<u32>(base + OFFSET), !PATTERN);
    vga.write16(COMMAND, command & !COMMAND_MEMORY);
    check("framebuffer-disabled", peek::<u32>(base + OFFSET) != !PATTERN);
    vga.write16(COMMAND, command | COMMAND_MEMORY);
    equal("framebuffer-enabled", peek::<u32>(base + OFFSET), !PATTERN);
}

fn bus_master() {
    const BAR: u8 = 0x20;
    const MOVED: u16 = 0xdc00;
    let Some(ide) = Function::find(IDE) else { return fail("bus-master", "there is no IDE") };
    let (bar, command) = (ide.read(BAR), ide.read16(COMMAND));
    ide.write16(COMMAND, command & !COMMAND_IO);
    ide.write(BAR, u32::MAX);
    equal("bus-master-has-16-ports", ide.read(BAR) as u16, 0xfff1);
    ide.write(BAR, u32::from(MOVED));
    ide.write16(COMMAND, command | COMMAND_IO | COMMAND_BUS_MASTER);
    equal("bus-master-address-reads-back", ide.read(BAR), u32::from(MOVED) | 1);
    outl(MOVED + 4, 0x0010_0000);
    equal("bus-master-moves", inl(MOVED + 4), 0x0010_0000);
    ide.write16(COMMAND, command & !COMMAND_IO);
    equal("bus-master-disabled", inl(MOVED + 4), u32::MAX);
    ide.write(BAR, bar);
    ide.write16(COMMAND, command | COMMAND_IO);
    equal("bus-master-is-back", inl((bar as u16 & 0xfff0) + 4), 0x0010_0000);
    equal("bus-master-left-its-place", inl(MOVED + 4), u32::MAX);
}

fn power_management() {
    const PMBASE: u8 = 0x40;
    const PMREGMISC: u8 = 0x80;
    const TIMER: u16 = 8;
    const MOVED: u16 = 0xd800;
    let Some(power) = Function::find(POWER_MANAGEMENT) else {
        return fail("pm-base", "there is none");
    };
    let base = power.read(PMBASE);
    let home = base as u16 & 0xffc0;
    equal("pm-base-is-of-ports", base & 0x3f, 1);
    power.write(PMBASE, u32::from(MOVED) | 1);
    equal("pm-base-reads-back", power.read(PMBASE), u32::from(MOVED) | 1);
    let first = inl(MOVED + TIMER);
    check("pm-base-moves", first != u32::MAX && until_moved(MOVED + TIMER, first));
    equal("pm-base-left-its-place", inl(home + TIMER), u32::MAX);
    power.write(PMBASE, base);
    power.write8(PMREGMISC, 0);
    equal("pm-disabled", inl(home + TIMER), u32::MAX);
    power.write8(PMREGMISC, 1);
    check("pm-enabled", inl(home + TIMER) != u32::MAX);
    let start = clock::ticks();
    check("pm-timer-counts", until(|| clock::ticks() != start));
}

/// Whether the port soon reads something else, without the timer that may have moved.
fn until_moved(port: u16, first: u32) -> bool {
    (0..10_000).any(|_| inl(port) != first)
}

/// PAM: memory from D0000h to D3FFFh is RAM to read and to write, one of the two, or neither.
fn attributes() {
    /// The low nibble is that of D0000h to D3FFFh (82441FX, section 3.2.18).
    const PAM4: u8 = 0x5c;
    const READ: u8 = 1;
    const WRITE: u8 = 2;
    const HERE: u64 = 0xd_0000;
    let Some(bridge) = Function::find(HOST_BRIDGE) else {
        return fail("attributes", "there is no host bridge");
    };
    let before = bridge.read8(PAM4);
    let set = |attributes: u8| bridge.write8(PAM4, before & 0xf0 | attributes);
    set(READ | WRITE);
    equal("attributes-read-back", bridge.read8(PAM4) & 0x0f, READ | WRITE);
    poke(HERE, 0x1111_2222_u32);
    equal("attributes-ram", peek::<u32>(HERE), 0x1111_2222);
    set(READ);
    poke(HERE, 0x3333_4444_u32);
    equal("attributes-write-protected", peek::<u32>(HERE), 0x1111_2222);
    set(WRITE);
    poke(HERE, 0x5555_6666_u32);
    check("attributes-write-only", peek::<u32>(HERE) != 0x5555_6666);
    set(READ | WRITE);
    equal("attributes-written-underneath", peek::<u32>(HERE), 0x5555_6666);
    set(0);
    check("attributes-neither", peek::<u32>(HERE) != 0x5555_6666);
    set(READ | WRITE);
    equal("attributes-ram-again", peek::<u32>(HERE), 0x5555_6666);
    bridge.write8(PAM4, before);
}
