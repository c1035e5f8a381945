//! Which guest has what of the machine's disks: what one writes to, no other has.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use control::disks::DiskUser;
use core::cell::RefCell;
use core::ops::Range;

/// How a guest has a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads only, and so may others.
    Read,
    /// It may write, and has the disk alone.
    Write,
    /// It may write, whoever else has the disk.
    Shared,
}

impl Access {
    /// As a configuration has it.
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::Shared => "w!",
        }
    }
}

/// All claims. They are made and dropped on the boot CPU alone.
#[derive(Default)]
pub struct Claims(Rc<RefCell<Vec<Rc<Part>>>>);

/// The object of a claim: a range of one of the machine's disks.
struct Part {
    disk: usize,
    range: Range<u64>,
    access: Access,
    guest: String,
}

/// A guest's claim to a disk or partition, which ends when this is dropped.
pub struct Claim {
    all: Rc<RefCell<Vec<Rc<Part>>>>,
    part: Rc<Part>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.borrow_mut().retain(|part| !Rc::ptr_eq(part, &self.part));
    }
}

impl Claims {
    /// Claims a range of a disk, called `name`, for a guest.
    ///
    /// # Errors
    /// Xen's words (its script `block`) if another claim stands against it; who has what.
    pub fn claim(
        &self,
        disk: usize,
        range: &Range<u64>,
        name: &str,
        access: Access,
        guest: &str,
    ) -> Result<Claim, String> {
        let against = |part: &&Rc<Part>| {
            part.disk == disk
                && part.range.start < range.end
                && range.start < part.range.end
                && (access == Access::Write
                    || access == Access::Read && part.access == Access::Write)
        };
        if let Some(part) = self.0.borrow().iter().find(against) {
            let (how, only) =
                if access == Access::Write { ("", "") } else { ("read-write ", "read-only ") };
            return Err(format!(
                "Device /dev/{name} is mounted {how}in a guest domain, and so cannot be mounted \
                 {only}now ({} has it)",
                part.guest
            ));
        }
        let part = Rc::new(Part { disk, range: range.clone(), access, guest: guest.into() });
        self.0.borrow_mut().push(part.clone());
        Ok(Claim { all: self.0.clone(), part })
    }

    /// The guests that have just this range of a disk.
    pub fn of(&self, disk: usize, range: &Range<u64>) -> Vec<DiskUser> {
        let all = self.0.borrow();
        let here = all.iter().filter(|part| part.disk == disk && part.range == *range);
        let user =
            |part: &Rc<Part>| DiskUser { guest: part.guest.clone(), access: part.access.word() };
        here.map(user).collect()
    }
}
