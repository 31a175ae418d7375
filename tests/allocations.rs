//! Counts the allocations that one request on a keep-alive connection costs a worker.
//!
//! The usual request costs none, and any request a bounded number. The tests run the real event loop with
//! an application that does not allocate. The allocator below serves the whole program but counts by
//! thread, and each worker has a thread of its own, so the tests beside these do not add to a count.
#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arctos_worker::application::{
    AppBody, AppError, Application, Content, Outlet, Reply, Request, Stream,
};
use arctos_worker::http::ResponseHead;
use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::Counter;

use crate::support::server::{PATIENCE, Server};

/// Number of requests that a connection sends before any is counted, after one that takes more than one
/// turn of the loop. They bring the worker's buffers to their final size, and so the lists of clients that
/// wait for another turn or a deadline. Whether a counted request grows such a list would otherwise depend
/// on how often the kernel preempts the worker.
const WARMUP_COUNT: u64 = 64;
/// Number of requests whose allocations are counted.
const COUNTED: u64 = 256;

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ITEMS: &str = "GET /items HTTP/1.1\r\nHost: localhost\r\n\r\n";
const MANY: &str = "GET /many HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ROUTED: &str = "GET /routed HTTP/1.1\r\nHost: localhost\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
const FIELDS: &str = "GET /shop/cart?item=17 HTTP/1.1\r\nHost: shop.example.com\r\n\
    Cache-Control: max-age=0\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
    Accept: text/html\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\n\
    Referer: https://shop.example.com/shop/\r\nAccept-Encoding: gzip\r\n\
    Accept-Language: de-DE,de;q=0.9\r\nCookie: session=6f1d2c3b4a59687786950a1b2c3d4e5f\r\n\r\n";

thread_local! {
    /// Number of allocations that this thread has made.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which also counts.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

// SAFETY: each method passes its arguments on to the system's allocator, whose contract is the same.
// The count is a `const` thread local without a destructor, so that using it does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Answers `/items` with four items, `/many` with more items than one turn of the loop sends, and every
/// other path with a single body; `/routed` has a route. Publishes at each call how often its thread has
/// allocated so far.
struct NonAllocating {
    head: ResponseHead,
    route: Option<&'static str>,
    allocated: Arc<AtomicU64>,
}

/// The items after the first.
struct Items {
    left: u32,
}

impl AppBody for Items {
    type Chunk = &'static [u8];

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Self::Chunk>, AppError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        Ok(Some(b"item"))
    }

    fn close(self) {}
}

impl Application for NonAllocating {
    type Body = Items;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Items>, AppError> {
        self.allocated.store(COUNT.get(), Ordering::Release);
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        self.head.add(b"Content-Type", b"text/plain").map_err(|_| AppError::Invalid)?;
        self.route = None;
        let items = |left| Stream { first: Some(&b"item"[..]), rest: Items { left }, length: None };
        let content = match request.head.path.of(request.head_bytes) {
            b"/items" => Content::Stream(items(3)),
            b"/many" => Content::Stream(items(200)),
            b"/routed" => {
                self.route = Some("/orders/{id}");
                Content::Whole(&b"Hello, World!"[..])
            }
            _ => Content::Whole(&b"Hello, World!"[..]),
        };
        Ok(Reply { head: &self.head, content })
    }

    fn route(&self) -> Option<&str> {
        self.route
    }

    fn request_id<'a>(&'a mut self, _request: &Request<'a>) -> Option<&'a [u8]> {
        Some(b"6f1d2c3b4a59")
    }

