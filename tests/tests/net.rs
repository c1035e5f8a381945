//! PV network cards of guests, and the virtual switch between them.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::{
    Backend, Guest, LINUX_PROMPT, Machine, Result, Spec, focus, on_both_backends, shell, start,
};
use xtask::paths;

on_both_backends! { two_guests_reach_each_other }

/// IPv6 would send frames of its own, from addresses that are not the guest's.
const WITHOUT_IPV6: &str = "for it in all default; do it=/proc/sys/net/ipv6/conf/$it/disable_ipv6; \
                            [ ! -e $it ] || echo 1 > $it; done";

/// A machine with the guests `alpha` and `beta`, whose lists of cards are `vifs`.
fn two_guests(backend: Backend, cpus: u32, folder: &str, vifs: [&str; 2]) -> Result<Machine> {
    let iso = Guest::LinuxAmd64Pv.iso()?;
    let name = iso.file_name().context("the guest's ISO has no name")?.display();
    let folder = paths::empty_build_folder(folder)?;
    // The machine has memory for the first one, and a little more.
    let [alpha, beta] = [("alpha", 160, vifs[0]), ("beta", 80, vifs[1])].map(|it| {
        let (guest, memory, vif) = it;
        let config = folder.join(format!("{guest}.cfg"));
        let text = format!(
            "type='hvm'\nname='{guest}'\nmemory={memory}\nxen_platform_pci=1\n\
             disk=['file:/{name},hdc:cdrom,r']\nvif=[{vif}]\n"
        );
        std::fs::write(&config, text).map(|()| config)
    });
    let (config, disks) = (Some(alpha?), vec![beta?]);
    let iso = Some(iso);
    let mut machine = start(&Spec { backend, smp: cpus, iso, config, disks, ..Spec::default() })?;
    machine.expect_serial(LINUX_PROMPT)?;
    Ok(machine)
}

/// Loads the driver if it is not there yet, waits for the card, and gives it an address.
fn bring_up(machine: &mut Machine, name: &str, address: &str) -> Result<()> {
    focus(machine, name)?;
    machine.serial().write(b"\n")?;
    machine.expect_serial(LINUX_PROMPT)?;
    let line = format!(
        "dmesg -n 1; [ -e /sys/module/xen_netfront ] || load-modules; \
         until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done; {WITHOUT_IPV6}; \
         ip addr add {address}/24 dev eth0; ip link set eth0 up; cat /sys/class/net/eth0/address"
    );
    let mac = shell(machine, &line)?;
    ensure!(mac.starts_with("00:16:3e:"), "{mac}");
    Ok(())
}

/// The card of beta, as the switch knows it.
fn card_of_beta(machine: &mut Machine) -> Result<Value> {
    Ok(machine.call("guest.cards", json!({ "guest": "beta" }))?[0].take())
}

