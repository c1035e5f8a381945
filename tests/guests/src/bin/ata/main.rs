//! The hard disk on IDE (ATA/ATAPI-6; SFF-8038i): identification, reads and writes by PIO and by
//! bus-master DMA with every kind of address, errors, interrupts, resets.

#![no_std]
#![no_main]

mod disk;

use conformance::Global;
use conformance::clock::until;
use conformance::cpu::{cli, inb, inl, outb, outl, peek, poke, sti};
use conformance::ide::{
    ABORTED, BUSY, BusMaster, CONTROL, DATA_REQUEST, Drive, ERROR, NO_INTERRUPTS, READY,
};
use conformance::interrupts::{Frame, handle};
use conformance::pic;
use conformance::report::{check, equal, fail, skip, value};

use disk::*;

conformance::topic!(run);

fn run() {
    pic::set_up();
    let Some(drive) = Drive::find([0, 0]) else { return fail("disk", "none found") };
    let Some(bus_master) = BusMaster::of(drive) else { return fail("bus-master", "there is none") };
    let disk = Disk { drive, bus_master };
    equal("place-of-the-disk", (drive.command, drive.select), (0x1f0, 0xa0));
    identify(disk);
    registers(disk);
    no_data(disk);
    reads(disk);
    writes(disk);
    errors(disk);
    descriptors(disk);
    misfits(disk);
    interrupt_request(disk);
    interrupts(disk);
    resets(disk);
}

fn identify(disk: Disk) {
    let Some(words) = disk.identify() else { return fail("identify", "no data") };
    equal("identify-is-one-block", disk.drive.wait() & (BUSY | DATA_REQUEST | ERROR), 0);
    equal("identify-a-disk", words[0] & 0x8000, 0);
    let geometry = [CYLINDERS as u16, HEADS as u16, TRACK as u16];
    equal("identify-geometry", [words[1], words[3], words[6]], geometry);
    equal("identify-current-geometry", (words[53] & 1, &words[54..57]), (1, &geometry[..]));
    let double = |index: usize| u32::from(words[index]) | u32::from(words[index + 1]) << 16;
    equal("identify-sectors-of-the-geometry", double(57), SECTORS);
    equal("identify-sectors", double(60), SECTORS);
    equal("identify-sectors-of-48-bits", (double(100), double(102)), (SECTORS, 0));
    equal("identify-lba-and-dma", words[49] & 0x300, 0x300);
    equal(
        "identify-48-bits-and-flushes",
        (words[83] & 0xf400, words[86] & 0x3400),
        (0x7400, 0x3400),
    );
    equal("identify-multiword-dma", words[63] & 7, 7);
    value("sectors-of-the-largest-block", words[47] & 0xff);
    let is_printable =
        |word: &u16| word.to_le_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    check("identify-model", words[27..47].iter().all(is_printable));
}

fn registers(disk: Disk) {
    let Drive { command, control, select, .. } = disk.drive;
    let read = || [2, 3, 4, 5].map(|register| inb(command + register));
    for (register, byte) in (command + 2..).zip([1, 2, 3, 4]) {
        outb(register, byte);
    }
    equal("registers-read-back", read(), [1, 2, 3, 4]);
    for (register, byte) in (command + 2..).zip([0x11, 0x12, 0x13, 0x14]) {
        outb(register, byte);
    }
    outb(control, HIGH_ORDER | CONTROL);
    equal("high-order-bytes", read(), [1, 2, 3, 4]);
    outb(command + 2, 0x21);
    equal("high-order-ends-by-a-write", read(), [0x21, 0x12, 0x13, 0x14]);
    outb(control, CONTROL);
    outb(command + 6, select | 0x45);
    equal("device-register-reads-back", inb(command + 6) & 0x5f, 0x45);
    outb(command + 6, select | 0x10);
    equal("absent-device-has-no-status", (inb(command + 7), disk.drive.status()), (0, 0));
    outb(command + 6, select);
    equal(
        "present-device-is-ready",
        disk.drive.status() & (BUSY | READY | DATA_REQUEST | ERROR),
        READY,
    );
}

