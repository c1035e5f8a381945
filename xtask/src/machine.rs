//! A running machine: started, watched, typed at, and ended when dropped.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::emulator::monitor::Monitor;
use crate::emulator::no_control::NoControl;
use crate::emulator::rpc_control::RpcControl;
use crate::emulator::{Control, Spec, Wiring, emulator};
use crate::progress::tail;
use crate::rpc::{Client, Dialect, MANAGEMENT_SOCKET};
use crate::serial::{Serial, Tee};
use crate::times;
use crate::watchdog::{self, Watchdog};

/// The screen is looked at this often; longer after a look that failed.
const SCREEN_INTERVAL: Duration = Duration::from_millis(500);
const SCREEN_INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(8);

/// The time that an emulator has to start, and a method of the management port to answer: the host
/// may be busy.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

/// How long a single look at the serial port lasts.
const TICK: Duration = Duration::from_millis(100);

/// The end of the hypervisor's last words: nothing comes any more.
const LAST_WORDS: &str = "; the machine has stopped";

/// Why a machine did not do what was expected.
#[derive(Debug)]
pub enum Failure {
    /// Its time was up.
    TimedOut(String),
    /// The emulator ended, or the hypervisor has stopped the machine.
    Ended(String),
    /// The emulator makes no progress: neither the guest nor the hypervisor gives a sign of life.
    Stalled(String),
}

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut(what) => write!(formatter, "timed out, {what}"),
            Self::Ended(what) => write!(formatter, "the machine ended, {what}"),
            Self::Stalled(what) => write!(formatter, "the emulator stalled, {what}"),
        }
    }
}

/// A machine in an emulator, wired to the harness.
pub struct Machine {
    child: Child,
    started: Instant,
    folder: PathBuf,
    serial: Serial,
    control: Box<dyn Control>,
    /// QEMU's own monitor, beside a control that is the hypervisor's.
    monitor: Option<Monitor>,
    deadline: Instant,
    /// For an emulator that may stall.
    watchdog: Option<Watchdog>,
    /// The serial text up to here was consumed by earlier expectations.
    consumed: usize,
}

impl Machine {
    /// Starts `spec`; everything that is awaited must have come within `timeout` from now.
    ///
    /// # Errors
    /// If the emulator does not start.
    pub fn start(spec: &Spec, window: bool, timeout: Duration, tees: Vec<Tee>) -> Result<Self> {
        let started = Instant::now();
        let emulator = emulator(spec);
        let folder = Folder::new()?;
        let listen = |name: &str, wanted: bool| -> Result<Option<UnixListener>> {
            if !wanted {
                return Ok(None);
            }
            let listener = UnixListener::bind(folder.0.join(name))?;
            listener.set_nonblocking(true)?;
            Ok(Some(listener))
        };
        let com1 = listen("com1.sock", true)?;
        let com2 = listen(MANAGEMENT_SOCKET, emulator.has_management_port())?;
        let monitor = listen("monitor.sock", emulator.has_monitor())?;
        let errors = std::fs::File::create(folder.0.join("emulator.log"))?;
        let mut command = emulator.command(spec, &folder.0, Wiring::Harness, window)?;
        command.stdin(Stdio::null()).stdout(errors.try_clone()?).stderr(errors);
        let mut child = command.spawn().context("cannot start the emulator")?;
        let mut connect = |listener: Option<UnixListener>| match listener {
            Some(listener) => accept(&listener, &mut child, &folder.0).map(Some),
            None => Ok(None),
        };
        let com1 = connect(com1)?.context("no COM1")?;
        let com2 = connect(com2)?;
        let monitor =
            match connect(monitor)? {
                Some(stream) => {
                    let client = Client::new(stream, Dialect::Qmp)?;
                    let monitor = Monitor::new(client, folder.0.clone());
                    Some(monitor.with_context(|| {
                        format!("the emulator does not run:\n{}", said(&folder.0))
                    })?)
                }
                None => None,
            };
        let (control, monitor): (Box<dyn Control>, _) = match (com2, monitor) {
            (Some(stream), monitor) => {
                (Box::new(RpcControl::new(Client::new(stream, Dialect::JsonRpc)?)), monitor)
            }
            (None, Some(monitor)) => (Box::new(monitor), None),
            (None, None) => (Box::new(NoControl), None),
        };
        Ok(Self {
            child,
            started,
            folder: folder.keep(),
            serial: Serial::new(com1, tees)?,
            control,
            monitor,
            deadline: Instant::now() + timeout,
            // The maker of an image from outside chooses its management port.
            watchdog: (emulator.may_stall() && spec.host_image.is_none())
                .then(|| Watchdog::new(Instant::now())),
            consumed: 0,
        })
    }

