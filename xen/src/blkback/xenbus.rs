//! How a disk and its front end find each other, by XenStore.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;

use block::{Client, Medium, Opened};
use devices::lock::Ranked;

use super::pace::Pace;
use super::pages::Pages;
use super::spec::{
    INFO_CDROM, INFO_READ_ONLY, INFO_REMOVABLE, MAX_INDIRECT_SEGMENTS, Protocol, SECTOR_BYTES,
};
use super::{Inner, Queue, Settings, Vbd};
use crate::guest::Guest;
use crate::ring::Ring;
use crate::store::xenbus::{self, BackEndNodes, State};
use crate::store::{Error, Local, Store};

/// Pages of a ring, as a power of two, at most.
const MAX_RING_PAGE_ORDER: u32 = 4;
/// The class of the device.
const CLASS: &str = "vbd";

impl Vbd {
    /// A disk whose nodes are in the store ([`tree`](crate::store::tree)), and which begins to look
    /// for its front end; a CD-ROM drive without a disc waits for one before.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn new(
        store: &mut Store,
        settings: Settings,
        medium: Option<Arc<dyn Medium>>,
        guest: Arc<dyn Guest>,
    ) -> Result<Arc<Self>, Error> {
        let nodes = BackEndNodes::new(store, settings.domain, CLASS, settings.id)?;
        let vbd = Arc::new_cyclic(|itself: &Weak<Self>| Self {
            settings,
            guest,
            local: nodes.local(),
            itself: Weak::clone(itself),
            inner: Ranked::new(Inner {
                nodes,
                medium: medium.map(|it| Opened::new(it, itself.clone(), settings.user())),
                queues: vec![],
                is_broken: false,
                first_queue: 0,
                jobs: BTreeMap::new(),
                bytes_in_flight: 0,
                last_tag: 0,
                pace: Pace::default(),
                will_look: false,
            }),
        });
        vbd.offer(store, &mut vbd.inner.lock())?;
        Ok(vbd)
    }

    /// The device's number in the store.
    pub const fn id(&self) -> u32 {
        self.settings.id
    }

    /// Its name in the store: events for it are to be followed by [`Vbd::attend`].
    pub const fn local(&self) -> Local {
        self.local
    }

    /// Follows the front end's state.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn attend(&self, store: &mut Store) -> Result<(), Error> {
        let inner = &mut self.inner.lock();
        let Some(front) = inner.nodes.front_state(store) else { return Ok(()) };
        if inner.is_broken {
            inner.disconnect();
            inner.nodes.give_up(store, "the ring's indices are wrong")?;
        }
        match front {
            State::Initialising => match inner.nodes.state() {
                State::InitWait => Ok(()),
                _ if inner.nodes.is_online(store) => {
                    inner.disconnect();
                    if inner.jobs.is_empty() { self.offer(store, inner) } else { Ok(()) }
                }
                _ => inner.close(store),
            },
            State::Initialised | State::Connected => match inner.nodes.state() {
                State::Initialising | State::InitWait | State::Closed
                    if inner.nodes.is_online(store) && inner.jobs.is_empty() =>
                {
                    self.connect(store, inner)
                }
                _ => Ok(()),
            },
            State::Closing if inner.nodes.state() != State::Closed => {
                inner.nodes.set_state(store, State::Closing)
            }
            State::Closed => inner.close(store),
            // The front end's directory has been removed.
            State::Unknown => inner.close(store),
            State::Closing | State::InitWait | State::Reconfiguring | State::Reconfigured => Ok(()),
        }
    }

    /// Asks the front end to let the disk go (`xl block-detach`).
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn unplug(&self, store: &mut Store) -> Result<(), Error> {
        let inner = &mut self.inner.lock();
        inner.nodes.write(store, "online", 0)?;
        match inner.nodes.state() {
            State::Closed => Ok(()),
            // Without a front end there is none to ask.
            _ if inner.queues.is_empty() => inner.close(store),
            _ => inner.nodes.set_state(store, State::Closing),
        }
    }

    /// Another disc is in the drive, or none (`xl cd-insert`). Requests that are on their way are
    /// done by the one before. A front end that is connected is told of the new size, as of a disk
    /// that has grown.
    ///
    /// # Errors
    /// None, as the paths are valid.
    pub fn change_medium(
        &self,
        store: &mut Store,
        medium: Option<Arc<dyn Medium>>,
        target: &str,
    ) -> Result<(), Error> {
        let client: Weak<dyn Client> = self.itself.clone();
        let medium = medium.map(|it| Opened::new(it, client, self.settings.user()));
        let inner = &mut self.inner.lock();
        inner.nodes.write(store, "params", target)?;
        inner.medium = medium;
        self.describe(store, inner)?;
        match inner.nodes.state() {
            State::Connected => inner.nodes.show_state(store),
            State::Initialising | State::InitWait => self.offer(store, inner),
            _ => Ok(()),
        }
    }

    /// True after [`Vbd::unplug`].
    pub fn is_leaving(&self, store: &Store) -> bool {
        !self.inner.lock().nodes.is_online(store)
    }

    /// True if the disk was let go after [`Vbd::unplug`], so that it and its nodes may be removed.
    pub fn is_unplugged(&self, store: &Store) -> bool {
        let nodes = &self.inner.lock().nodes;
        nodes.state() == State::Closed && !nodes.is_online(store)
    }

    /// Lets the guest's rings and its ports go at once, whatever it does: another kernel starts.
    /// The pages that the medium works on are let go by it, and not accessed any more. The next
    /// [`Vbd::attend`] waits for the next front end.
    pub fn let_go(&self) {
        let inner = &mut self.inner.lock();
        inner.disconnect();
        inner.nodes.start_over();
    }

    /// The same when the guest's life ends. Returns false if the medium still works on requests,
    /// after which [`Guest::call_back`] is called.
    pub fn end(&self, store: &mut Store) -> bool {
        let inner = &mut self.inner.lock();
        inner.nodes.end(store);
        inner.disconnect();
        inner.jobs.is_empty()
    }

    /// Writes what the disk can do, and waits for a front end.
    fn offer(&self, store: &mut Store, inner: &mut Inner) -> Result<(), Error> {
        if inner.medium.is_none() {
            return inner.nodes.set_state(store, State::Initialising);
        }
        self.describe(store, inner)?;
        for (name, value) in [
            ("max-ring-page-order", MAX_RING_PAGE_ORDER),
            ("max-ring-pages", 1 << MAX_RING_PAGE_ORDER),
            ("multi-queue-max-queues", self.settings.max_queues),
            ("feature-flush-cache", 1),
            ("feature-barrier", 1),
            ("feature-max-indirect-segments", MAX_INDIRECT_SEGMENTS as u32),
        ] {
            inner.nodes.write(store, name, value)?;
        }
        inner.nodes.set_state(store, State::InitWait)
    }

    /// Writes what the disk is.
    fn describe(&self, store: &mut Store, inner: &Inner) -> Result<(), Error> {
        let geometry = self.geometry(inner);
        let mut info = 0;
        if self.settings.is_cdrom {
            info |= INFO_CDROM | INFO_REMOVABLE;
        }
        if geometry.is_read_only {
            info |= INFO_READ_ONLY;
        }
        for (name, value) in [
            ("sectors", geometry.size_bytes / SECTOR_BYTES),
            ("info", info.into()),
            ("sector-size", geometry.sector_bytes),
            ("physical-sector-size", geometry.physical_sector_bytes),
            ("feature-discard", geometry.has_discard.into()),
            ("discard-granularity", geometry.physical_sector_bytes),
            ("discard-alignment", 0),
            ("discard-secure", 0),
        ] {
            inner.nodes.write(store, name, value)?;
        }
        Ok(())
    }

    fn connect(&self, store: &mut Store, inner: &mut Inner) -> Result<(), Error> {
        match self.queues(store, &inner.nodes.front()) {
            Ok(queues) => {
                inner.queues = queues;
                self.describe(store, inner)?;
                inner.nodes.connected(store)?;
                // Requests may be there already, whose signal came too early.
                self.pump(inner);
                Ok(())
            }
            Err(reason) => inner.nodes.give_up(store, reason),
        }
    }

    /// Maps the rings, and binds the ports, that the front end names.
    fn queues(&self, store: &Store, front: &str) -> Result<Vec<Queue>, &'static str> {
        let protocol = match xenbus::text(store, front, "protocol") {
            None => Protocol::native(self.guest.width()),
            Some(name) => Protocol::from_name(name.trim()).ok_or("protocol is not known")?,
        };
        let directories: Vec<String> = match xenbus::number(store, front, "multi-queue-num-queues")
        {
            None | Some(1) => vec![front.into()],
            Some(queues) if (1..=self.settings.max_queues).contains(&queues) => {
                (0..queues).map(|queue| format!("{front}/queue-{queue}")).collect()
            }
            Some(_) => return Err("multi-queue-num-queues is out of range"),
        };
        let mut queues = vec![];
        for directory in directories {
            let references = ring_references(store, front, &directory)?;
            let port = xenbus::number(store, &directory, "event-channel");
            let port = port.ok_or("event-channel is missing")?;
            let guest = Arc::clone(&self.guest);
            let ring = Ring::new(Arc::clone(&guest), protocol.stride_bytes(), &references)
                .map_err(|_| "ring-ref cannot be mapped")?;
            let port = guest.bind(port).ok_or("event-channel cannot be bound")?;
            let pages = Pages::new(Arc::clone(&guest));
            queues.push(Queue::new(guest, protocol, ring, pages, port));
        }
        Ok(queues)
    }
}

