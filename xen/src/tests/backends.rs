//! The back ends behind hypercalls: XenStore by its ring, a disk by grants and an event channel,
//! the console by its page.

use super::*;
use crate::backends::{DiskLink, DiskSettings, OwnedBackEnds, SharedStore};
use crate::blkback::test_front::TestDisk;
use crate::pages::{CONSOLE, STORE};
use crate::store::Error;

const STORE_PORT: u32 = 1;
const CONSOLE_PORT: u32 = 2;
const DISK_BYTES: usize = 1 << 20;
/// The guest's grant table.
const TABLE: u64 = 0x3_0000;
const RING: u64 = 0x4_0000;
const DATA: u64 = 0x5_0000;
const XVDB: u32 = 51728;
/// The ring of `xvdb`, and its grant.
const MORE_RING: u64 = 0x7_0000;
const MORE_REF: u32 = 20;

struct Bench {
    guest: Guest,
    screen: Arc<Screen>,
    back_ends: OwnedBackEnds,
    shared: Arc<SharedStore>,
}

impl Bench {
    fn new(shared: &Arc<SharedStore>) -> Self {
        let mut guest = Guest::new(Width::Bits64, 1);
        assert_eq!(guest.put(0, 0, 0x20), 0);
        assert_eq!(guest.put(1, 0, (TABLE / 4096) as u32), 0);
        assert_eq!(guest.param(0, Some(2 << 56 | 0xf3)), Ok(2 << 56 | 0xf3));
        let mut content = vec![0; DISK_BYTES];
        content[512..1024].fill(0xd1);
        let screen = Arc::new(Screen::default());
        *screen.room.lock().unwrap() = 1 << 20;
        let back_ends = guest.back_ends(shared, &screen, content);
        Self { guest, screen, back_ends, shared: shared.clone() }
    }

    fn page(&self, page: usize, offset: u64, data: &mut [u8]) {
        GuestMemory::read(&*self.guest.machine.pages, page as u64 * 4096 + offset, data).unwrap();
    }

    fn set_page(&self, page: usize, offset: u64, data: &[u8]) {
        GuestMemory::write(&*self.guest.machine.pages, page as u64 * 4096 + offset, data).unwrap();
    }

