//! The back ends of one guest, and XenStore, which all guests share.

mod balloon;
mod card;
mod console;
mod device;
mod disk;
mod store_port;

pub use card::{CardLink, CardSettings};
pub use console::{Console, ConsoleOutput};
pub use disk::{DiskLink, DiskSettings};

use crate::blkback::Vbd;
use crate::events::BackEnd;
use crate::machine::ShutdownReason;
use crate::pages;
use crate::params::Params;
use crate::platform::PvPlatform;
use crate::store::{Connection, DomId, Error, Local, Peer, Store, tree};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use balloon::Balloon;
use card::Card;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use device::Class;
use devices::lock::{Ranked, rank};
use disk::Disk;
use store_port::{StorePage, StorePort};

/// Connections and watchers that are served in one go. The rest waits for another: guests may keep
/// each other busy.
const MAX_SERVED: usize = 16;

/// Work that must wait, for a rate or for another's room, waits so long.
const WORK_DELAY_NS: u64 = 1_000_000;
/// Requests that a disk is not told of wait so long at most, in which a guest that is busy makes
/// several.
const LOOK_DELAY_NS: u64 = 100_000;

/// XenStore, and the guests that are connected to it.
#[derive(Default)]
pub struct SharedStore {
    store: Ranked<Store, { rank::PV_STORE }>,
    guests: Ranked<Vec<Weak<BackEnds>>, { rank::PV_STORE }>,
}

impl SharedStore {
    /// A store without guests.
    pub fn new() -> Arc<Self> {
        let mut store = Store::default();
        // The paths are valid.
        let _ = tree::begin(&mut store);
        Arc::new(Self { store: Ranked::new(store), guests: Ranked::default() })
    }

    /// Works on the store; then those hear of it that watch what has changed.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let result = work(&mut self.store.lock());
        self.settle();
        result
    }

    /// Serves those for whom something waits.
    fn settle(&self) {
        for _ in 0..MAX_SERVED {
            let Some(peer) = self.store.lock().take_ready() else { return };
            let guests: Vec<_> = self.guests.lock().iter().filter_map(Weak::upgrade).collect();
            match peer {
                Peer::Ring(domain) => {
                    let found = guests.iter().find(|guest| guest.platform.domain() == domain);
                    found.into_iter().for_each(|guest| guest.exchange());
                }
                Peer::Local(local) => guests.iter().for_each(|guest| guest.attend_device(local)),
            }
        }
        // Some of them may stand still.
        let guests: Vec<_> = self.guests.lock().iter().filter_map(Weak::upgrade).collect();
        guests.iter().for_each(|guest| guest.ask_for_work());
    }
}

/// The facts that a guest's back ends are made with.
pub struct Settings {
    /// The guest's name.
    pub name: String,
    /// Its part of its media's time beside others: `cpu_weight`.
    pub weight: u32,
    /// The RAM that it starts with, and may have at most.
    pub static_max_kib: u64,
    /// The RAM that it is to have.
    pub target_kib: u64,
    /// The memory of its display.
    pub video_kib: u64,
    /// Virtual CPUs that there may be.
    pub max_vcpus: u32,
    /// Those that there are at the start.
    pub vcpus: u32,
    /// Its disks.
    pub disks: Vec<DiskSettings>,
    /// Its network cards.
    pub cards: Vec<CardSettings>,
    /// Where its console writes to.
    pub console: Arc<dyn ConsoleOutput>,
}

/// The back ends of one life of a guest.
pub struct BackEnds {
    platform: Arc<PvPlatform>,
    shared: Arc<SharedStore>,
    uuid: String,
    /// Without disks and cards.
    settings: Settings,
    connection: Ranked<Option<Connection>, { rank::PV_BACK_END }>,
    store_port: Arc<dyn BackEnd>,
    console: Arc<Console>,
    balloon: Balloon,
    /// Virtual CPUs that the guest is to use.
    vcpus: AtomicU32,
    disks: Ranked<Vec<Disk>, { rank::PV_LIST }>,
    cards: Ranked<Vec<Card>, { rank::PV_LIST }>,
    /// Devices that have asked to be served from elsewhere.
    work: Ranked<BTreeSet<(Class, u32)>, { rank::PV_LIST }>,
    /// Some have, or XenStore has something for others.
    is_asked: AtomicBool,
    /// Devices that have asked to be served by the clock.
    later: Ranked<BTreeSet<(Class, u32)>, { rank::PV_LIST }>,
    /// Disks that look for requests by the clock.
    looking: Ranked<BTreeSet<u32>, { rank::PV_LIST }>,
    /// There are some.
    is_looking: AtomicBool,
}

