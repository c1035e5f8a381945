//! The failures of a medium, in the log.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{Client, Completion, Error, Geometry, Medium, Op, Queue, Request, Submitted, User};

/// A medium whose failures are logged: the first of them, the tenth, the hundredth and so on; but
/// not those that a guest brings about itself, as by a request behind the end.
pub struct Watched {
    medium: Arc<dyn Medium>,
    failures: Arc<Failures>,
}

/// How often a medium has failed.
struct Failures {
    /// Whose medium it is, and what it is to them.
    name: String,
    count: AtomicU64,
}

impl Watched {
    /// The medium, which the log calls `name`: the guest's name and the disk's.
    pub fn new(medium: Arc<dyn Medium>, name: String) -> Arc<Self> {
        Arc::new(Self { medium, failures: Arc::new(Failures { name, count: AtomicU64::new(0) }) })
    }
}

impl Failures {
    fn look(&self, Completion { request, result }: &Completion) {
        let Err(error @ (Error::Io | Error::Gone)) = result else { return };
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if !is_power_of_ten(count) {
            return;
        }
        let (name, offset) = (&self.name, request.offset_bytes);
        let bytes = request.data.length_bytes();
        match request.op {
            Op::Flush => log::warn!("{name}: flush: {error} (failure {count})"),
            op => {
                log::warn!("{name}: {op:?} of {bytes} bytes at {offset}: {error} (failure {count})")
            }
        }
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) == count)
}

impl Medium for Watched {
    fn geometry(&self) -> Geometry {
        self.medium.geometry()
    }

    fn open(self: Arc<Self>, client: Weak<dyn Client>, user: User) -> Arc<dyn Queue> {
        let watch = Arc::new(Watch { client, failures: self.failures.clone() });
        let client: Weak<Watch> = Arc::downgrade(&watch);
        let queue = self.medium.clone().open(client, user);
        Arc::new(WatchedQueue { queue, watch })
    }
}

/// The client of the medium, on its way to the device.
struct Watch {
    client: Weak<dyn Client>,
    failures: Arc<Failures>,
}

impl Client for Watch {
    fn complete(&self, completion: Completion) {
        self.failures.look(&completion);
        if let Some(client) = self.client.upgrade() {
            client.complete(completion);
        }
    }
}

struct WatchedQueue {
    queue: Arc<dyn Queue>,
    watch: Arc<Watch>,
}

impl Queue for WatchedQueue {
    fn submit(&self, request: Request) -> Submitted {
        let submitted = self.queue.submit(request);
        if let Submitted::Done(completion) = &submitted {
            self.watch.failures.look(completion);
        }
        submitted
    }

    fn cancel(&self, tag: u64) {
        self.queue.cancel(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, SlowDisk};
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;

    extern crate std;

    static LINES: spin::Mutex<Vec<String>> = spin::Mutex::new(Vec::new());

    struct Lines;

    impl log::Log for Lines {
        fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            LINES.lock().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    #[derive(Default)]
    struct Results(spin::Mutex<Vec<Result<(), Error>>>);

    impl Client for Results {
        fn complete(&self, completion: Completion) {
            self.0.lock().push(completion.result);
        }
    }

    #[test]
    fn failures_of_the_medium_reach_the_device_each_and_the_log_now_and_then() {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let disk = SlowDisk::new(vec![0; 1024], false);
        let results = Arc::new(Results::default());
        let client: Weak<Results> = Arc::downgrade(&results);
        let watched = Watched::new(disk.clone(), "guest: xvda".into());
        assert_eq!(watched.geometry(), disk.geometry());
        let queue = watched.open(client, User { id: 1, weight: 256 });
        let request = || Request { tag: 5, op: Op::Read, offset_bytes: 512, data: Data::zeroed(8) };
        // A failure that the guest brings about is no news.
        for result in [Err(Error::OutOfRange), Ok(())] {
            assert!(matches!(queue.submit(request()), Submitted::Pending));
            assert!(disk.complete(0, result));
        }
        for _ in 0..99 {
            queue.submit(request());
            disk.complete(0, Err(Error::Io));
        }
        queue.submit(Request { op: Op::Flush, data: Data::NONE, ..request() });
        disk.complete(0, Err(Error::Gone));
        assert_eq!(results.0.lock().len(), 102);
        assert_eq!(results.0.lock()[..3], [Err(Error::OutOfRange), Ok(()), Err(Error::Io)]);
        assert_eq!(
            *LINES.lock(),
            [
                "guest: xvda: Read of 8 bytes at 512: the medium failed (failure 1)",
                "guest: xvda: Read of 8 bytes at 512: the medium failed (failure 10)",
                "guest: xvda: flush: the medium is gone (failure 100)",
            ]
        );
        queue.cancel(7);
        assert_eq!(disk.cancelled(), [7]);
    }
}
