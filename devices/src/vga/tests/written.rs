//! Painting from video memory that knows what was written to it.

use super::*;
use alloc::collections::BTreeMap;
use core::mem::take;
use spin::Mutex;

const PAGE: usize = 4096;

/// Video memory that tells what the test says was written, and remembers what is read.
struct LoggedMemory {
    memory: Arc<TestMemory>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// Pages that were written, and in no look yet.
    written: Vec<usize>,
    /// The last look that found each page written.
    found: BTreeMap<usize, u64>,
    looks: u64,
    /// Where rows were read.
    reads: Vec<usize>,
}

impl DeviceMemory for LoggedMemory {
    fn length_bytes(&self) -> usize {
        self.memory.length_bytes()
    }

    fn read(&self, offset: usize, data: &mut [u8]) {
        self.log.lock().reads.push(offset);
        DeviceMemory::read(&*self.memory, offset, data);
    }

    fn write(&self, offset: usize, data: &[u8]) {
        DeviceMemory::write(&*self.memory, offset, data);
    }

    fn read_u32(&self, offset: usize) -> u32 {
        DeviceMemory::read_u32(&*self.memory, offset)
    }

    fn write_u32(&self, offset: usize, value: u32) {
        DeviceMemory::write_u32(&*self.memory, offset, value);
    }

    fn look_for_writes(&self, offset: usize, length_bytes: usize) -> u64 {
        let log = &mut *self.log.lock();
        log.looks += 1;
        let range = offset / PAGE..(offset + length_bytes).div_ceil(PAGE);
        let (found, later) =
            take(&mut log.written).into_iter().partition(|page| range.contains(page));
        log.written = later;
        let found: Vec<usize> = found;
        log.found.extend(found.into_iter().map(|page| (page, log.looks)));
        log.looks
    }

    fn written_since(&self, offset: usize, length_bytes: usize, look: u64) -> bool {
        let pages = offset / PAGE..(offset + length_bytes).div_ceil(PAGE);
        self.log.lock().found.range(pages).any(|(_, &found)| found > look)
    }
}

/// A screen of 1024 x 768 in 32 bits, a page a row, that was painted once.
struct Bench {
    card: Card,
    memory: Arc<LoggedMemory>,
    painter: Painter,
    picture: Picture,
}

impl Bench {
    fn new() -> Self {
        let vram = TestMemory::new(VRAM_BYTES);
        let memory = Arc::new(LoggedMemory { memory: vram.clone(), log: Mutex::default() });
        let card = Card::over(vram, memory.clone());
        card.set_vbe(1024, 768, 32);
        let mut bench = Self { card, memory, painter: Painter::new(), picture: Picture::default() };
        assert_eq!(bench.paint().1.len(), 768);
        bench
    }

    /// The guest writes, and the processor notes the page.
    fn draw(&self, offset: usize, data: &[u8]) {
        DeviceMemory::write(&*self.card.vram, offset, data);
        self.memory.log.lock().written.push(offset / PAGE);
    }

    /// Paints; returns the rows that were read, and those that were painted.
    fn paint(&mut self) -> (Vec<usize>, Vec<u32>) {
        self.memory.log.lock().reads.clear();
        self.painter.paint(&self.card.vga, &mut self.picture);
        let reads = take(&mut self.memory.log.lock().reads);
        (reads.into_iter().map(|offset| offset / PAGE).collect(), take(&mut self.picture.painted))
    }
}

#[test]
fn rows_in_pages_that_nobody_wrote_are_not_read() {
    let mut bench = Bench::new();
    assert_eq!(bench.paint(), (vec![], vec![]));
    bench.draw(5 * PAGE + 8, &[0x56, 0x34, 0x12]);
    bench.draw(700 * PAGE, &[0]);
    assert_eq!(bench.paint(), (vec![5, 700], vec![5]), "the second write changed nothing");
    assert_eq!(bench.picture.dot(2, 5), 0x12_3456);
    assert_eq!(bench.paint(), (vec![], vec![]));
    // Without a note nobody looks.
    DeviceMemory::write(&*bench.card.vram, 9 * PAGE, &[1]);
    assert_eq!(bench.paint(), (vec![], vec![]));
}

#[test]
fn a_row_is_read_if_any_of_its_pages_was_written() {
    let mut bench = Bench::new();
    bench.card.set_vbe(800, 600, 32);
    bench.paint();
    // Row 1 lies in bytes 3200 to 6400: in the first two pages.
    bench.draw(PAGE, &[1]);
    let (_, painted) = bench.paint();
    assert_eq!(painted, [1]);
    bench.draw(0, &[1]);
    assert_eq!(bench.memory.log.lock().written, [0]);
    assert_eq!(bench.paint().0.len(), 2, "rows 0 and 1");
}

#[test]
fn whatever_changes_the_picture_reads_all_of_it() {
    let mut bench = Bench::new();
    bench.card.dispi(9, 10);
    assert_eq!(bench.paint().0, (10..778).collect::<Vec<_>>(), "panned");
    assert_eq!(bench.paint().0, []);
    bench.painter.invalidate();
    assert_eq!(bench.paint().0.len(), 768);
    // Off and on again.
    bench.card.set(0x3c4, 1, 0x20);
    bench.paint();
    bench.card.set(0x3c4, 1, 0);
    assert_eq!(bench.paint().0.len(), 768);
}

#[test]
fn what_was_written_outside_the_picture_is_seen_when_it_comes_into_view() {
    let mut bench = Bench::new();
    bench.draw(770 * PAGE, &[1]);
    assert_eq!(bench.paint(), (vec![], vec![]));
    bench.card.dispi(9, 10);
    bench.paint();
    assert_eq!(bench.picture.dot(0, 760), 1);
}

#[test]
fn each_painter_sees_each_write() {
    let mut bench = Bench::new();
    let mut second = Painter::new();
    second.paint(&bench.card.vga, &mut Picture::default());
    bench.draw(3 * PAGE, &[1]);
    assert_eq!(bench.paint(), (vec![3], vec![3]));
    let mut picture = Picture { width: 1024, dots: vec![0; 1024 * 768], ..Picture::default() };
    assert_eq!(second.paint(&bench.card.vga, &mut picture), 1);
    assert_eq!(picture.painted, [3]);
}