fn no_data(disk: Disk) {
    const SIGNIFICANT: u8 = BUSY | READY | DATA_REQUEST | ERROR;
    for (case, command) in [
        ("flush", FLUSH),
        ("flush-ext", FLUSH_EXT),
        ("idle-immediate", IDLE_IMMEDIATE),
        ("check-power", CHECK_POWER),
    ] {
        equal(case, disk.command(command, 0, 0) & SIGNIFICANT, READY);
    }
    equal("power-is-on", inb(disk.drive.command + 2), 0xff);
    disk.set_task_file(Address::Lba28, (SECTORS - 3).into(), 3);
    disk.send(READ_VERIFY);
    equal("verify", disk.drive.wait() & SIGNIFICANT, READY);
    equal("its-own-geometry-can-be-set", disk.set_geometry(HEADS, TRACK) & SIGNIFICANT, READY);
    if disk.set_geometry(8, 32) & ERROR == 0 {
        // Cylinder 2, head 3, sector 4.
        let sector = (2 * 8 + 3) * 32 + 3;
        let port = disk.drive.command;
        for (register, byte) in (port + 2..).zip([1, 4, 2, 0, disk.drive.select | 3]) {
            outb(register, byte);
        }
        disk.send(BY_LBA.read_command());
        disk.drive.wait();
        let mut data = [0; SECTOR];
        disk.drive.read_string(&mut data);
        check("chs-by-another-geometry", data == original(sector));
        disk.set_geometry(HEADS, TRACK);
    } else {
        skip("chs-by-another-geometry", "the drive has no other");
    }
    equal("multiple-can-be-set", disk.command(SET_MULTIPLE, 0, MULTIPLE) & SIGNIFICANT, READY);
    if let Some(words) = disk.identify() {
        equal("multiple-in-identify", words[59] & 0x1ff, 0x100 | u16::from(MULTIPLE));
    }
    let status = disk.command(SET_FEATURES, SET_TRANSFER_MODE, ULTRA_DMA_2);
    equal("transfer-mode-can-be-set", status & SIGNIFICANT, READY);
    if let Some(words) = disk.identify() {
        equal("transfer-mode-in-identify", (words[63] >> 8, words[88] >> 8), (0, 4));
    }
}

/// Sectors of a transfer: two whole blocks of the MULTIPLE commands and a half one.
const COUNT: usize = 2 * MULTIPLE as usize + MULTIPLE as usize / 2;

fn reads(disk: Disk) {
    const CASES: [&str; 9] = [
        "read-by-chs",
        "read-by-lba28",
        "read-by-lba48",
        "read-multiple-by-chs",
        "read-multiple-by-lba28",
        "read-multiple-by-lba48",
        "read-dma-by-chs",
        "read-dma-by-lba28",
        "read-dma-by-lba48",
    ];
    for (case, access) in CASES.iter().zip(ACCESSES) {
        // Over the ends of a track and of a cylinder.
        let first = 3 * HEADS * TRACK - 4;
        let mut data = [0; COUNT * SECTOR];
        let status = disk.read(access, first.into(), &mut data);
        let same =
            (first..).zip(data.chunks(SECTOR)).all(|(sector, data)| data == original(sector));
        equal(case, (status & (BUSY | DATA_REQUEST | ERROR), same), (0, true));
    }
    let mut data = [0; SECTOR];
    let last = SECTORS - 1;
    let status = disk.read(Access(Address::Chs, Method::Sectors), last.into(), &mut data);
    equal("read-the-last-sector", (status & ERROR, data == original(last)), (0, true));

    disk.set_task_file(Address::Lba28, 4000, 1);
    disk.send(BY_LBA.read_command());
    disk.drive.wait();
    disk.drive.read_words(&mut data);
    check("read-word-by-word", data == original(4000));
    disk.set_task_file(Address::Lba28, 4001, 1);
    disk.send(BY_LBA.read_command());
    disk.drive.wait();
    for place in data.chunks_exact_mut(4) {
        place.copy_from_slice(&inl(disk.drive.command).to_le_bytes());
    }
    check("read-by-double-words", data == original(4001));

    // A count of 0 is 256 sectors.
    disk.set_task_file(Address::Lba28, 5000, 0);
    disk.send(BY_LBA.read_command());
    let mut blocks = 0;
    let mut same = true;
    while blocks < 300 && disk.drive.wait() & (DATA_REQUEST | ERROR) == DATA_REQUEST {
        disk.drive.read_string(&mut data);
        same &= data == original(5000 + blocks);
        blocks += 1;
    }
    equal("read-256-sectors", (blocks, same), (256, true));
}

