//! The nodes that a guest finds: those that Xen's toolstack writes, libxl of 4.17.
//!
//! A node is either domain 0's and readable by the guest, or the guest's own. Front ends and back
//! ends of devices have a directory each, whose nodes `backend` and `frontend` name the other.

use alloc::format;
use alloc::string::{String, ToString};

use super::path::{home, join};
use super::{DomId, Error, Permission, Permissions, Store};

/// A page that guest and hypervisor share, and the event channel beside it.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The page's frame number.
    pub gfn: u64,
    /// The guest's port.
    pub port: u32,
}

/// The settings of a guest that its nodes are made of.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its number.
    pub domain: DomId,
    /// Its name.
    pub name: &'a str,
    /// Its UUID, as text.
    pub uuid: &'a str,
    /// The RAM that it may have at most (`maxmem`), in KiB. Linux gives back by how much its own
    /// count of RAM and this are apart, beside by how much this is more than its target.
    pub static_max_kib: u64,
    /// The RAM that it is to have, in KiB.
    pub target_kib: u64,
    /// The memory of its display, in KiB.
    pub videoram_kib: u64,
    /// Its virtual CPUs (`maxvcpus`).
    pub max_vcpus: u32,
    /// Those of them that are there at the begin (`vcpus`), the first ones.
    pub vcpus: u32,
    /// The connection to the store.
    pub store: Channel,
    /// The console.
    pub console: Channel,
    /// Nodes in `platform`: `acpi_s3` and such.
    pub platform: &'a [(&'a str, &'a str)],
}

/// A node with its value.
pub type Entry<'a> = (&'a str, &'a str);

/// A device of a guest, served by the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its class: `vbd`, `vif`, `vkbd`, `console`.
    pub class: &'a str,
    /// Its number in its class.
    pub id: u32,
    /// Nodes of the front end, which are the guest's own, beside `backend`, `backend-id` and
    /// `state`.
    pub front: &'a [Entry<'a>],
    /// Nodes of the back end, beside `frontend`, `frontend-id`, `online` and `state`.
    pub back: &'a [Entry<'a>],
}

/// The directories of domain 0 for its back ends, and for what is wrong with them.
const BACK_ENDS: &str = "/local/domain/0/backend";
const BACK_END_ERRORS: &str = "/local/domain/0/error/backend";