/// Two guests with a card each on one bridge find each other by ARP; a file comes from one to the
/// other by TCP, in segments of up to 64 KiB, and is the same there.
fn two_guests_reach_each_other(backend: Backend) -> Result<()> {
    let (cpus, mebibytes) = if backend == Backend::Svm { (2, 32) } else { (1, 2) };
    let vif = "'bridge=xenbr0,ip=10.9.0.0/24,antispoof=1'";
    let mut machine = two_guests(backend, cpus, &format!("tests/net-{backend:?}"), [vif; 2])?;
    bring_up(&mut machine, "alpha", "10.9.0.2")?;
    shell(&mut machine, "ip route add 10.8.0.1 dev eth0")?;
    let serve = format!(
        "dd if=/dev/urandom of=/tmp/data bs=1M count={mebibytes} 2>/dev/null; \
         httpd -h /tmp; md5sum < /tmp/data"
    );
    let sent = shell(&mut machine, &serve)?;
    bring_up(&mut machine, "beta", "10.9.0.1")?;
    let ping = shell(&mut machine, "ping -c 3 -i 0.2 10.9.0.2 | grep -c 'bytes from 10.9.0.2'")?;
    ensure!(ping == "3", "{ping}");
    let received = shell(&mut machine, "wget -q -O - http://10.9.0.2/data | md5sum")?;
    ensure!(sent == received, "{sent} {received}");
    // Segments have passed whole: far fewer frames than of 1500 bytes.
    let statistics =
        "cd /sys/class/net/eth0/statistics; echo $(( $(cat rx_bytes) / $(cat rx_packets) ))";
    let mean: u32 = shell(&mut machine, statistics)?.parse()?;
    ensure!(mean > 8000, "{mean} bytes a frame");
    // An address that is not its own does not get through, though the other would answer.
    shell(&mut machine, "ip addr add 10.8.0.1/32 dev eth0")?;
    let before = card_of_beta(&mut machine)?;
    let ping = "ping -c 1 -W 2 -I 10.8.0.1 10.9.0.2 | grep -c 'bytes from'";
    ensure!(shell(&mut machine, ping)? == "0");
    let after = card_of_beta(&mut machine)?;
    let dropped = |card: &Value| card["sent"]["dropped"].as_u64();
    ensure!(dropped(&before) == Some(0) && dropped(&after) > Some(0), "{before} {after}");
    ensure!(after["received"]["bytes"].as_u64() > Some(mebibytes << 20), "{after}");
    let complaints = "dmesg | grep -iE '(net|vif|xen).*(fail|error|wrong|bad|timeout)'";
    let complaints = shell(&mut machine, complaints)?;
    ensure!(complaints.is_empty(), "{complaints}");
    // The store has both ends in state 4.
    let paths = ["/local/domain/0/backend/vif/1/0/state", "/local/domain/1/device/vif/0/state"];
    let states = machine.call("store.command", json!({ "name": "read", "words": paths }))?;
    ensure!(states["text"] == "4\n4\n", "{states}");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("beta: powered off: Destroy")
}

/// A card is plugged into a guest that runs, which reaches another by it, and is let go; another
/// has its place then.
#[test]
fn linux_has_a_card_plugged_in_and_lets_it_go() -> Result<()> {
    let mut machine = two_guests(Backend::Svm, 2, "tests/net-plug", ["", "'bridge=xenbr0'"])?;
    bring_up(&mut machine, "beta", "10.9.0.1")?;
    for device in ["0", "00:16:3e:00:00:07"] {
        let card = json!({ "guest": "alpha", "card": "bridge=xenbr0,mac=00:16:3e:00:00:07" });
        machine.call("guest.attach_card", card)?;
        bring_up(&mut machine, "alpha", "10.9.0.2")?;
        ensure!(shell(&mut machine, "cat /sys/class/net/eth0/address")? == "00:16:3e:00:00:07");
        let ping = "ping -c 3 -i 0.2 10.9.0.1 | grep -c 'bytes from 10.9.0.1'";
        ensure!(shell(&mut machine, ping)? == "3");
        let cards = machine.call("guest.cards", json!({ "guest": "alpha" }))?;
        ensure!(cards[0]["state"] == 4 && cards[0]["id"] == 0, "{cards}");
        machine.call("guest.detach_card", json!({ "guest": "alpha", "device": device }))?;
        let gone = "while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done; echo gone";
        ensure!(shell(&mut machine, gone)? == "gone");
        let cards = machine.call("guest.cards", json!({ "guest": "alpha" }))?;
        ensure!(cards == json!([]), "{cards}");
        let path = "/local/domain/0/backend/vif/1";
        let left = machine.call("store.command", json!({ "name": "list", "words": [path] }))?;
        ensure!(!left["text"].as_str().unwrap_or_default().contains('0'), "{left}");
    }
    let refused = machine.call("guest.detach_card", json!({ "guest": "alpha", "device": "0" }));
    ensure!(refused.is_err_and(|error| error.to_string().contains("Unknown device 0.")));
    let complaints = "dmesg | grep -iE '(net|vif|xen|grant|g\\.e).*(fail|error|wrong|bad|timeout|\
                      still|in use|leak)|bug:|warning:|call trace'";
    let complaints = shell(&mut machine, complaints)?;
    ensure!(complaints.is_empty(), "{complaints}");
    machine.serial().write(b"poweroff -f\n")?;
    machine.expect_serial("alpha: powered off: Destroy")
}