fn writes(disk: Disk) {
    const CASES: [&str; 9] = [
        "written-by-chs",
        "written-by-lba28",
        "written-by-lba48",
        "written-multiple-by-chs",
        "written-multiple-by-lba28",
        "written-multiple-by-lba48",
        "written-dma-by-chs",
        "written-dma-by-lba28",
        "written-dma-by-lba48",
    ];
    for (index, (case, access)) in CASES.iter().zip(ACCESSES).enumerate() {
        let first = 6000 + 100 * index as u32;
        let (mut data, mut back) = ([0; COUNT * SECTOR], [0; COUNT * SECTOR]);
        pattern(index as u32, &mut data);
        let written = disk.write(access, first.into(), &data);
        // Read by the kinds of command that come after it.
        let others = (1..ACCESSES.len()).map(|step| ACCESSES[(index + step) % ACCESSES.len()]);
        let mut same = true;
        for other in others {
            back.fill(0);
            same &= disk.read(other, first.into(), &mut back) & ERROR == 0 && back == data;
        }
        let beside = disk.is_original(first - 1, 1) && disk.is_original(first + COUNT as u32, 1);
        equal(case, (written & (BUSY | DATA_REQUEST | ERROR), same, beside), (0, true, true));
    }
    let (mut data, mut back) = ([0; SECTOR], [0; SECTOR]);
    pattern(20, &mut data);
    disk.set_task_file(Address::Lba28, 8000, 1);
    disk.send(BY_LBA.write_command());
    disk.drive.wait();
    disk.drive.write_words(&data);
    disk.drive.wait();
    disk.read(BY_LBA, 8000, &mut back);
    check("written-word-by-word", back == data);
    pattern(21, &mut data);
    disk.set_task_file(Address::Lba28, 8000, 1);
    disk.send(BY_LBA.write_command());
    disk.drive.wait();
    for word in data.chunks_exact(4) {
        outl(disk.drive.command, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    }
    disk.drive.wait();
    equal("flush-what-was-written", disk.command(FLUSH, 0, 0) & ERROR, 0);
    disk.read(BY_LBA, 8000, &mut back);
    check("written-by-double-words", back == data);
    disk.write(BY_LBA, (SECTORS - 1).into(), &data);
    disk.read(BY_LBA, (SECTORS - 1).into(), &mut back);
    check("written-to-the-last-sector", back == data);
}

fn errors(disk: Disk) {
    let failed = |status: u8, bits: u8| {
        (status & (BUSY | DATA_REQUEST | ERROR), disk.drive.error() & bits != 0)
    };
    const FAILED: (u8, bool) = (ERROR, true);
    for (case, command) in [
        ("unknown-command", 0xff),
        ("nop", NOP),
        ("device-reset-is-for-packet-devices", 0x08),
        ("packet-is-for-packet-devices", 0xa0),
        ("identify-packet-is-for-packet-devices", 0xa1),
    ] {
        equal(case, failed(disk.command(command, 0, 0), ABORTED), FAILED);
    }
    equal("unknown-feature", failed(disk.command(SET_FEATURES, 0xfe, 0), ABORTED), FAILED);
    equal(
        "unknown-transfer-mode",
        failed(disk.command(SET_FEATURES, SET_TRANSFER_MODE, 0xf8), ABORTED),
        FAILED,
    );
    equal("multiple-of-three", failed(disk.command(SET_MULTIPLE, 0, 3), ABORTED), FAILED);
    equal("multiple-of-too-many", failed(disk.command(SET_MULTIPLE, 0, 128), ABORTED), FAILED);
    // Drives refuse the 0, or the commands after it.
    let mut data = [0; SECTOR];
    let is_off = disk.command(SET_MULTIPLE, 0, 0) & ERROR != 0
        || failed(disk.read(MULTIPLE_BY_LBA, 0, &mut data), ABORTED) == FAILED;
    check("multiple-of-none", is_off);
    disk.command(SET_MULTIPLE, 0, MULTIPLE);

    let beyond = u64::from(SECTORS);
    const READS: [&str; 9] = [
        "read-beyond-by-chs",
        "read-beyond-by-lba28",
        "read-beyond-by-lba48",
        "read-multiple-beyond-by-chs",
        "read-multiple-beyond-by-lba28",
        "read-multiple-beyond-by-lba48",
        "read-dma-beyond-by-chs",
        "read-dma-beyond-by-lba28",
        "read-dma-beyond-by-lba48",
    ];
    for (case, access) in READS.iter().zip(ACCESSES) {
        equal(case, failed(disk.read(access, beyond, &mut data), NOT_FOUND), FAILED);
    }
    const WRITES: [&str; 9] = [
        "write-beyond-by-chs",
        "write-beyond-by-lba28",
        "write-beyond-by-lba48",
        "write-multiple-beyond-by-chs",
        "write-multiple-beyond-by-lba28",
        "write-multiple-beyond-by-lba48",
        "write-dma-beyond-by-chs",
        "write-dma-beyond-by-lba28",
        "write-dma-beyond-by-lba48",
    ];
    for (case, access) in WRITES.iter().zip(ACCESSES) {
        equal(case, failed(disk.write(access, beyond, &data), NOT_FOUND), FAILED);
    }
    equal("read-at-28-bits", failed(disk.read(BY_LBA, 0xfff_ffff, &mut data), NOT_FOUND), FAILED);
    let far = 1 << 40 | 1;
    equal(
        "read-at-40-bits",
        failed(disk.read(Access(Address::Lba48, Method::Sectors), far, &mut data), NOT_FOUND),
        FAILED,
    );
    let mut two = [0; 2 * SECTOR];
    equal("read-over-the-end", failed(disk.read(BY_LBA, beyond - 1, &mut two), NOT_FOUND), FAILED);
    disk.set_task_file(Address::Chs, 0, 1);
    outb(disk.drive.command + 3, 0);
    disk.send(BY_LBA.read_command());
    equal("sector-0-of-a-track", failed(disk.drive.wait(), NOT_FOUND), FAILED);
    disk.set_task_file(Address::Lba28, beyond, 1);
    disk.send(READ_VERIFY);
    equal("verify-beyond", failed(disk.drive.wait(), NOT_FOUND), FAILED);
    equal("error-is-over", disk.command(CHECK_POWER, 0, 0) & ERROR, 0);
    check("errors-change-nothing", disk.is_original(0, 2) && disk.is_original(SECTORS - 2, 1));
}

/// Regions of four sectors: out of order, with gaps, smaller and larger than a sector, over the end
/// of a page.
const REGIONS: [(u32, u32); 6] = [
    (0x22_3000, 2),
    (0x22_1f00, 510),
    (0x22_0ffe, 4),
    (0x22_5000, 1020),
    (0x22_4002, 128),
    (0x22_3800, 384),
];

fn descriptors(disk: Disk) {
    const FIRST: u32 = 9000;
    const BEFORE: u8 = 0xee;
    let scattered = 0x22_0000..0x22_6000_u64;
    for address in scattered.clone() {
        poke(address, BEFORE);
    }
    disk.set_task_file(Address::Lba28, FIRST.into(), 4);
    let status = disk.dma(DMA.read_command(), true, &REGIONS);
    equal("scatter", status & (BUSY | DATA_REQUEST | ERROR), 0);
    equal("scatter-bus-master-is-done", disk.bus_master.status(), BusMaster::INTERRUPT);
    let mut want = (FIRST..FIRST + 4).flat_map(original);
    let in_regions = |(address, length): (u32, u32)| {
        (0..length).map(move |offset| peek::<u8>((address + offset).into()))
    };
    check(
        "scattered-in-order",
        REGIONS.into_iter().flat_map(in_regions).all(|byte| want.next() == Some(byte)),
    );
    let is_inside = |at: &u64| {
        REGIONS.iter().any(|(address, length)| (*address..address + length).contains(&(*at as u32)))
    };
    check(
        "scattered-nowhere-else",
        scattered.filter(|at| !is_inside(at)).all(|at| peek::<u8>(at) == BEFORE),
    );

    let (mut data, mut back) = ([0; 4 * SECTOR], [0; 4 * SECTOR]);
    pattern(30, &mut data);
    let mut rest = &data[..];
    for (address, length) in REGIONS {
        let (now, later) = rest.split_at(length as usize);
        store(address, now);
        rest = later;
    }
    disk.set_task_file(Address::Lba48, FIRST.into(), 4);
    let status = disk.dma(DMA_EXT.write_command(), false, &REGIONS);
    equal("gather", status & (BUSY | DATA_REQUEST | ERROR), 0);
    equal("gather-bus-master-is-done", disk.bus_master.status(), BusMaster::INTERRUPT);
    disk.read(BY_LBA, FIRST.into(), &mut back);
    check("gathered-in-order", back == data);
    check(
        "gathered-nothing-else",
        disk.is_original(FIRST - 1, 1) && disk.is_original(FIRST + 4, 1),
    );

    // A length of 0 is 64 KiB.
    const SECTORS_OF_64_KIB: u16 = 128;
    disk.set_task_file(Address::Lba28, 5000, SECTORS_OF_64_KIB);
    let status = disk.dma(DMA.read_command(), true, &[(0x23_0000, 0)]);
    let want = (5000..).take(SECTORS_OF_64_KIB.into()).flat_map(original);
    let same = (0x23_0000..).zip(want).all(|(address, byte)| peek::<u8>(address) == byte);
    equal("region-of-64-kib", (status & (BUSY | DATA_REQUEST | ERROR), same), (0, true));
}

/// Tables that do not fit the transfer.
fn misfits(disk: Disk) {
    const FIRST: u32 = 9500;
    let mut data = [0; SECTOR];
    store(BUFFER, &data);
    disk.set_task_file(Address::Lba28, FIRST.into(), 1);
    disk.bus_master.prepare(TABLE, &[(BUFFER, 2 * SECTOR as u32)]);
    disk.send(DMA.read_command());
    disk.bus_master.start(true);
    until(|| disk.bus_master.status() & BusMaster::INTERRUPT != 0);
    equal("long-table-status", disk.drive.wait() & (BUSY | DATA_REQUEST | ERROR), 0);
    let both = BusMaster::ACTIVE | BusMaster::INTERRUPT;
    equal("long-table-leaves-the-bus-master-active", disk.bus_master.status(), both);
    disk.bus_master.stop();
    equal("long-table-stopped", disk.bus_master.status(), BusMaster::INTERRUPT);
    load(BUFFER, &mut data);
    check("long-table-data", data == original(FIRST));

    disk.set_task_file(Address::Lba28, FIRST.into(), 2);
    disk.bus_master.prepare(TABLE, &[(BUFFER, SECTOR as u32)]);
    disk.send(DMA.read_command());
    disk.bus_master.start(true);
    until(|| disk.bus_master.status() & BusMaster::ACTIVE == 0);
    equal("short-table-has-no-interrupt", disk.bus_master.status(), 0);
    disk.bus_master.stop();
    // The device's behaviour after that is its own affair.
    disk.drive.reset();
    disk.drive.wait();
    disk.command(SET_MULTIPLE, 0, MULTIPLE);
    check("reads-after-a-short-table", disk.is_original(FIRST, 1));
}

/// The request at the interrupt controllers.
fn interrupt_request(disk: Disk) {
    let drive = disk.drive;
    let mut data = [0; SECTOR];
    // Begun anew they see no edge, unless the line was low and rises.
    let begin = || {
        drive.wait();
        pic::set_up();
    };
    begin();
    check("no-interrupt-at-rest", !drive.has_interrupt());
    disk.set_task_file(Address::Lba28, 100, 1);
    disk.send(BY_LBA.read_command());
    check("interrupt-when-data-is-there", until(|| drive.has_interrupt()));
    drive.status();
    check("alternate-status-acknowledges-nothing", drive.has_interrupt());
    begin();
    drive.read_string(&mut data);
    drive.status();
    check("no-interrupt-after-the-last-data", !drive.has_interrupt());

    disk.set_task_file(Address::Lba28, 10_000, 1);
    disk.send(BY_LBA.write_command());
    until(|| drive.status() & DATA_REQUEST != 0);
    check("no-interrupt-before-the-first-data", !drive.has_interrupt());
    drive.write_string(&data);
    check("interrupt-when-data-is-written", until(|| drive.has_interrupt()));
    begin();
    disk.send(FLUSH);
    check("interrupt-after-a-flush", until(|| drive.has_interrupt()));
    begin();
    disk.send(0xff);
    check("interrupt-after-an-error", until(|| drive.has_interrupt()));
    begin();

    disk.bus_master.prepare(TABLE, &[(BUFFER, SECTOR as u32)]);
    outb(drive.control, NO_INTERRUPTS);
    disk.send(FLUSH);
    drive.wait();
    check("no-interrupt-when-disabled", !drive.has_interrupt());
    equal("no-interrupt-at-the-bus-master", disk.bus_master.status(), 0);
    outb(drive.control, CONTROL);
    begin();
    disk.send(FLUSH);
    check("interrupt-when-enabled-again", until(|| drive.has_interrupt()));
    begin();
}

static INTERRUPTS: Global<u32> = Global::new(0);
static DRIVE: Global<Option<Drive>> = Global::new(None);

fn interrupts(disk: Disk) {
    fn acknowledge(_: &mut Frame) {
        if let Some(drive) = DRIVE.get() {
            inb(drive.command + 7);
            INTERRUPTS.set(INTERRUPTS.get() + 1);
            pic::end_of_interrupt(drive.irq);
        }
    }
    let drive = disk.drive;
    let vector = pic::FIRST_VECTOR + drive.irq;
    DRIVE.set(Some(drive));
    handle(vector, Some(acknowledge));
    // The cascade is input 2.
    pic::set_masks(!(1 << drive.irq | 1 << 2));
    sti();
    let come = |count: u32| until(|| INTERRUPTS.get() >= count);
    let ready = || until(|| drive.status() & (BUSY | DATA_REQUEST) == 0);
    let mut data = [0; COUNT * SECTOR];
    for (case, access, blocks) in [
        ("interrupts-of-read", BY_LBA, COUNT as u32),
        ("interrupts-of-read-multiple", MULTIPLE_BY_LBA, 3),
    ] {
        INTERRUPTS.set(0);
        disk.set_task_file(access.0, 11_000, COUNT as u16);
        disk.send(access.read_command());
        for (block, number) in data.chunks_mut(access.block()).zip(1..) {
            come(number);
            drive.read_string(block);
        }
        ready();
        equal(case, INTERRUPTS.get(), blocks);
    }
    for (case, access, blocks) in [
        ("interrupts-of-write", BY_LBA, COUNT as u32),
        ("interrupts-of-write-multiple", MULTIPLE_BY_LBA, 3),
    ] {
        INTERRUPTS.set(0);
        disk.set_task_file(access.0, 11_000, COUNT as u16);
        disk.send(access.write_command());
        until(|| drive.status() & DATA_REQUEST != 0);
        for (block, number) in data.chunks(access.block()).zip(1..) {
            drive.write_string(block);
            come(number);
        }
        ready();
        equal(case, INTERRUPTS.get(), blocks);
    }
    for (case, access) in [("interrupts-of-read-dma", DMA), ("interrupts-of-read-dma-ext", DMA_EXT)]
    {
        INTERRUPTS.set(0);
        disk.read(access, 11_000, &mut data);
        come(1);
        equal(case, INTERRUPTS.get(), 1);
    }
    INTERRUPTS.set(0);
    disk.write(DMA, 11_000, &data);
    come(1);
    equal("interrupts-of-write-dma", INTERRUPTS.get(), 1);
    check("data-by-interrupts", disk.is_original(11_000, COUNT));
    cli();
    handle(vector, None);
    pic::set_masks(0xffff);
}

fn resets(disk: Disk) {
    let drive = disk.drive;
    let shown = || [1, 2, 3, 4, 5].map(|register| inb(drive.command + register));
    // No error; device 0 is a disk.
    const SIGNATURE: [u8; 5] = [1, 1, 1, 0, 0];
    disk.set_task_file(Address::Lba28, 0x123_4567, 9);
    pic::set_up();
    disk.send(DIAGNOSTIC);
    check("diagnostic-interrupts", until(|| drive.has_interrupt()));
    equal("diagnostic-status", drive.wait() & (BUSY | DATA_REQUEST | ERROR), 0);
    equal("diagnostic-signature", shown(), SIGNATURE);

    // In the middle of a command, with device 1 selected.
    disk.set_task_file(Address::Lba28, 0x100, 9);
    disk.send(BY_LBA.read_command());
    drive.wait();
    outb(drive.command + 6, drive.select | 0x10);
    pic::set_up();
    drive.reset();
    let status = drive.wait();
    equal("reset-status", status & (BUSY | READY | DATA_REQUEST | ERROR), READY);
    check("reset-does-not-interrupt", !drive.has_interrupt());
    equal("reset-signature", shown(), SIGNATURE);
    equal("reset-selects-device-0", inb(drive.command + 6) & 0x10, 0);
    check("reads-after-a-reset", disk.is_original(0, 1));
}