/// Empty nodes of the guest's own.
const WRITABLE: [&str; 14] = [
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/feature-s3",
    "control/feature-s4",
    "control/feature-balloon",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

/// Makes the nodes that are there before any guest is.
///
/// # Errors
/// None, as the paths are valid.
pub fn begin(store: &mut Store) -> Result<(), Error> {
    store.write("/local/domain/0/domid", b"0")?;
    store.write("/local/domain/0/name", b"Domain-0")
}

/// Makes the nodes of a guest, and the guest known to the store.
///
/// # Errors
/// [`Error::Invalid`] if the UUID, or a name in `platform`, is no name of a node.
pub fn create(store: &mut Store, guest: &Guest) -> Result<(), Error> {
    let home = home(guest.domain);
    let vm = join("/vm", guest.uuid);
    for directory in [&home, &vm] {
        store.mkdir(directory)?;
        store.rm(directory)?;
        directory_of(store, directory, &readable(guest.domain))?;
    }
    write_all(store, &vm, &[("name", guest.name), ("uuid", guest.uuid), ("image/ostype", "hvm")])?;
    write_all(store, &home, &[("vm", &vm), ("name", guest.name)])?;
    for name in ["cpu", "memory", "device", "control", "hvmloader", "platform"] {
        store.mkdir(&join(&home, name))?;
    }
    for name in WRITABLE {
        let private = Permissions::new(Permission::none(guest.domain), &[]);
        directory_of(store, &join(&home, name), &private)?;
    }
    write_all(store, &join(&home, "platform"), guest.platform)?;
    write_all(
        store,
        &home,
        &[
            ("control/platform-feature-multiprocessor-suspend", "1"),
            ("control/platform-feature-xs_reset_watches", "1"),
            ("domid", &guest.domain.to_string()),
            ("memory/static-max", &guest.static_max_kib.to_string()),
            ("memory/target", &guest.target_kib.to_string()),
            ("memory/videoram", &guest.videoram_kib.to_string()),
            ("store/port", &guest.store.port.to_string()),
            ("store/ring-ref", &guest.store.gfn.to_string()),
        ],
    )?;
    for vcpu in 0..guest.max_vcpus {
        set_vcpu(store, guest.domain, vcpu, vcpu < guest.vcpus)?;
    }
    add_console(store, guest.domain, guest.console)?;
    store.introduce(guest.domain);
    Ok(())
}

/// Says which virtual CPUs a guest is to use (`xl vcpu-set`).
///
/// # Errors
/// None, as the path is valid.
pub fn set_vcpu(store: &mut Store, domain: DomId, vcpu: u32, is_on: bool) -> Result<(), Error> {
    let path = format!("{}/cpu/{vcpu}/availability", home(domain));
    store.write(&path, if is_on { b"online" } else { b"offline" })
}

/// Says how much memory a guest is to have (`xl mem-set`).
///
/// # Errors
/// None, as the path is valid.
pub fn set_memory_target(store: &mut Store, domain: DomId, kib: u64) -> Result<(), Error> {
    store.write(&join(&home(domain), "memory/target"), kib.to_string().as_bytes())
}

/// Removes a guest: its nodes, those of its devices' back ends, and its connection.
///
/// # Errors
/// [`Error::Invalid`] if the UUID is no name of a node.
pub fn remove(store: &mut Store, domain: DomId, uuid: &str) -> Result<(), Error> {
    for directory in [BACK_ENDS, BACK_END_ERRORS] {
        for class in store.list(directory).unwrap_or_default() {
            remove_if_there(store, &format!("{directory}/{class}/{domain}"))?;
        }
    }
    remove_if_there(store, &join("/vm", uuid))?;
    remove_if_there(store, &home(domain))?;
    store.release(domain);
    Ok(())
}

/// The front end's directory.
pub fn front_path(domain: DomId, class: &str, id: u32) -> String {
    match (class, id) {
        // The first console has a place of its own.
        ("console", 0) => join(&home(domain), "console"),
        _ => format!("{}/device/{class}/{id}", home(domain)),
    }
}

/// The back end's directory.
pub fn back_path(domain: DomId, class: &str, id: u32) -> String {
    format!("{BACK_ENDS}/{class}/{domain}/{id}")
}

/// Says why a device does not work, or that nothing is wrong with it any more.
///
/// # Errors
/// None, if the class is a name of a node.
pub fn set_error(
    store: &mut Store,
    domain: DomId,
    class: &str,
    id: u32,
    reason: Option<&str>,
) -> Result<(), Error> {
    let directory = format!("{BACK_END_ERRORS}/{class}/{domain}/{id}");
    match reason {
        Some(reason) => store.write(&join(&directory, "error"), reason.as_bytes()),
        None => remove_if_there(store, &directory),
    }
}

/// Makes the nodes of a device, in state 1 on both sides. The front end learns of it by the last
/// that is written.
///
/// # Errors
/// [`Error::Invalid`] if a name is none of a node.
pub fn add_device(store: &mut Store, domain: DomId, device: &Device) -> Result<(), Error> {
    add_back_end(store, domain, device)?;
    let front = front_path(domain, device.class, device.id);
    remove_if_there(store, &front)?;
    directory_of(store, &front, &front_ends(domain))?;
    let back = back_path(domain, device.class, device.id);
    write_all(store, &front, &[("backend", &back), ("backend-id", "0")])?;
    write_all(store, &front, device.front)?;
    write_all(store, &front, &[("state", "1")])
}

/// Removes the nodes of a device.
///
/// # Errors
/// None, if the class is a name of a node.
pub fn remove_device(store: &mut Store, domain: DomId, class: &str, id: u32) -> Result<(), Error> {
    set_error(store, domain, class, id, None)?;
    remove_if_there(store, &back_path(domain, class, id))?;
    remove_if_there(store, &front_path(domain, class, id))
}

/// The first console: no states are exchanged for it, and the guest may change nothing.
fn add_console(store: &mut Store, domain: DomId, console: Channel) -> Result<(), Error> {
    let back = [("protocol", "vt100")];
    let device = Device { class: "console", id: 0, front: &[], back: &back };
    add_back_end(store, domain, &device)?;
    write_all(
        store,
        &front_path(domain, "console", 0),
        &[
            ("backend", &back_path(domain, "console", 0)),
            ("backend-id", "0"),
            ("limit", "1048576"),
            ("type", "xenconsoled"),
            ("output", "pty"),
            ("tty", ""),
            ("port", &console.port.to_string()),
            ("ring-ref", &console.gfn.to_string()),
        ],
    )
}

fn add_back_end(store: &mut Store, domain: DomId, device: &Device) -> Result<(), Error> {
    let back = back_path(domain, device.class, device.id);
    remove_if_there(store, &back)?;
    directory_of(store, &back, &readable(domain))?;
    let front = front_path(domain, device.class, device.id);
    let id = domain.to_string();
    write_all(store, &back, &[("frontend", &front), ("frontend-id", &id), ("online", "1")])?;
    write_all(store, &back, device.back)?;
    write_all(store, &back, &[("state", "1")])
}

/// Permissions of domain 0's nodes that the guest may read.
fn readable(domain: DomId) -> Permissions {
    Permissions::new(Permission::none(0), &[Permission::read(domain)])
}

/// Permissions of a front end's nodes.
fn front_ends(domain: DomId) -> Permissions {
    Permissions::new(Permission::none(domain), &[Permission::read(0)])
}

fn directory_of(store: &mut Store, path: &str, permissions: &Permissions) -> Result<(), Error> {
    store.mkdir(path)?;
    store.set_permissions(path, permissions.clone())
}

fn write_all(store: &mut Store, directory: &str, entries: &[Entry]) -> Result<(), Error> {
    entries
        .iter()
        .try_for_each(|(name, value)| store.write(&join(directory, name), value.as_bytes()))
}

fn remove_if_there(store: &mut Store, path: &str) -> Result<(), Error> {
    match store.rm(path) {
        Err(Error::NotFound) => Ok(()),
        other => other,
    }
}