impl Inner {
    /// The front end is gone: so is the connection, when the medium has done what it still had to.
    fn close(&mut self, store: &mut Store) -> Result<(), Error> {
        self.disconnect();
        if self.jobs.is_empty() { self.nodes.set_state(store, State::Closed) } else { Ok(()) }
    }

    /// Lets the guest's rings and its ports go. The requests that are on their way are answered to
    /// no one.
    fn disconnect(&mut self) {
        let waiting = self.queues.drain(..).filter_map(|mut queue| queue.waiting.take());
        self.bytes_in_flight -= waiting.map(|job| job.length_bytes).sum::<usize>();
        self.is_broken = false;
        self.jobs.values_mut().for_each(|job| job.is_orphan = true);
    }
}

/// The pages of the ring that `directory` names.
fn ring_references(store: &Store, front: &str, directory: &str) -> Result<Vec<u32>, &'static str> {
    // FreeBSD and OpenBSD give their number too, or instead of its logarithm.
    let pages = xenbus::number(store, front, "num-ring-pages");
    let order = pages.filter(|pages| pages.is_power_of_two()).map(u32::ilog2);
    let order = xenbus::number(store, front, "ring-page-order").or(order).unwrap_or(0);
    if order > MAX_RING_PAGE_ORDER {
        return Err("ring-page-order is too large");
    }
    if order == 0
        && let Some(reference) = xenbus::number(store, directory, "ring-ref")
    {
        return Ok(vec![reference]);
    }
    let reference = |page| xenbus::number(store, directory, &format!("ring-ref{page}"));
    (0..1 << order).map(reference).collect::<Option<_>>().ok_or("ring-ref is missing")
}