    /// Waits until the guest's serial port or text screen shows `text`. Serial text counts once:
    /// the next expectation looks behind it.
    ///
    /// # Errors
    /// A [`Failure`] with the tail of the serial port and the screen.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        self.await_text(text, true)
    }

    /// Like [`Machine::expect`], but never looks at the screen, so that the run is not disturbed.
    ///
    /// # Errors
    /// As [`Machine::expect`].
    pub fn expect_serial(&mut self, text: &str) -> Result<()> {
        self.await_text(text, false)
    }

    /// Waits until the machine has ended by itself.
    ///
    /// # Errors
    /// A [`Failure`] if it has not within its time.
    pub fn expect_end(&mut self) -> Result<()> {
        while !self.has_ended()? {
            if Instant::now() > self.deadline {
                return Err(self.failure(Failure::TimedOut, "waiting for its end"));
            }
            self.check_progress()?;
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Whether the machine has powered off or its emulator has ended otherwise.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks a machine that has long been silent whether it is there.
    ///
    /// # Errors
    /// [`Failure::Stalled`] if it is not.
    pub fn check_progress(&mut self) -> Result<()> {
        let Some(mut watchdog) = self.watchdog.take() else { return Ok(()) };
        let outcome = self.ask_if_silent(&mut watchdog);
        self.watchdog = Some(watchdog);
        outcome
    }

    fn ask_if_silent(&mut self, watchdog: &mut Watchdog) -> Result<()> {
        if !watchdog.is_suspicious(self.serial.received(), Instant::now()) {
            return Ok(());
        }
        let used_before = self.cpu_time().unwrap_or_default();
        let answer = self.control.call("guest.list", json!({}), watchdog::ANSWER_PATIENCE);
        let now = Instant::now();
        let Err(error) = answer else {
            watchdog.answered(now);
            return Ok(());
        };
        if self.has_ended()? {
            return Ok(());
        }
        let silence = watchdog.silence(now).as_secs();
        let used = self.cpu_time().unwrap_or_default().saturating_sub(used_before).as_secs_f32();
        let what = format!(
            "silent for {silence} s, {used:.1} s of CPU time while it was asked: {error:#}"
        );
        Err(self.failure(Failure::Stalled, &what))
    }

    /// Waits for `time`, or until the machine's time is up.
    pub fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(self.deadline.saturating_duration_since(Instant::now())));
    }

    /// The guest's serial port.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The guest's screen and keyboard.
    pub fn control(&mut self) -> &mut dyn Control {
        &mut *self.control
    }

    /// Calls a method of the hypervisor's management port.
    ///
    /// # Errors
    /// If it fails or is not answered in time.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.control.call(method, params, CALL_PATIENCE)
    }

    /// The hypervisor's counters (`guest.stats`).
    ///
    /// # Errors
    /// If they cannot be had.
    pub fn stats(&mut self) -> Result<Value> {
        self.call("guest.stats", json!({}))
    }

    /// The emulated machine's own display and keyboard, where the emulator gives them; the guest's
    /// otherwise.
    pub fn host_control(&mut self) -> &mut dyn Control {
        match &mut self.monitor {
            Some(monitor) => monitor,
            None => &mut *self.control,
        }
    }

    /// Writes the guest's screen to a PNG file.
    ///
    /// # Errors
    /// If it cannot be had or written.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        let png = self.control.screen_png()?;
        std::fs::write(file, png).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Writes the emulated machine's own display, which the hypervisor draws on, to a PNG file.
    ///
    /// # Errors
    /// If it cannot be had or written.
    pub fn host_screenshot(&mut self, file: &Path) -> Result<()> {
        let png = self.host_control().screen_png()?;
        std::fs::write(file, png).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The CPU time that the emulator has taken so far, in the unit of the kernel's clock ticks (10
    /// ms).
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
    }

    /// The rest of the machine's time: zero when it is up.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The tail of the serial port, the text screen, and what the emulator said.
    pub fn report(&mut self) -> String {
        let mut report =
            format!("--- serial port, last lines\n{}\n", tail(&self.serial.text(), 40));
        match self.control.screen_text() {
            Ok(Some(screen)) => report += &format!("--- screen\n{screen}"),
            Ok(None) => report += "--- screen: graphics\n",
            Err(error) => report += &format!("--- screen: {error:#}\n"),
        }
        let said = said(&self.folder);
        if !said.trim().is_empty() {
            report += &format!("--- emulator\n{said}\n");
        }
        report
    }

    fn await_text(&mut self, text: &str, look_at_screen: bool) -> Result<()> {
        let mut next_look = Instant::now();
        loop {
            // In this order: what came before the end counts.
            let ended = self.child.try_wait()?.is_some() && self.serial.is_closed();
            if let Some(end) = self.serial.find(text, self.consumed) {
                self.consumed = end;
                return Ok(());
            }
            if ended || self.serial.find(LAST_WORDS, self.consumed).is_some() {
                return Err(self.failure(Failure::Ended, &format!("waiting for {text:?}")));
            }
            if Instant::now() > self.deadline {
                return Err(self.failure(Failure::TimedOut, &format!("waiting for {text:?}")));
            }
            self.check_progress()?;
            if look_at_screen && Instant::now() >= next_look {
                let interval = match self.control.screen_text() {
                    Ok(Some(screen)) if screen.contains(text) => return Ok(()),
                    Ok(_) => SCREEN_INTERVAL,
                    Err(_) => SCREEN_INTERVAL_AFTER_FAILURE,
                };
                next_look = Instant::now() + interval;
            }
            self.serial.wait_for_change(TICK);
        }
    }

    fn failure(&mut self, kind: fn(String) -> Failure, what: &str) -> anyhow::Error {
        anyhow!(kind(format!("{what}\n{}", self.report())))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if the emulator has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
        // The test harness names a test's thread.
        let thread = std::thread::current();
        if let Some(test) = thread.name().filter(|name| name.contains("::")) {
            times::record(test, self.started.elapsed());
        }
    }
}

/// A machine's folder while it is being set up. It is in the system's folder for temporary files,
/// since a socket's path must be short.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("bulkhead-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The last lines of what the emulator itself printed.
fn said(folder: &Path) -> String {
    tail(&std::fs::read_to_string(folder.join("emulator.log")).unwrap_or_default(), 20)
}

fn accept(listener: &UnixListener, child: &mut Child, folder: &Path) -> Result<UnixStream> {
    let patience = Instant::now() + CALL_PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if child.try_wait()?.is_none() && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(_) => {
                let _ = child.kill();
                bail!("the emulator did not start:\n{}", said(folder));
            }
        }
    }
}