    fn index(&self, page: usize, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.page(page, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn set_index(&self, page: usize, offset: u64, value: u32) {
        self.set_page(page, offset, &value.to_le_bytes());
    }

    fn send(&mut self, port: u32) {
        assert_eq!(self.guest.event(4, [port]).0, 0);
    }

    /// A message to XenStore, and the payload of its answer. Events that come before are dropped.
    fn store(&mut self, kind: u32, payload: &[u8]) -> (u32, Vec<u8>) {
        const WATCH_EVENT: u32 = 15;
        let header = [kind, 9, 0, payload.len() as u32];
        let message: Vec<u8> = header
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .chain(payload.iter().copied())
            .collect();
        let begin = self.index(STORE, 2052);
        for (at, byte) in (begin..).zip(&message) {
            self.set_page(STORE, u64::from(at % 1024), &[*byte]);
        }
        self.set_index(STORE, 2052, begin + message.len() as u32);
        self.send(STORE_PORT);
        loop {
            let header: [u32; 4] = core::array::from_fn(|_| {
                let bytes = self.take(4);
                u32::from_le_bytes(bytes.try_into().unwrap())
            });
            let payload = self.take(header[3] as usize);
            if header[0] != WATCH_EVENT {
                return (header[0], payload);
            }
        }
    }

    /// Bytes from XenStore.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let begin = self.index(STORE, 2056);
        assert!(self.index(STORE, 2060).wrapping_sub(begin) >= count as u32, "no answer");
        let bytes = (begin..begin + count as u32)
            .map(|at| {
                let mut byte = [0];
                self.page(STORE, 1024 + u64::from(at % 1024), &mut byte);
                byte[0]
            })
            .collect();
        self.set_index(STORE, 2056, begin + count as u32);
        bytes
    }

    fn read(&mut self, path: &str) -> String {
        let (kind, value) = self.store(2, format!("{path}\0").as_bytes());
        assert_eq!(kind, 2, "{path}: {}", String::from_utf8_lossy(&value));
        String::from_utf8(value).unwrap()
    }

    fn write(&mut self, path: &str, value: &str) {
        assert_eq!(self.store(11, format!("{path}\0{value}").as_bytes()).0, 11, "{path}");
    }

    /// As Linux: a ring that it grants, a port, and state 3.
    fn connect(&mut self) {
        self.grant(9, DATA);
        assert_eq!(self.connect_disk(51712, 8, RING), 3);
    }

    /// The same for any disk; the port is returned.
    fn connect_disk(&mut self, id: u32, ring_ref: u32, ring: u64) -> u32 {
        self.grant(ring_ref.into(), ring);
        self.guest.poke(ring, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        let port = self.guest.event(6, [u32::from(SELF), 0]).1[1];
        for (name, value) in [
            ("ring-ref", &*ring_ref.to_string()),
            ("event-channel", &port.to_string()),
            ("protocol", "x86_64-abi"),
            ("state", "3"),
        ] {
            self.write(&format!("device/vbd/{id}/{name}"), value);
        }
        self.write(&format!("device/vbd/{id}/state"), "4");
        port
    }

    /// Puts requests of one sector into a ring and signals: reads of sector 1, to [`DATA`].
    fn read_sectors(&mut self, ring: u64, port: u32, count: u32) {
        for number in 0..count {
            let mut request = [0; 112];
            (request[1], request[8], request[16]) = (1, number as u8, 1);
            request[24..28].copy_from_slice(&9_u32.to_le_bytes());
            self.guest.poke(ring + 64 + 112 * u64::from(number), &request);
        }
        self.guest.poke(ring, &count.to_le_bytes());
        self.send(port);
    }

    fn responses(&self, ring: u64) -> u32 {
        self.guest.u32_at(ring + 8)
    }

    /// One more disk, beside `xvda`.
    fn plug(&self, disk: &Arc<TestDisk>) -> Result<(), Error> {
        self.back_ends.add_disk(DiskSettings {
            id: XVDB,
            name: "xvdb".into(),
            target: "more.img".into(),
            is_cdrom: false,
            medium: Some(disk.clone()),
        })
    }

    fn link(&self, id: u32) -> DiskLink {
        self.shared.with(|store| DiskLink::of(store, DOMAIN, id))
    }

    /// True if the store knows nothing of the disk any more.
    fn is_gone(&self, id: u32) -> bool {
        let link = self.link(id);
        let paths = [link.back_end, format!("/local/domain/{DOMAIN}/device/vbd/{id}")];
        !self.back_ends.has_disk(id)
            && paths.iter().all(|path| self.shared.with(|store| store.list(path).is_err()))
    }

    /// Lets domain 0 use a page.
    fn grant(&self, reference: u64, gpa: u64) {
        self.guest.poke(TABLE + 8 * reference + 4, &((gpa / 4096) as u32).to_le_bytes());
        self.guest.poke(TABLE + 8 * reference, &[1, 0, 0, 0]);
    }
}

#[test]
fn a_front_end_reads_a_disk_by_grants_and_an_event_channel() {
    let mut bench = Bench::new(&SharedStore::new());
    assert_eq!(bench.guest.param(1, None), Ok(0xfeffc));
    assert_eq!(bench.guest.param(2, None), Ok(STORE_PORT.into()));
    assert_eq!(bench.read("name"), "pv");
    assert_eq!(bench.read("device/vbd/51712/virtual-device"), "51712");
    let back = bench.read("device/vbd/51712/backend");
    assert_eq!(back, format!("/local/domain/0/backend/vbd/{DOMAIN}/51712"));
    assert_eq!(bench.read(&format!("{back}/state")), "2");
    bench.connect();
    assert_eq!(bench.read(&format!("{back}/state")), "4");
    assert_eq!(bench.read(&format!("{back}/sectors")), "2048");
    assert_eq!(bench.guest.u32_at(TABLE + 64) & 0x18, 0x18, "the ring is in use");
    bench.read_sectors(RING, 3, 1);
    assert_eq!(bench.responses(RING), 1, "one response");
    assert_eq!(bench.guest.u64_at(RING + 64), 0, "to this request");
    assert_eq!(bench.guest.u32_at(RING + 72), 0, "a read that went well");
    assert_eq!(bench.guest.u64_at(DATA), 0xd1d1_d1d1_d1d1_d1d1);
    assert_eq!(bench.guest.u32_at(TABLE + 72), 1, "the page is the guest's again");
    // The life ends: nothing of the guest is left.
    let shared = bench.shared.clone();
    drop(bench.back_ends);
    assert_eq!(bench.guest.u32_at(TABLE + 64), 1);
    let left = shared.with(|store| store.list("/local/domain").unwrap());
    assert_eq!(left, ["0"]);
}

#[test]
fn another_kernel_finds_all_as_at_the_start() {
    let mut bench = Bench::new(&SharedStore::new());
    bench.connect();
    bench.write("device/vbd/51712/state", "4");
    bench.write("data/old", "");
    let area = (0x9_0000_u64).to_le_bytes();
    bench.guest.poke(0x8_0000, &area);
    assert_eq!(bench.guest.call(24, &[5, 0, 0x8_0000]), 0);
    assert!(bench.guest.own[0].run_state_area.is_some());
    bench.back_ends.soft_reset();
    assert_eq!(bench.guest.u32_at(TABLE + 64) & 0x18, 0, "the ring was let go");
    assert_eq!(bench.guest.param(0, None), Ok(0), "no callback");
    assert_eq!(bench.guest.param(1, None), Ok(0xfeffc));
    assert_eq!(bench.guest.param(2, None), Ok(STORE_PORT.into()));
    assert_eq!(bench.guest.call(24, &[9, 0, 0]), 0);
    assert_eq!(bench.guest.own[0].run_state_area, None);
    // Shared info and grant table are where the old kernel had them no more.
    let ram = bench.guest.u64_at(0x2_0000);
    bench.guest.told();
    bench.guest.platform.timer_expired(0, devices::time::GuestTime::from_ns(1 << 40));
    assert_eq!(bench.guest.u64_at(0x2_0000), ram);
    // The next one goes the same way.
    assert_eq!(bench.guest.put(0, 0, 0x22), 0);
    assert_eq!(bench.guest.put(1, 0, (TABLE / 4096) as u32), 0);
    assert_eq!(bench.guest.param(0, Some(2 << 56 | 0xf3)), Ok(2 << 56 | 0xf3));
    assert_eq!(bench.store(2, b"data/old\0").0, 16, "forgotten");
    let back = bench.read("device/vbd/51712/backend");
    assert_eq!(bench.read(&format!("{back}/state")), "2");
    assert_eq!(bench.read("device/vbd/51712/state"), "1");
    bench.connect();
    assert_eq!(bench.read(&format!("{back}/state")), "4");
    assert_eq!(bench.read(&format!("{back}/feature-flush-cache")), "1");
}

/// A disk that is served on behalf of the last request asks for more of it.
#[test]
fn requests_of_more_than_a_go_are_served_to_the_last() {
    const SEGMENTS: u64 = 256;
    const LIST: u64 = 0x6_0000;
    let mut bench = Bench::new(&SharedStore::new());
    bench.connect();
    bench.grant(10, LIST);
    for segment in 0..SEGMENTS {
        bench.guest.poke(LIST + 8 * segment, &[9, 0, 0, 0, 0, 7, 0, 0]);
    }
    for number in 0..3 {
        let mut request = [0; 112];
        // Indirect: a read of 1 MiB.
        (request[0], request[3], request[8], request[28]) = (6, 1, number, 10);
        bench.guest.poke(RING + 64 + 112 * u64::from(number), &request);
    }
    bench.guest.poke(RING, &3_u32.to_le_bytes());
    bench.guest.told();
    bench.send(3);
    let mut rounds = 0;
    while bench.guest.told().contains(&Told::Look { vcpu: 0 }) && rounds < 10 {
        bench.back_ends.work();
        rounds += 1;
    }
    assert!(rounds > 1, "all in one go");
    assert_eq!(bench.guest.u32_at(RING + 8), 3);
}

#[test]
fn grants_that_are_none_are_refused_and_those_in_use_stay() {
    let bench = Bench::new(&SharedStore::new());
    let platform = &bench.guest.platform;
    bench.grant(8, DATA);
    assert_eq!(platform.hold_one(8, true), Ok(DATA));
    assert_eq!(platform.hold_one(8, false), Ok(DATA));
    platform.release_grants([(8, true)]);
    assert_eq!(bench.guest.u32_at(TABLE + 64), 1 | 8, "a reader is left");
    platform.release_grants([(8, false)]);
    assert_eq!(bench.guest.u32_at(TABLE + 64), 1);
    for (entry, why) in [
        ([0, 0, 0, 0], "invalid"),
        ([1, 1, 0, 0], "a part of a page"),
        ([2, 0, 0, 0], "a transfer"),
        ([1, 0, 4, 0], "of another domain"),
        ([5, 0, 0, 0], "read-only"),
    ] {
        bench.guest.poke(TABLE + 64, &entry);
        assert!(platform.hold_one(8, true).is_err(), "{why}");
    }
    assert_eq!(platform.hold_one(8, false), Ok(DATA));
    bench.grant(9, FREE_GPA);
    assert!(platform.hold_one(9, false).is_err(), "no RAM");
    assert_eq!(bench.guest.u32_at(TABLE + 72), 1);
    for reference in [512, 64 * 512, u32::MAX] {
        assert!(platform.hold_one(reference, false).is_err());
    }
}

#[test]
fn the_console_writes_as_much_as_there_is_room_for_and_reads_what_is_typed() {
    let mut bench = Bench::new(&SharedStore::new());
    assert_eq!(bench.guest.param(18, None), Ok(CONSOLE_PORT.into()));
    *bench.screen.room.lock().unwrap() = 3;
    // Around the end of the ring.
    bench.set_index(CONSOLE, 3080, 2046);
    bench.set_page(CONSOLE, 1024 + 2046, b"he");
    bench.set_page(CONSOLE, 1024, b"llo");
    bench.set_index(CONSOLE, 3084, 2051);
    bench.guest.told();
    bench.send(CONSOLE_PORT);
    assert_eq!(*bench.screen.text.lock().unwrap(), b"hel");
    assert!(bench.guest.told().contains(&Told::WorkIn(1_000_000)));
    *bench.screen.room.lock().unwrap() = 9;
    // A virtual CPU that looks for events does what was asked of it alone.
    bench.back_ends.work();
    assert_eq!(*bench.screen.text.lock().unwrap(), b"hel");
    bench.back_ends.work_by_the_clock();
    assert_eq!(*bench.screen.text.lock().unwrap(), b"hello");
    let console = bench.back_ends.console();
    assert_eq!(console.put_input(&[b'x'; 2000]), 1024);
    assert_eq!(console.put_input(b"y"), 0, "the guest has not read");
    bench.set_index(CONSOLE, 3072, 1024);
    assert_eq!(console.put_input(b"y"), 1);
    // Indices that cannot be.
    bench.set_index(CONSOLE, 3084, 0);
    bench.set_index(CONSOLE, 3072, 0);
    bench.send(CONSOLE_PORT);
    assert_eq!(bench.back_ends.console().put_input(b"z"), 0);
}

#[test]
fn a_guest_is_told_of_what_it_watches_and_reads_no_others_nodes() {
    let shared = SharedStore::new();
    let mut bench = Bench::new(&shared);
    // The prompt changes a node that the guest watches.
    assert_eq!(bench.store(4, b"control/shutdown\0token\0").0, 4);
    while bench.index(STORE, 2060) != bench.index(STORE, 2056) {
        bench.take(1);
    }
    bench.guest.poke(0x2_0000, &[0; 16]);
    bench.guest.poke(0x2_0000 + 2048, &[0; 8]);
    bench.guest.told();
    assert!(bench.back_ends.ask("poweroff"));
    assert_eq!(bench.guest.told(), [Told::Look { vcpu: 0 }], "an event for the watch");
    assert_eq!(bench.read("control/shutdown"), "poweroff");
    assert_eq!(bench.store(2, b"/local/domain/0/backend\0").0, 16, "not for it to read");
}

/// A disk comes while another is busy, is busy itself when the guest is asked for it, and goes when
/// the guest lets it.
#[test]
fn a_disk_comes_and_goes_while_others_work() {
    let mut bench = Bench::new(&SharedStore::new());
    bench.connect();
    let disk = Arc::new(TestDisk::new(64, true));
    bench.plug(&disk).unwrap();
    let back = bench.read("device/vbd/51728/backend");
    assert_eq!(bench.read(&format!("{back}/params")), "more.img");
    assert_eq!(bench.read(&format!("{back}/state")), "2");
    bench.read_sectors(RING, 3, 2);
    let port = bench.connect_disk(XVDB, MORE_REF, MORE_RING);
    let link = DiskLink {
        state: 4,
        event_channel: Some(port),
        ring_ref: Some(MORE_REF),
        back_end: back.clone(),
    };
    assert_eq!(bench.link(XVDB), link);
    bench.read_sectors(MORE_RING, port, 3);
    assert!(disk.complete_one());
    bench.back_ends.remove_disk(XVDB, false);
    assert_eq!(bench.read(&format!("{back}/online")), "0");
    assert_eq!(bench.read(&format!("{back}/state")), "5");
    // Requests on their way are answered until the front end closes.
    assert!(disk.complete_one());
    assert_eq!(bench.responses(MORE_RING), 2);
    bench.write("device/vbd/51728/state", "5");
    bench.write("device/vbd/51728/state", "6");
    assert!(bench.back_ends.has_disk(XVDB), "the medium still works");
    assert_eq!(bench.read(&format!("{back}/state")), "5");
    disk.complete_all();
    bench.back_ends.work();
    assert!(bench.is_gone(XVDB));
    assert_eq!(bench.guest.u32_at(TABLE + 8 * u64::from(MORE_REF)), 1, "the ring is the guest's");
    assert_eq!(bench.responses(MORE_RING), 2, "none is written after the close");
    // The other one goes on, and the same comes again.
    bench.read_sectors(RING, 3, 4);
    assert_eq!(bench.responses(RING), 4);
    bench.plug(&disk).unwrap();
    assert_eq!(bench.read(&format!("{back}/online")), "1");
    assert_eq!(bench.read("device/vbd/51728/state"), "1");
}

/// A kernel whose disk is in use goes on with it in state 5 until its last user is gone (Linux
/// 2.6.32, with a word in `error`), or closes at once (Linux 6.1: 6; FreeBSD: 5, then 6).
#[test]
fn kernels_let_a_disk_go_each_in_its_way() {
    for (closes_first, goes_on) in [(true, true), (false, false), (true, false)] {
        let mut bench = Bench::new(&SharedStore::new());
        let disk = Arc::new(TestDisk::new(64, false));
        bench.plug(&disk).unwrap();
        bench.grant(9, DATA);
        let port = bench.connect_disk(XVDB, MORE_REF, MORE_RING);
        bench.read_sectors(MORE_RING, port, 1);
        bench.back_ends.remove_disk(XVDB, false);
        if closes_first {
            bench.write("device/vbd/51728/state", "5");
        }
        if goes_on {
            bench.write(&format!("error/device/vbd/{XVDB}/error"), "16 Device in use");
            bench.read_sectors(MORE_RING, port, 3);
            assert_eq!(bench.responses(MORE_RING), 3);
            assert!(bench.back_ends.has_disk(XVDB));
        }
        bench.write("device/vbd/51728/state", "6");
        assert!(bench.is_gone(XVDB));
        assert_eq!(bench.guest.u32_at(TABLE + 8 * u64::from(MORE_REF)), 1);
    }
}

#[test]
fn a_disk_without_a_front_end_or_by_force_goes_at_once() {
    let mut bench = Bench::new(&SharedStore::new());
    let disk = Arc::new(TestDisk::new(64, true));
    bench.plug(&disk).unwrap();
    bench.back_ends.remove_disk(XVDB, false);
    assert!(bench.is_gone(XVDB));
    bench.back_ends.remove_disk(XVDB, false);
    bench.plug(&disk).unwrap();
    bench.grant(9, DATA);
    let port = bench.connect_disk(XVDB, MORE_REF, MORE_RING);
    bench.read_sectors(MORE_RING, port, 3);
    // A front end that is asked and does nothing keeps its disk, until it is not asked.
    bench.back_ends.remove_disk(XVDB, false);
    assert!(bench.back_ends.has_disk(XVDB));
    bench.back_ends.remove_disk(XVDB, true);
    assert!(bench.is_gone(XVDB));
    assert_eq!(bench.guest.u32_at(TABLE + 8 * u64::from(MORE_REF)), 1, "the ring is the guest's");
    disk.complete_all();
    bench.send(port);
    bench.back_ends.work();
    assert_eq!(bench.responses(MORE_RING), 0);
    bench.plug(&disk).unwrap();
    assert_eq!(bench.link(XVDB).state, 1);
}

/// A kernel that is started by kexec finds the disks that are plugged in, with the discs that are
/// in them, but for those that the one before was asked to let go.
#[test]
fn another_kernel_finds_the_disks_as_they_are_now() {
    const XVDC: u32 = 51744;
    let mut bench = Bench::new(&SharedStore::new());
    let disk = Arc::new(TestDisk::new(64, false));
    bench.plug(&disk).unwrap();
    bench.grant(9, DATA);
    bench.connect_disk(XVDB, MORE_REF, MORE_RING);
    let drive = DiskSettings {
        id: XVDC,
        name: "xvdc".into(),
        target: String::new(),
        is_cdrom: true,
        medium: None,
    };
    bench.back_ends.add_disk(drive).unwrap();
    bench.back_ends.change_disc(XVDC, Some(disk), "a.iso");
    bench.back_ends.remove_disk(XVDB, false);
    assert!(bench.back_ends.has_disk(XVDB));
    bench.back_ends.soft_reset();
    assert!(bench.is_gone(XVDB) && bench.back_ends.has_disk(51712));
    let back = bench.link(XVDC).back_end;
    let read = |node: &str| bench.shared.with(|store| store.read(&format!("{back}/{node}")));
    assert_eq!(read("params"), Ok(b"a.iso".to_vec()));
    assert_eq!(read("state"), Ok(b"2".to_vec()));
    assert_eq!(read("sectors"), Ok(b"64".to_vec()));
}

#[test]
fn a_guest_is_told_of_its_virtual_cpus_by_the_store_and_so_is_the_next_kernel() {
    let guest = Guest::new(Width::Bits64, 3);
    let (shared, screen) = (SharedStore::new(), Arc::new(Screen::default()));
    let back_ends = guest.back_ends(&shared, &screen, vec![0; 512]);
    let nodes = || {
        [0, 1, 2].map(|vcpu| {
            let path = format!("/local/domain/{DOMAIN}/cpu/{vcpu}/availability");
            String::from_utf8(shared.with(|store| store.read(&path)).unwrap()).unwrap()
        })
    };
    assert_eq!(nodes(), ["online", "offline", "offline"]);
    back_ends.set_vcpus(3);
    assert_eq!(nodes(), ["online"; 3]);
    back_ends.set_vcpus(2);
    assert_eq!(nodes(), ["online", "online", "offline"]);
    back_ends.soft_reset();
    assert_eq!(nodes(), ["online", "online", "offline"]);
}

#[test]
fn a_guest_is_asked_for_memory_by_the_store_and_takes_no_more() {
    const ALL_KIB: u64 = RAM_BYTES / 1024;
    let guest = Guest::new(Width::Bits64, 1);
    let (shared, screen) = (SharedStore::new(), Arc::new(Screen::default()));
    let back_ends = guest.back_ends(&shared, &screen, vec![0; 512]);
    let nodes = || {
        ["target", "static-max"].map(|name| {
            let path = format!("/local/domain/{DOMAIN}/memory/{name}");
            let value = shared.with(|store| store.read(&path)).unwrap();
            String::from_utf8(value).unwrap().parse::<u64>().unwrap()
        })
    };
    assert_eq!(nodes(), [ALL_KIB; 2]);
    assert_eq!((back_ends.memory_kib(), guest.platform.max_pages()), (ALL_KIB, ALL_KIB / 4));
    assert!(!back_ends.set_memory_target(ALL_KIB + 1));
    assert!(back_ends.set_memory_target(0));
    assert_eq!((nodes(), back_ends.memory_target_kib()), ([0, ALL_KIB], 0));
    // The slack is as much as this guest's RAM.
    assert_eq!(guest.platform.max_pages(), ALL_KIB / 4);
    assert!(back_ends.set_memory_target(ALL_KIB / 2));
    assert!(!back_ends.set_max_memory(ALL_KIB / 2 - 1));
    assert!(back_ends.set_max_memory(u64::MAX));
    assert_eq!(nodes(), [ALL_KIB / 2, ALL_KIB]);
}
