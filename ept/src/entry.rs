//! One 64-bit entry, in both formats.

use bitfield_struct::bitfield;

/// The vendor's format of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Intel extended page tables (SDM volume 3, 29.3).
    Ept,
    /// AMD nested page tables: the long-mode format, walked as user accesses (APM volume 2, 15.25).
    Npt,
}

/// The rights of a guest to a page that is mapped; reading is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Write to it.
    pub write: bool,
    /// Fetch instructions from it.
    pub execute: bool,
}

impl Permissions {
    /// Memory.
    pub const ALL: Self = Self { write: true, execute: true };
    /// ROM.
    pub const READ_EXECUTE: Self = Self { write: false, execute: true };
}

/// How the page is cached, before the guest's own wishes (PAT, MTRR) are combined with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Write-back: memory.
    WriteBack,
    /// Uncached: a device's registers.
    Uncached,
}

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The guest's rights.
    pub permissions: Permissions,
    /// How it is cached.
    pub caching: Caching,
    /// In pages of 4 KiB whose dirty flags start clear, for
    /// [`NestedTables::take_dirty`](crate::NestedTables::take_dirty). All others have theirs
    /// set from the start: no processor stops to set them, or logs what it wrote.
    pub tracked: bool,
}

impl Attributes {
    /// Memory whose writes nobody tracks.
    pub const fn memory(permissions: Permissions) -> Self {
        Self { permissions, caching: Caching::WriteBack, tracked: false }
    }
}

/// SDM volume 3, tables 29-1 to 29-6. The flags are ignored unless the EPT pointer switches them
/// on.
#[bitfield(u64)]
struct EptBits {
    read: bool,
    write: bool,
    execute: bool,
    #[bits(3)]
    memory_type: u8,
    ignore_pat: bool,
    large: bool,
    accessed: bool,
    dirty: bool,
    #[bits(2)]
    __: u8,
    #[bits(40)]
    frame: u64,
    #[bits(12)]
    __: u16,
}

/// APM volume 2, 5.3: long-mode page translation. A nested walk counts as a user access.
#[bitfield(u64)]
struct NptBits {
    present: bool,
    write: bool,
    user: bool,
    write_through: bool,
    cache_disable: bool,
    accessed: bool,
    dirty: bool,
    large: bool,
    global: bool,
    #[bits(3)]
    __: u8,
    #[bits(40)]
    frame: u64,
    #[bits(11)]
    __: u16,
    no_execute: bool,
}

const EPT_UNCACHED: u8 = 0;
const EPT_WRITE_BACK: u8 = 6;

impl Format {
    /// An entry that points to a lower table.
    pub(crate) fn table(self, hpa: u64) -> u64 {
        match self {
            Self::Ept => EptBits::new()
                .with_read(true)
                .with_write(true)
                .with_execute(true)
                .with_accessed(true)
                .with_frame(hpa >> 12)
                .into(),
            Self::Npt => NptBits::new()
                .with_present(true)
                .with_write(true)
                .with_user(true)
                .with_accessed(true)
                .with_frame(hpa >> 12)
                .into(),
        }
    }

    /// An entry that maps a page.
    pub(crate) fn leaf(self, hpa: u64, large: bool, attributes: Attributes) -> u64 {
        let Attributes { permissions, caching, tracked } = attributes;
        let uncached = caching == Caching::Uncached;
        match self {
            Self::Ept => EptBits::new()
                .with_read(true)
                .with_write(permissions.write)
                .with_execute(permissions.execute)
                .with_memory_type(if uncached { EPT_UNCACHED } else { EPT_WRITE_BACK })
                .with_large(large)
                .with_accessed(true)
                .with_dirty(!tracked)
                .with_frame(hpa >> 12)
                .into(),
            Self::Npt => NptBits::new()
                .with_present(true)
                .with_write(permissions.write)
                .with_user(true)
                .with_write_through(uncached)
                .with_cache_disable(uncached)
                .with_large(large)
                .with_accessed(true)
                .with_dirty(!tracked)
                .with_frame(hpa >> 12)
                .with_no_execute(!permissions.execute)
                .into(),
        }
    }

    pub(crate) fn is_present(self, entry: u64) -> bool {
        match self {
            Self::Ept => EptBits::from(entry).read(),
            Self::Npt => NptBits::from(entry).present(),
        }
    }

    pub(crate) fn is_large(self, entry: u64) -> bool {
        match self {
            Self::Ept => EptBits::from(entry).large(),
            Self::Npt => NptBits::from(entry).large(),
        }
    }

    /// The entry with its dirty flag clear, if that is set. Only for entries that map a page.
    pub(crate) fn cleaned(self, entry: u64) -> Option<u64> {
        match self {
            Self::Ept => {
                let bits = EptBits::from(entry);
                bits.dirty().then(|| bits.with_dirty(false).into())
            }
            Self::Npt => {
                let bits = NptBits::from(entry);
                bits.dirty().then(|| bits.with_dirty(false).into())
            }
        }
    }

    /// The host-physical address in an entry.
    pub(crate) fn address(self, entry: u64) -> u64 {
        match self {
            Self::Ept => EptBits::from(entry).frame() << 12,
            Self::Npt => NptBits::from(entry).frame() << 12,
        }
    }

    pub(crate) fn permissions(self, entry: u64) -> Permissions {
        match self {
            Self::Ept => {
                let bits = EptBits::from(entry);
                Permissions { write: bits.write(), execute: bits.execute() }
            }
            Self::Npt => {
                let bits = NptBits::from(entry);
                Permissions { write: bits.write(), execute: !bits.no_execute() }
            }
        }
    }

    pub(crate) fn caching(self, entry: u64) -> Caching {
        let uncached = match self {
            Self::Ept => EptBits::from(entry).memory_type() == EPT_UNCACHED,
            Self::Npt => NptBits::from(entry).cache_disable(),
        };
        if uncached { Caching::Uncached } else { Caching::WriteBack }
    }
}
