//! The machine's own keyboard and display: the guest's, for whoever sits before them.

use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::json;
use tests::{Guest, Machine, PATIENCE, Result, spec, start};
use xtask::picture::{ALIKE, Picture};

/// Waits until the machine's display shows what the guest's screen shows.
fn await_mirrored(machine: &mut Machine) -> Result<()> {
    let mut similarity = 0.0;
    while !machine.time_left().is_zero() {
        machine.pause(Duration::from_secs(1));
        let shown = Picture::from_png(&machine.host_control().screen_png()?)?;
        similarity = shown.similarity(&Picture::from_png(&machine.control().screen_png()?)?);
        if similarity > ALIKE {
            return Ok(());
        }
    }
    bail!("the machine's display is not the guest's (similarity {similarity:.2})")
}

/// Presses a key until the guest's text screen shows `text`: GRUB drops what is typed while it
/// draws its menu.
fn press_until(machine: &mut Machine, key: &str, text: &str) -> Result<()> {
    while !machine.time_left().is_zero() {
        machine.host_control().type_text(key)?;
        machine.pause(Duration::from_secs(2));
        if machine.control().screen_text()?.is_some_and(|screen| screen.contains(text)) {
            return Ok(());
        }
    }
    bail!("{key:?} does not lead to {text:?}\n{}", machine.report())
}

#[test]
fn the_machines_keyboard_types_and_its_display_shows_text_and_graphics() -> Result<()> {
    let mut machine = start(&spec(Guest::GrubRescue)?)?;
    machine.expect("GNU GRUB")?;
    press_until(&mut machine, "c", "grub>")?;
    await_mirrored(&mut machine)?;
    machine
        .host_control()
        .type_text("\ninsmod all_video\nset gfxmode=800x600x32\ninsmod videotest\nvideotest\n")?;
    while machine.control().screen_text()?.is_some() && !machine.time_left().is_zero() {
        machine.pause(Duration::from_secs(1));
    }
    await_mirrored(&mut machine)?;
    // A key ends the picture.
    press_until(&mut machine, "\n", "grub>")?;
    await_mirrored(&mut machine)
}

/// Left Ctrl, left Alt and `]` lead from the guest to the prompt on the machine's screen, and back.
#[test]
fn a_chord_leads_to_the_prompt_on_the_machines_screen() -> Result<()> {
    let mut machine = start(&spec(Guest::GrubRescue)?)?;
    machine.expect("GNU GRUB")?;
    await_mirrored(&mut machine)?;
    let key = |name: &str| json!({"type": "qcode", "data": name});
    let chord = json!({"keys": [key("ctrl"), key("alt"), key("bracket_right")]});
    machine.host_control().call("send-key", chord.clone(), PATIENCE)?;
    await_host_text(&mut machine, "bulkhead>")?;
    machine.host_control().type_text("list\n")?;
    await_host_text(&mut machine, "State")?;
    let unmoved =
        machine.control().screen_text()?.is_some_and(|screen| screen.contains("GNU GRUB"));
    ensure!(unmoved, "what was typed reached the guest\n{}", machine.report());
    machine.host_control().call("send-key", chord, PATIENCE)?;
    await_mirrored(&mut machine)
}

/// Waits until the machine's own screen shows `text`.
fn await_host_text(machine: &mut Machine, text: &str) -> Result<()> {
    while !machine.time_left().is_zero() {
        if machine.host_control().screen_text()?.is_some_and(|screen| screen.contains(text)) {
            return Ok(());
        }
        machine.pause(Duration::from_millis(500));
    }
    bail!("the machine's screen does not show {text:?}\n{}", machine.report())
}

/// The guest's mouse says what is done with the machine's: buttons, movement with its
/// sign, the wheel.
#[test]
fn the_machines_mouse_is_the_guests() -> Result<()> {
    let mut machine = start(&spec(Guest::Mouse)?)?;
    machine.expect_serial("MOUSE ready")?;
    let moved =
        |axis: &str, value: i32| json!({"type": "rel", "data": {"axis": axis, "value": value}});
    let button =
        |name: &str, down: bool| json!({"type": "btn", "data": {"button": name, "down": down}});
    // A packet: sign bits and buttons (bit 3 is always set), right, up, wheel towards the user.
    for (event, packet) in [
        (json!([moved("x", 5), moved("y", 3)]), "28 05 fd 00"),
        (json!([moved("x", -7)]), "18 f9 00 00"),
        (json!([button("left", true)]), "09 00 00 00"),
        (json!([button("left", false)]), "08 00 00 00"),
        (json!([button("right", true)]), "0a 00 00 00"),
        (json!([moved("y", -2)]), "0a 00 02 00"),
        (json!([button("right", false)]), "08 00 00 00"),
        (json!([button("wheel-down", true), button("wheel-down", false)]), "08 00 00 01"),
    ] {
        machine.host_control().call("input-send-event", json!({"events": event}), PATIENCE)?;
        machine.expect_serial(packet)?;
    }
    Ok(())
}
