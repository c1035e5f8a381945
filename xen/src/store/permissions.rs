//! Permissions of nodes: the owner with what all others may, then what single domains may.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use bitflags::bitflags;

use super::{DomId, Error};

bitflags! {
    /// The uses of a node that a domain may make.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u8 {
        /// Read it, list it, and be told of its changes.
        const READ = 1;
        /// Write and remove it, and create nodes below.
        const WRITE = 2;
        /// Change its permissions.
        const OWNER = 4;
    }
}

/// An entry: `r1` lets domain 1 read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain.
    pub domain: DomId,
    /// Its rights; in the first entry those of all domains that have no entry.
    pub rights: Rights,
}

impl Permission {
    /// Nothing: `n`.
    pub const fn none(domain: DomId) -> Self {
        Self { domain, rights: Rights::empty() }
    }

    /// Reading: `r`.
    pub const fn read(domain: DomId) -> Self {
        Self { domain, rights: Rights::READ }
    }

    /// Reading and writing: `b`.
    pub const fn both(domain: DomId) -> Self {
        Self { domain, rights: Rights::READ.union(Rights::WRITE) }
    }

    const fn letter(self) -> char {
        match (self.rights.contains(Rights::READ), self.rights.contains(Rights::WRITE)) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        }
    }

    /// Reads an entry as it is sent.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (letter, digits) = text.split_first()?;
        let rights = match letter {
            b'n' => Rights::empty(),
            b'r' => Rights::READ,
            b'w' => Rights::WRITE,
            b'b' => Rights::READ | Rights::WRITE,
            _ => return None,
        };
        // `parse` would take a sign.
        let is_number = digits.iter().all(u8::is_ascii_digit);
        let domain = core::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()?;
        Some(Self { domain, rights })
    }
}

impl core::fmt::Display for Permission {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{}{}", self.letter(), self.domain)
    }
}

/// The permissions of a node. There is always a first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    owner: Permission,
    others: Vec<Permission>,
}

impl Permissions {
    /// The owner with what all may, and the entries of others.
    pub fn new(owner: Permission, others: &[Permission]) -> Self {
        Self { owner, others: others.to_vec() }
    }

    /// The domain that the node belongs to, and is counted for.
    pub fn owner(&self) -> DomId {
        self.owner.domain
    }

    /// Number of entries.
    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = Permission> {
        core::iter::once(self.owner).chain(self.others.iter().copied())
    }

    /// The rights of `domain`: all if it is the owner or domain 0.
    pub fn rights(&self, domain: DomId) -> Rights {
        if domain == 0 || domain == self.owner.domain {
            return Rights::all();
        }
        let own = self.others.iter().find(|entry| entry.domain == domain);
        own.unwrap_or(&self.owner).rights
    }

    /// The permissions of a node that `creator` makes below: a guest owns what it creates.
    pub(super) fn inherited(&self, creator: DomId) -> Self {
        let mut permissions = self.clone();
        if creator != 0 {
            permissions.owner.domain = creator;
        }
        permissions
    }

    /// Takes away the entries of a domain that is gone.
    pub(super) fn forget(&mut self, domain: DomId) {
        self.others.retain(|entry| entry.domain != domain);
    }

    /// The entries as they are sent, each with a NUL.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.entries().flat_map(|entry| format!("{entry}\0").into_bytes()).collect()
    }

    /// Reads entries as they are sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or one is no permission.
    pub(super) fn parse<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut entries = entries.map(|entry| Permission::parse(entry).ok_or(Error::Invalid));
        let owner = entries.next().ok_or(Error::Invalid)??;
        let mut others = vec![];
        for entry in entries {
            others.push(entry?);
        }
        Ok(Self { owner, others })
    }
}