impl BackEnds {
    /// The back ends of the guest that has `platform`: its nodes in the store, its console, and its
    /// disks and network cards, which wait for front ends.
    ///
    /// # Errors
    /// [`Error`] if the store refuses a node: the name of the guest or of a device is too long for
    /// one.
    pub fn connect(
        platform: &Arc<PvPlatform>,
        shared: &Arc<SharedStore>,
        mut settings: Settings,
    ) -> Result<OwnedBackEnds, Error> {
        let disks = core::mem::take(&mut settings.disks);
        let cards = core::mem::take(&mut settings.cards);
        let console = Console::new(platform, settings.console.clone());
        let balloon = Balloon::new(platform, settings.static_max_kib, settings.target_kib);
        let back_ends = OwnedBackEnds(Arc::new_cyclic(|itself: &Weak<Self>| Self {
            platform: platform.clone(),
            shared: shared.clone(),
            uuid: uuid_text(platform.uuid()),
            vcpus: settings.vcpus.into(),
            settings,
            connection: Ranked::default(),
            store_port: Arc::new(StorePort(itself.clone())),
            console,
            balloon,
            disks: Ranked::default(),
            cards: Ranked::default(),
            work: Ranked::default(),
            is_asked: AtomicBool::new(false),
            later: Ranked::default(),
            looking: Ranked::default(),
            is_looking: AtomicBool::new(false),
        }));
        let mut guests = shared.guests.lock();
        guests.retain(|guest| guest.strong_count() > 0);
        guests.push(Arc::downgrade(&back_ends));
        drop(guests);
        shared.with(|store| {
            back_ends.begin(store)?;
            for settings in disks {
                let disk = Disk::new(settings, store, &back_ends)?;
                back_ends.disks.lock().push(disk);
            }
            for settings in cards {
                let card = Card::new(settings, store, &back_ends)?;
                back_ends.cards.lock().push(card);
            }
            Ok(())
        })?;
        Ok(back_ends)
    }

    /// Joins store and console to ports of a guest that has none yet, and makes its nodes.
    fn begin(&self, store: &mut Store) -> Result<(), Error> {
        let domain = self.platform.domain();
        *self.connection.lock() = Connection::new(domain, &StorePage(&self.platform)).ok();
        // A guest that is new has ports left.
        let port_of = |back_end: &Arc<dyn BackEnd>| {
            let connect =
                self.platform.with_ports(|ports, words| ports.connect_new(words, back_end.clone()));
            connect.unwrap_or(0)
        };
        let console: Arc<dyn BackEnd> = self.console.clone();
        let ring = tree::Channel { gfn: pages::STORE_GFN, port: port_of(&self.store_port) };
        let console = tree::Channel { gfn: pages::CONSOLE_GFN, port: port_of(&console) };
        self.platform.change_params(|params: &mut Params| {
            (params.store_gfn, params.store_port) = (ring.gfn, ring.port.into());
            (params.console_gfn, params.console_port) = (console.gfn, console.port.into());
        });
        let settings = &self.settings;
        let guest = tree::Guest {
            domain,
            name: &settings.name,
            uuid: &self.uuid,
            static_max_kib: settings.static_max_kib,
            target_kib: self.memory_target_kib(),
            videoram_kib: settings.video_kib,
            max_vcpus: settings.max_vcpus,
            vcpus: self.vcpus.load(Ordering::Relaxed),
            store: ring,
            console,
            platform: &[("acpi", "1")],
        };
        tree::create(store, &guest)
    }

    /// Another kernel starts in the guest's memory: it finds platform, store and devices as at the
    /// guest's start. To be called by a virtual CPU of the guest's, without locks.
    pub fn soft_reset(&self) {
        let domain = self.platform.domain();
        self.shared.with(|store| {
            self.drop_leaving(store);
            self.drop_leaving_cards(store);
        });
        let disks = self.disks.lock().clone();
        disks.iter().for_each(|disk| disk.vbd.let_go());
        let cards = self.cards.lock().clone();
        cards.iter().for_each(|card| card.vif.let_go());
        self.platform.soft_reset();
        let made = self.shared.with(|store| {
            tree::remove(store, domain, &self.uuid)?;
            self.begin(store)?;
            disks.iter().try_for_each(|disk| disk.start_over(store, domain))?;
            cards.iter().try_for_each(|card| card.start_over(store, domain))
        });
        // It has had these nodes before.
        if made.is_err() {
            self.platform.machine().shut_down(ShutdownReason::Crash);
        }
    }

    /// The console.
    pub const fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// Asks the kernel by `control/shutdown`: `poweroff`, `reboot`, `halt`. False if it has no PV
    /// drivers that would hear of it: it has told no callback.
    pub fn ask(&self, word: &str) -> bool {
        if self.platform.params().callback == 0 {
            return false;
        }
        let path = format!("/local/domain/{}/control/shutdown", self.platform.domain());
        self.shared.with(|store| store.write(&path, word.as_bytes())).is_ok()
    }

    /// Tells the kernel by `cpu/N/availability` that it is to use the first `count` of its virtual
    /// CPUs (`xl vcpu-set`). Kernels of HVM guests mostly hear of them by ACPI instead.
    pub fn set_vcpus(&self, count: u32) {
        self.vcpus.store(count, Ordering::Relaxed);
        let domain = self.platform.domain();
        self.shared.with(|store| {
            for vcpu in 0..self.settings.max_vcpus {
                // The path is valid.
                let _ = tree::set_vcpu(store, domain, vcpu, vcpu < count);
            }
        });
    }

