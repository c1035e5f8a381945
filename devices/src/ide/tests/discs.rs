//! Discs that are changed while the system runs.

use super::*;

const CD: usize = 2;
const OTHER_SECTORS: usize = 50;

fn other_disc() -> Option<Arc<dyn Medium>> {
    Some(Arc::new(HeapDisk::new(vec![0xee; OTHER_SECTORS * 2048], true)))
}

impl Pc {
    /// Sense key and code of a command that fails.
    fn sense_of(&self, command: &[u8]) -> (u8, u8) {
        let error = self.packet(command, 8).unwrap_err();
        let sense = self.packet(&[0x03, 0, 0, 0, 18], 18).unwrap();
        assert_eq!(error >> 4, sense[2]);
        (sense[2], sense[12])
    }

    /// Event code and status of the medium, as Linux asks for them.
    fn event(&self) -> (u8, u8) {
        let event = self.packet(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8], 8).unwrap();
        (event[4], event[5])
    }

    fn first_byte(&self) -> u8 {
        self.packet(&[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], 2048).unwrap()[0]
    }
}

#[test]
fn another_disc_is_told_by_senses_and_by_an_event() {
    let pc = Pc::new();
    pc.settle_cdrom();
    assert_eq!(pc.event(), (0, 2));
    pc.ide.change_disc(CD, other_disc()).unwrap();
    assert_eq!(pc.event(), (2, 2));
    assert_eq!(pc.event(), (0, 2), "once");
    // As from a drive that loads: no medium, then one that may have changed.
    assert_eq!(pc.sense_of(&[0x00]), (2, 0x3a));
    assert_eq!(pc.sense_of(&[0x25]), (6, 0x28));
    assert_eq!(pc.packet(&[0x25], 8), Ok(vec![0, 0, 0, 49, 0, 0, 8, 0]));
    assert_eq!(pc.first_byte(), 0xee);
    assert_eq!(pc.sense_of(&[0x28, 0, 0, 0, 0, 50, 0, 0, 1, 0]), (5, 0x21), "a smaller disc");
}

#[test]
fn a_disc_is_taken_out_and_one_put_in() {
    let pc = Pc::new();
    pc.settle_cdrom();
    pc.ide.change_disc(CD, None).unwrap();
    assert_eq!(pc.event(), (3, 1), "removed, the tray is open");
    for _ in 0..2 {
        assert_eq!(pc.sense_of(&[0x00]), (2, 0x3a));
    }
    // The system may close the tray, and finds it empty.
    assert_eq!(pc.packet(&[0x1b, 0, 0, 0, 3], 0), Ok(vec![]));
    assert_eq!(pc.event(), (0, 0));
    pc.ide.change_disc(CD, None).unwrap();
    assert_eq!(pc.event(), (0, 1), "there was none to be removed");
    pc.ide.change_disc(CD, other_disc()).unwrap();
    assert_eq!(pc.event(), (2, 2));
    assert_eq!(pc.sense_of(&[0x00]), (2, 0x3a));
    assert_eq!(pc.sense_of(&[0x00]), (6, 0x28));
    assert_eq!(pc.first_byte(), 0xee);
}

#[test]
fn a_locked_door_stays_shut_until_the_system_opens_it() {
    let pc = Pc::new();
    pc.settle_cdrom();
    assert_eq!(pc.packet(&[0x1e, 0, 0, 0, 1], 0), Ok(vec![]));
    assert_eq!(pc.ide.change_disc(CD, other_disc()), Err(DoorLocked));
    assert_eq!(pc.event(), (1, 2), "someone wants the disc");
    assert_eq!(pc.first_byte(), cd_image()[2048]);
    assert_eq!(pc.packet(&[0x1e, 0, 0, 0, 0], 0), Ok(vec![]));
    assert_eq!(pc.packet(&[0x1b, 0, 0, 0, 2], 0), Ok(vec![]));
    pc.ide.change_disc(CD, other_disc()).unwrap();
    assert_eq!(pc.sense_of(&[0x00]), (2, 0x3a));
    assert_eq!(pc.sense_of(&[0x00]), (6, 0x28));
    assert_eq!(pc.first_byte(), 0xee);
    // Places without a drive for discs.
    for place in [0, 1, 3, 4, usize::MAX] {
        assert_eq!(pc.ide.change_disc(place, other_disc()), Ok(()));
        assert!(pc.ide.disc(place).is_none());
    }
}

#[test]
fn a_read_that_the_change_meets_fails() {
    let pc = Pc::new();
    pc.settle_cdrom();
    pc.command(0x170, [0, 0, 0, 0, 8, 0xa0], 0xa0);
    pc.outsw(0x170, &[0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
    pc.insw(0x170, 2048);
    pc.ide.change_disc(CD, other_disc()).unwrap();
    assert!(pc.irqs[1].is_high());
    assert_eq!((pc.inb(0x177) & 0x89, pc.inb(0x171) >> 4), (1, 2));
    assert_eq!(pc.sense_of(&[0x00]), (2, 0x3a));
    assert_eq!(pc.sense_of(&[0x00]), (6, 0x28));
    // By DMA, before the bus master has begun.
    pc.prd(&[(BUFFER, 4096)]);
    pc.command(0x170, [1, 0, 0, 0, 0, 0xa0], 0xa0);
    pc.outsw(0x170, &[0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    pc.ide.change_disc(CD, Some(Arc::new(HeapDisk::new(cd_image(), true)))).unwrap();
    pc.outl(0xc00c, PRD_TABLE);
    pc.outb(0xc008, 0x09);
    assert_eq!((pc.inb(0x177) & 0x89, pc.inb(0x171) >> 4), (1, 2));
    assert_eq!(pc.ram(BUFFER, 4096), [0; 4096]);
    pc.outb(0xc008, 0);
    let (_, _) = (pc.sense_of(&[0x00]), pc.sense_of(&[0x00]));
    assert_eq!(pc.first_byte(), cd_image()[2048]);
}