    fn variables(&self, keep: &mut dyn FnMut(Option<&[u8]>)) {
        keep(Some(b"anna"));
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// Sends one request in the given pieces and reads the whole response.
fn exchange(stream: &mut TcpStream, pieces: &[&str]) {
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            // The response does not depend on this pause: it makes the pieces arrive one by one.
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        stream.write_all(piece.as_bytes()).expect("the worker reads");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"Hello, World!") && !answer.ends_with(b"0\r\n\r\n") {
        let mut room = [0; 1024];
        match stream.read(&mut room).expect("a response") {
            0 => panic!("the worker closed: {:?}", String::from_utf8_lossy(&answer)),
            count => answer.extend_from_slice(&room[..count]),
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Returns how many allocations one such request costs the worker, rounded up.
fn allocations(pieces: &[&str]) -> u64 {
    allocations_with(Settings::default(), None, pieces)
}

/// The same with these settings, and an access log.
fn allocations_with(settings: Settings, access_log: Option<OwnedFd>, pieces: &[&str]) -> u64 {
    let allocated = Arc::new(AtomicU64::new(0));
    let published = Arc::clone(&allocated);
    let server = Server::start_logging(settings, access_log, move || NonAllocating {
        head: ResponseHead::default(),
        route: None,
        allocated,
    });
    let mut stream = server.connect();
    exchange(&mut stream, &[MANY]);
    for _ in 0..WARMUP_COUNT {
        exchange(&mut stream, pieces);
    }
    let before = published.load(Ordering::Acquire);
    for _ in 0..COUNTED {
        exchange(&mut stream, pieces);
    }
    let count = published.load(Ordering::Acquire) - before;
    let sent = server.entry().counters.get(Counter::ReqDone);
    assert_eq!(sent, 1 + WARMUP_COUNT + COUNTED, "each request is counted once");
    drop(stream);
    server.stop();
    count.div_ceil(COUNTED)
}

#[test]
fn a_request_on_a_keep_alive_connection_allocates_nothing() {
    for request in [PLAIN, FIELDS, UPLOAD, ROUTED] {
        assert_eq!(allocations(&[request]), 0, "{request}");
    }
}

#[test]
fn a_line_of_the_access_log_allocates_nothing() {
    let formats = [
        "text",
        "json",
        "combined",
        "json:time,method,path,status,route,queue_ms,application_ms,send_ms,request_id,{user-agent}i",
        "%(h)s %(t)s %(r)s %(s)s %(D)s %({content-type}o)s %({user}e)s %(arctos.request_id)s",
    ];
    for format in formats {
        for request in [FIELDS, ROUTED] {
            let mut settings = Settings::default();
            settings.access_log.format = Some(format.parse().expect("a format"));
            let mut file = tempfile::tempfile().expect("a file");
            let access_log = file.try_clone().expect("a duplicate").into();
            assert_eq!(allocations_with(settings, Some(access_log), &[request]), 0, "{format}");
            let mut lines = String::new();
            file.rewind().expect("the start of the file");
            file.read_to_string(&mut lines).expect("lines of text");
            assert_eq!(lines.lines().count() as u64, 1 + WARMUP_COUNT + COUNTED, "{format}");
        }
    }
}

#[test]
fn a_request_that_could_be_slow_or_has_an_identifier_allocates_nothing() {
    let mut slow = Settings::default();
    slow.timeouts.slow = Some(PATIENCE);
    let named =
        Settings { request_id_header: Some("X-Request-Id".to_owned()), ..Settings::default() };
    for settings in [slow, named] {
        for request in [FIELDS, ROUTED] {
            assert_eq!(allocations_with(settings.clone(), None, &[request]), 0, "{request}");
        }
    }
}

#[test]
fn a_streamed_reply_allocates_only_the_record_of_its_request() {
    // The record itself, the head, and the list of its fields.
    assert_eq!(allocations(&[ITEMS]), 3);
}

#[test]
fn a_request_in_two_pieces_allocates_a_bounded_number_of_times() {
    // The first piece is kept until the rest arrives.
    let (first, second) = FIELDS.split_at(100);
    assert!(allocations(&[first, second]) <= 1);
    // The head, its fields, the buffer that gathers them, and the memory of the body.
    let (head, body) = UPLOAD.split_at(UPLOAD.len() - 2);
    assert!(allocations(&[head, body]) <= 6);
}

#[test]
fn the_memory_of_a_large_body_is_allocated_once() {
    let body = "x".repeat(1 << 20);
    let head =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    // The first piece decides how much is reserved, and it is long enough here. Otherwise as for a small body.
    let first = head + &body[..128 * 1024];
    assert!(allocations(&[&first, &body[128 * 1024..]]) <= 8);
}