    /// The guest has sent to XenStore.
    fn serve_store(&self) {
        self.exchange();
        self.shared.settle();
    }

    /// Takes requests from the guest's ring, and puts what waits for the guest into it.
    fn exchange(&self) {
        let tells = {
            let mut store = self.shared.store.lock();
            let mut connection = self.connection.lock();
            let page = StorePage(&self.platform);
            connection.as_mut().is_some_and(|connection| connection.serve(&mut store, &page))
        };
        if tells {
            self.platform.notify(&self.store_port);
        }
    }

    /// The device that has this name in the store looks what has become of its front end.
    fn attend_device(&self, local: Local) {
        let disk = self.disks.lock().iter().find(|disk| disk.vbd.local() == local).cloned();
        if let Some(disk) = disk {
            return self.attend(&disk.vbd);
        }
        let card = self.cards.lock().iter().find(|card| card.vif.local() == local).cloned();
        if let Some(card) = card {
            self.attend_card(&card.vif);
        }
    }

    fn attend(&self, disk: &Vbd) {
        let store = &mut self.shared.store.lock();
        // Its paths are valid.
        let _ = disk.attend(store);
        self.drop_if_unplugged(store, disk);
    }

    /// A device is to be served from elsewhere.
    fn call_back(&self, class: Class, device: u32) {
        self.work.lock().insert((class, device));
        self.ask_for_work();
    }

    /// A disk is to look for requests in a while, and before whenever the guest idles.
    fn look_later(&self, device: u32) {
        self.looking.lock().insert(device);
        self.is_looking.store(true, Ordering::Release);
        self.platform.machine().work_in(LOOK_DELAY_NS);
    }

    /// A virtual CPU has nothing to run. To be called without locks.
    #[inline]
    pub fn idle(&self) {
        if self.is_looking.load(Ordering::Acquire) {
            self.serve_early();
        }
    }

    #[cold]
    fn serve_early(&self) {
        let devices = self.looking.lock().clone();
        self.disks_of(&devices).iter().for_each(|disk| disk.serve());
    }

    fn disks_of(&self, devices: &BTreeSet<u32>) -> Vec<Arc<Vbd>> {
        let disks = self.disks.lock();
        let vbds = disks.iter().map(|disk| &disk.vbd);
        vbds.filter(|vbd| devices.contains(&vbd.id())).cloned().collect()
    }

    /// The same for a little later.
    fn call_back_later(&self, class: Class, device: u32) {
        self.later.lock().insert((class, device));
        self.platform.machine().work_in(WORK_DELAY_NS);
    }

    fn work_on_disk(&self, id: u32) {
        for disk in self.disks_of(&[id].into()) {
            self.attend(&disk);
            disk.serve();
        }
    }

    fn ask_for_work(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.platform.machine().look_for_events(0);
    }

    /// Does what back ends have asked for, if they have. To be called without locks when a virtual
    /// CPU was told to look for events.
    #[inline]
    pub fn work(&self) {
        if self.is_asked.swap(false, Ordering::AcqRel) {
            // Devices that are served here ask for more work.
            let devices = core::mem::take(&mut *self.work.lock());
            self.serve(devices);
        }
    }

    /// Does what had to wait. To be called without locks when the moment has come that
    /// [`Machine::work_in`](crate::machine::Machine::work_in) was told.
    pub fn work_by_the_clock(&self) {
        if self.console.pass_output() {
            self.platform.machine().work_in(WORK_DELAY_NS);
        }
        if self.is_looking.swap(false, Ordering::AcqRel) {
            let devices = core::mem::take(&mut *self.looking.lock());
            self.disks_of(&devices).iter().for_each(|disk| disk.look());
        }
        let devices = core::mem::take(&mut *self.later.lock());
        self.serve(devices);
    }

    fn serve(&self, devices: BTreeSet<(Class, u32)>) {
        for (class, device) in devices {
            match class {
                Class::Disk => self.work_on_disk(device),
                Class::Card => self.work_on_card(device),
            }
        }
        self.shared.settle();
    }
}

/// The back ends of one life of a guest, which end with it: when this is dropped, which is done
/// without locks. Others may still reach them for a moment.
pub struct OwnedBackEnds(Arc<BackEnds>);

impl Deref for OwnedBackEnds {
    type Target = Arc<BackEnds>;

    fn deref(&self) -> &Arc<BackEnds> {
        &self.0
    }
}

impl Drop for OwnedBackEnds {
    fn drop(&mut self) {
        let domain: DomId = self.platform.domain();
        let disks = core::mem::take(&mut *self.disks.lock());
        let cards = core::mem::take(&mut *self.cards.lock());
        self.shared.with(|store| {
            for disk in disks {
                disk.vbd.end(store);
            }
            for card in cards {
                card.vif.end(store);
            }
            // A part of what was made may be gone already.
            let _ = tree::remove(store, domain, &self.uuid);
        });
    }
}

/// As xl prints it.
fn uuid_text(uuid: [u8; 16]) -> String {
    let hex =
        |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let parts = [&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]].map(hex);
    parts.join("-")
}
