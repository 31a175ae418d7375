use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::small_files::SMALL_BYTES;
use super::*;
use crate::http::Piece;
use crate::settings::{HeaderMap, Limits, StaticMount};

/// Sun, 06 Nov 1994 08:49:37 GMT
const MODIFIED: u64 = 784_111_777;

/// What a client would get.
#[derive(Debug)]
struct Got {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

struct Site {
    dir: tempfile::TempDir,
    files: StaticFiles,
    /// The application's head, if it is asked.
    named_by: Option<ResponseHead>,
    instant: Instant,
}

/// The bytes of a body, wherever they are.
fn bytes_of(content: FileContent<'_>) -> Vec<u8> {
    let body = match content {
        FileContent::Nothing => return Vec::new(),
        FileContent::Bytes(bytes) => return bytes.to_vec(),
        FileContent::File(body) => body,
    };
    let file = fs::File::from(body.file.as_fd().try_clone_to_owned().unwrap());
    let read = |range: ByteRange| {
        let mut bytes = vec![0; range.length.try_into().unwrap()];
        file.read_exact_at(&mut bytes, range.offset).unwrap();
        bytes
    };
    match body.parts {
        FileParts::One(range) => read(range),
        FileParts::Several(mut multipart) => {
            let pieces = std::iter::from_fn(|| multipart.next_piece());
            let bytes = pieces.map(|piece| match piece {
                Piece::Part { text, range } => [text, read(range)].concat(),
                Piece::Closing(text) => text,
            });
            bytes.collect::<Vec<_>>().concat()
        }
    }
}

impl Site {
    /// A directory that is served at `/s`, another one inside it at `/s/deep`, and a secret beside it.
    fn new() -> Self {
        Self::below("")
    }

    fn below(root_path: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("site/sub")).unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("secret.txt"), "secret").unwrap();
        let mount = |prefix: &str, dir| StaticMount { prefix: prefix.to_owned(), dir };
        let mounts =
            vec![mount("/s", dir.path().join("site")), mount("/s/deep", dir.path().join("deep"))];
        let files = FileSettings { mounts, sendfile_root: Some(dir.path().join("deep")) };
        let settings = Settings { files, root_path: root_path.to_owned(), ..Settings::default() };
        let files = StaticFiles::open(&settings).unwrap().unwrap();
        Self { dir, files, named_by: None, instant: Instant::now() }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn get(&mut self, path: &str, fields: &[&str]) -> Option<Got> {
        self.request("GET", path, fields)
    }

    /// What a client gets if the application answers with these lines.
    fn named(&mut self, status: &str, lines: &[(&str, &str)]) -> &mut Self {
        let mut head = ResponseHead::default();
        head.start(status.as_bytes()).unwrap();
        lines.iter().for_each(|(n, v)| head.add(n.as_bytes(), v.as_bytes()).unwrap());
        self.named_by = Some(head);
        self
    }

    fn status(&mut self, path: &str) -> Option<u16> {
        self.get(path, &[]).map(|got| got.status)
    }

    fn request(&mut self, method: &str, path: &str, fields: &[&str]) -> Option<Got> {
        let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let head = Head::of(text.as_bytes(), &Limits::DEFAULT, HeaderMap::Drop).unwrap().unwrap();
        let now = Now { wall: MODIFIED + 100, instant: self.instant };
        let answer = match &self.named_by {
            Some(named_by) => self.files.replace(&head, text.as_bytes(), named_by, now)?,
            None => self.files.answer(&head, text.as_bytes(), now)?,
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = answer.head.fields().map(|(n, v)| (text(n), text(v))).collect();
        Some(Got { status: answer.head.status().0, fields, body: bytes_of(answer.content) })
    }
}

#[test]
fn a_file_has_type_length_and_validators() {
    let mut site = Site::new();
    site.write("site/a.css", "body {}");
    let got = site.get("/s/a.css", &[]).unwrap();
    assert_eq!((got.status, got.text()), (200, "body {}"));
    assert_eq!(got.field("Content-Type"), Some("text/css; charset=utf-8"));
    assert_eq!(got.field("Content-Length"), Some("7"));
    assert_eq!(got.field("Last-Modified"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(got.field("ETag"), Some("\"2ebc98a1.0-7\""));
    assert_eq!(got.field("Accept-Ranges"), Some("bytes"));
    assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
    assert_eq!(got.field("Content-Encoding"), None);
}

#[test]
fn the_application_answers_what_is_not_below_a_mount() {
    let mut site = Site::new();
    for path in ["/", "/sx", "/x/s/a", "/S/a", "//s/a", "/s.css", "*"] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        assert!(site.request(method, path, &[]).is_none(), "{path}");
    }
}

#[test]
fn the_longest_prefix_wins() {
    let mut site = Site::new();
    site.write("site/a", "site");
    site.write("deep/a", "at the depth");
    assert_eq!(site.get("/s/a", &[]).unwrap().field("Content-Length"), Some("4"));
    assert_eq!(site.get("/s/deep/a", &[]).unwrap().field("Content-Length"), Some("12"));
    assert_eq!(site.status("/s/deeper/a"), Some(404));
}

#[test]
fn a_proxy_may_leave_the_root_path_in_front_or_not() {
    let mut site = Site::below("/shop");
    site.write("site/a", "site");
    assert_eq!(site.status("/shop/s/a"), Some(200));
    assert_eq!(site.status("/s/a"), Some(200));
    assert_eq!(site.status("/shops/s/a"), None);
}

#[test]
fn only_regular_files_are_served() {
    let mut site = Site::new();
    site.write("site/sub/a", "x");
    nix::unistd::mkfifo(&site.path("site/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("site/socket")).unwrap();
    assert_eq!(site.status("/s/sub/a"), Some(200));
    for path in ["/s", "/s/", "/s/sub", "/s/sub/", "/s/fifo", "/s/socket", "/s/none", "/s/sub/a/b"]
    {
        assert_eq!(site.status(path), Some(404), "{path}");
    }
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let mut site = Site::new();
    site.write("site/a", "x");
    symlink("../secret.txt", site.path("site/relative")).unwrap();
    symlink(site.path("secret.txt"), site.path("site/absolute")).unwrap();
    symlink("..", site.path("site/up")).unwrap();
    symlink("/proc/self/root", site.path("site/magic")).unwrap();
    symlink("loop", site.path("site/loop")).unwrap();
    symlink("../site/a", site.path("site/out_and_in")).unwrap();
    symlink("../a", site.path("site/sub/inside")).unwrap();
    assert_eq!(site.status("/s/sub/inside"), Some(200), "it stays below the directory");
    for path in [
        "/s/relative",
        "/s/absolute",
        "/s/up/secret.txt",
        "/s/magic/etc/passwd",
        "/s/loop",
        "/s/out_and_in",
        "/s/../secret.txt",
        "/s/%2e%2e/secret.txt",
        "/s/..%2fsecret.txt",
        "/s/sub/../../secret.txt",
    ] {
        assert_eq!(site.status(path), Some(404), "{path}");
    }
}

#[test]
fn a_file_that_may_not_be_read_is_a_problem() {
    let site = Site::new();
    site.write("site/a", "x");
    fs::set_permissions(site.path("site/a"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = Root::open(&site.path("site")).unwrap().open_file("a").err();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(error, None, "root reads everything");
    } else {
        assert_eq!(error, Some(OpenError::Denied));
    }
    assert_eq!(outcome(OpenError::Denied), (Status(404), true));
    assert_eq!(outcome(OpenError::Failed(nix::errno::Errno::EMFILE)), (Status(500), true));
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let mount = StaticMount { prefix: "/s".to_owned(), dir: Path::new("/nonexistent").to_owned() };
    let files = FileSettings { mounts: vec![mount], sendfile_root: None };
    let error = StaticFiles::open(&Settings { files, ..Settings::default() }).err().unwrap();
    let expected =
        "--static: cannot open the directory /nonexistent: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_directory_stays_the_same_when_another_one_takes_its_path() {
    let mut site = Site::new();
    site.write("site/a", "old");
    fs::rename(site.path("site"), site.path("old")).unwrap();
    fs::create_dir(site.path("site")).unwrap();
    assert_eq!(site.status("/s/a"), Some(200));
}

#[test]
fn other_methods_get_405_with_the_allowed_ones() {
    let mut site = Site::new();
    site.write("site/a", "x");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"] {
        let got = site.request(method, "/s/a", &[]).unwrap();
        assert_eq!((got.status, got.field("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let got = site.request("HEAD", "/s/a", &["Range: bytes=0-0"]).unwrap();
    assert_eq!((got.status, got.text(), got.field("Content-Length")), (200, "", Some("1")));
}

#[test]
fn an_empty_file_has_no_body_and_no_ranges() {
    let mut site = Site::new();
    site.write("site/a", "");
    let got = site.get("/s/a", &["Range: bytes=0-"]).unwrap();
    assert_eq!((got.status, got.text(), got.field("Content-Length")), (200, "", Some("0")));
}

#[test]
fn a_client_that_has_the_file_gets_304_without_its_type() {
    let mut site = Site::new();
    site.write("site/a.css", "x");
    let got = site.get("/s/a.css", &["If-None-Match: \"2ebc98a1.0-1\""]).unwrap();
    assert_eq!((got.status, got.text()), (304, ""));
    let names: Vec<_> = got.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ETag", "Vary"]);
    assert_eq!(site.get("/s/a.css", &["If-Match: \"x\""]).unwrap().status, 412);
}

#[test]
fn ranges_are_parts_of_the_file() {
    let mut site = Site::new();
    site.write("site/a.txt", "0123456789");
    let got = site.get("/s/a.txt", &["Range: bytes=2-4"]).unwrap();
    assert_eq!((got.status, got.field("Content-Range")), (206, Some("bytes 2-4/10")));
    assert_eq!(got.text(), "234");
    assert_eq!(got.field("Content-Length"), Some("3"));
    let got = site.get("/s/a.txt", &["Range: bytes=0-1,8-"]).unwrap();
    assert_eq!((got.status, got.field("Content-Range")), (206, None));
    assert!(got.field("Content-Type").unwrap().starts_with("multipart/byteranges; boundary="));
    assert!(got.text().contains("\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--"));
    assert_eq!(got.field("Content-Length"), Some(&*got.body.len().to_string()));
    let got = site.get("/s/a.txt", &["Range: bytes=10-"]).unwrap();
    assert_eq!((got.status, got.field("Content-Range")), (416, Some("bytes */10")));
    let got = site.get("/s/a.txt", &["Range: bytes=2-4", "If-Range: \"old\""]).unwrap();
    assert_eq!(got.status, 200);
    let got = site.get("/s/a.txt", &["Range: bytes=2-4", "Range: bytes=2-4"]).unwrap();
    assert_eq!(got.status, 200);
}

#[test]
fn a_client_gets_the_compressed_file_that_it_prefers() {
    let mut site = Site::new();
    site.write("site/a.css", "long text");
    site.write("site/a.css.gz", "gzip");
    site.write("site/a.css.br", "br");
    let coding = |site: &mut Site, accepted: &str| {
        let got = site.get("/s/a.css", &[&format!("Accept-Encoding: {accepted}")]).unwrap();
        let field = |name| got.field(name).unwrap_or_default().to_owned();
        assert_eq!(got.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(got.field("Content-Type"), Some("text/css; charset=utf-8"));
        (field("Content-Encoding"), field("Content-Length"), field("ETag"))
    };
    let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(coding(&mut site, "gzip, br, zstd"), of("br", "2", "\"2ebc98a1.0-2-br\""));
    assert_eq!(coding(&mut site, "gzip, zstd"), of("gzip", "4", "\"2ebc98a1.0-4-gzip\""));
    assert_eq!(coding(&mut site, "zstd"), of("", "9", "\"2ebc98a1.0-9\""));
    let direct = site.get("/s/a.css.gz", &["Accept-Encoding: gzip"]).unwrap();
    assert_eq!(direct.field("Content-Type"), Some("application/gzip"));
    assert_eq!((direct.field("Content-Encoding"), direct.field("Vary")), (None, None));
}

#[test]
fn a_time_in_the_future_is_not_announced() {
    let mut site = Site::new();
    site.write("site/a", "x");
    let file = fs::File::options().write(true).open(site.path("site/a")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED + 9999)).unwrap();
    let got = site.get("/s/a", &[]).unwrap();
    assert_eq!(got.field("Last-Modified"), Some("Sun, 06 Nov 1994 08:51:17 GMT"));
}

#[test]
fn the_applications_fields_go_with_the_file_that_it_names() {
    let mut site = Site::new();
    site.write("deep/a.pdf", "0123456789");
    let lines = [
        ("Content-Type", "application/x-own"),
        ("X-Sendfile", "a.pdf"),
        ("Content-Length", "0"),
        ("Content-Disposition", "attachment"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
    ];
    let got = site.named("200 Fine", &lines).get("/report", &[]).unwrap();
    let fields: Vec<_> = got.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let expected = [
        ("Content-Type", "application/x-own"),
        ("Content-Length", "10"),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Accept-Ranges", "bytes"),
        ("ETag", "\"2ebc98a1.0-a\""),
        ("Content-Disposition", "attachment"),
        ("Set-Cookie", "a=b"),
        ("Set-Cookie", "c=d"),
    ];
    assert_eq!((got.status, got.text(), &fields[..]), (200, "0123456789", &expected[..]));
    let got = site.get("/report", &["Range: bytes=-1"]).unwrap();
    assert_eq!((got.status, got.field("Content-Range")), (206, Some("bytes 9-9/10")));
    assert_eq!(got.field("Set-Cookie"), Some("a=b"));
    let got = site.get("/report", &["If-None-Match: *"]).unwrap();
    let names: Vec<_> = got.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((got.status, &names[..]), (304, &["ETag", "Set-Cookie", "Set-Cookie"][..]));
}

#[test]
fn the_applications_validators_take_precedence() {
    let mut site = Site::new();
    site.write("deep/a", "0123456789");
    let lines = [
        ("X-Accel-Redirect", "/a"),
        ("ETag", "\"own\""),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:00 GMT"),
        ("Accept-Ranges", "none"),
    ];
    site.named("200 OK", &lines);
    let got = site.get("/", &["Range: bytes=0-0"]).unwrap();
    assert_eq!((got.status, got.field("ETag")), (200, Some("\"own\"")));
    assert_eq!(got.fields.iter().filter(|(name, _)| name == "Last-Modified").count(), 1);
    assert_eq!(site.get("/", &["If-None-Match: \"own\""]).unwrap().status, 304);
    let since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:10 GMT";
    assert_eq!(site.get("/", &[since]).unwrap().status, 304);
}

#[test]
fn conditions_hold_for_a_200_to_get_and_head_only() {
    let mut site = Site::new();
    site.write("deep/a", "0123456789");
    let conditions = ["If-None-Match: *", "Range: bytes=0-0"];
    let got = site.named("403 Forbidden", &[("X-Sendfile", "a")]).get("/", &conditions).unwrap();
    assert_eq!((got.status, got.field("Content-Length")), (403, Some("10")));
    let got = site.named("200 OK", &[("X-Sendfile", "a")]).request("POST", "/", &conditions);
    assert_eq!(got.map(|got| (got.status, got.body.len())), Some((200, 10)));
    let got = site.request("HEAD", "/", &[]).unwrap();
    assert_eq!((got.status, got.text(), got.field("Content-Length")), (200, "", Some("10")));
}

#[test]
fn a_file_that_must_not_be_sent_is_a_mistake_of_the_application() {
    let mut site = Site::new();
    site.write("deep/a", "x");
    symlink("../secret.txt", site.path("deep/out")).unwrap();
    let mut status = |name: &str, value: &str| {
        let got = site.named("200 OK", &[(name, value), ("Set-Cookie", "a=b")]).get("/", &[]);
        let got = got.unwrap();
        assert_eq!(got.field("Set-Cookie"), None);
        got.status
    };
    assert_eq!(status("X-Sendfile", "none"), 404);
    assert_eq!(status("X-Accel-Redirect", "/sub/none"), 404);
    for value in ["../secret.txt", "out", "/etc/passwd", ".hidden", ""] {
        assert_eq!(status("X-Sendfile", value), 500, "{value:?}");
    }
}

#[test]
fn a_small_file_is_answered_as_any_other() {
    let mut site = Site::new();
    for size in [10, SMALL_BYTES, SMALL_BYTES + 1] {
        let content: String = (0..size).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        let path = format!("site/{size}.txt");
        site.write(&path, &content);
        let url = format!("/s/{size}.txt");
        let etag = format!("\"2ebc98a1.0-{size:x}\"");
        // The first request reads a small file, and the others find it.
        for _ in 0..2 {
            let got = site.get(&url, &[]).unwrap();
            assert_eq!((got.status, got.text()), (200, &*content));
            assert_eq!(got.field("Content-Length"), Some(&*size.to_string()));
            assert_eq!(got.field("ETag"), Some(&*etag));
            let head = site.request("HEAD", &url, &[]).unwrap();
            assert_eq!((head.status, head.text(), &head.fields), (200, "", &got.fields));
            let part = site.get(&url, &["Range: bytes=-4", &format!("If-Range: {etag}")]).unwrap();
            assert_eq!((part.status, part.text()), (206, &content[size - 4..]));
            let parts = site.get(&url, &["Range: bytes=0-1,5-7"]).unwrap();
            assert!(
                parts.text().contains("\r\n\r\nab\r\n--") && parts.text().contains("\r\nfgh\r\n--")
            );
            assert_eq!(parts.field("Content-Length"), Some(&*parts.body.len().to_string()));
            let known = site.get(&url, &[&format!("If-None-Match: {etag}")]).unwrap();
            assert_eq!((known.status, known.text(), known.field("ETag")), (304, "", Some(&*etag)));
            assert_eq!(site.get(&url, &["If-Match: \"x\""]).unwrap().status, 412);
            assert_eq!(site.get(&url, &[&format!("Range: bytes={size}-")]).unwrap().status, 416);
            assert_eq!(site.request("POST", &url, &[]).unwrap().status, 405);
        }
    }
}

#[test]
fn a_change_of_a_small_file_shows_after_a_second() {
    let mut site = Site::new();
    let second = Duration::from_secs(1);
    site.write("site/a.css", "old");
    site.write("site/gone", "old");
    site.write("site/b", "old");
    symlink("b", site.path("site/link")).unwrap();
    let text = |site: &mut Site, path: &str| site.get(path, &[]).unwrap().text().to_owned();
    assert_eq!(text(&mut site, "/s/b"), "old");
    assert_eq!(site.status("/s%2fb"), Some(404), "what is in memory has only one name");
    for path in ["/s/a.css", "/s/gone", "/s/link"] {
        assert_eq!(text(&mut site, path), "old");
    }
    // Neither time nor size tell that the content is another one.
    site.write("site/a.css", "new");
    fs::remove_file(site.path("site/gone")).unwrap();
    fs::remove_file(site.path("site/link")).unwrap();
    symlink("../secret.txt", site.path("site/link")).unwrap();
    site.instant += second - Duration::from_nanos(1);
    assert_eq!(text(&mut site, "/s/a.css"), "old");
    site.instant += Duration::from_nanos(1);
    assert_eq!(text(&mut site, "/s/a.css"), "new");
    assert_eq!(site.status("/s/gone"), Some(404));
    assert_eq!(site.status("/s/link"), Some(404), "it leads out of the directory now");
    site.write("site/a.css.gz", "gzip");
    site.instant += second;
    let got = site.get("/s/a.css", &["Accept-Encoding: gzip"]).unwrap();
    assert_eq!((got.text(), got.field("Content-Encoding")), ("gzip", Some("gzip")));
}

impl Site {
    /// Waits until a change of a file gets another time than the last one.
    fn wait_for_another_time(&self, name: &str) {
        let changed = |path: &Path| {
            let status = fs::metadata(path).unwrap();
            (status.ctime(), status.ctime_nsec())
        };
        let (file, scratch) = (self.path(name), self.path("scratch"));
        loop {
            fs::write(&scratch, "").unwrap();
            if changed(&scratch) > changed(&file) {
                return;
            }
        }
    }
}

#[test]
fn a_change_of_a_larger_file_shows_at_once() {
    let (old, new) = ("o".repeat(SMALL_BYTES + 1), "n".repeat(SMALL_BYTES + 1));
    // Each name with a change, and what a client gets then: neither time nor size tell that the file is another one.
    type Change = fn(&Site, &Path, &str);
    let changes: [(&str, Change, _); 6] = [
        ("rewritten", |site, _, new| site.write("site/rewritten", new), (200, &*new)),
        ("cut", |_, path, _| fs::write(path, "cut").unwrap(), (200, "cut")),
        ("deleted", |_, path, _| fs::remove_file(path).unwrap(), (404, "404 Not Found\n")),
        (
            "replaced",
            |site, path, new| {
                site.write("next", new);
                fs::rename(site.path("next"), path).unwrap();
            },
            (200, &*new),
        ),
        (
            "moved",
            |site, path, _| fs::rename(path, site.path("site/elsewhere")).unwrap(),
            (404, "404 Not Found\n"),
        ),
        (
            "forbidden",
            |site, path, _| {
                fs::remove_file(path).unwrap();
                symlink(site.path("secret.txt"), path).unwrap();
            },
            (404, "404 Not Found\n"),
        ),
    ];
    for (name, change, expected) in changes {
        let mut site = Site::new();
        let (path, url) = (format!("site/{name}"), format!("/s/{name}"));
        site.write(&path, &old);
        for _ in 0..2 {
            assert_eq!(site.get(&url, &[]).unwrap().text(), old);
        }
        assert_eq!(site.files.larger.len(), 1, "the second request found the descriptor");
        site.wait_for_another_time(&path);
        change(&site, &site.path(&path), &new);
        let got = site.get(&url, &[]).unwrap();
        assert_eq!((got.status, got.text()), expected, "{name}");
        assert_eq!(got.field("Content-Length"), Some(&*expected.1.len().to_string()));
    }
}

#[test]
fn permissions_of_a_larger_file_hold_at_once() {
    let mut site = Site::new();
    site.write("site/a", &"a".repeat(SMALL_BYTES + 1));
    assert_eq!(site.status("/s/a"), Some(200));
    site.wait_for_another_time("site/a");
    fs::set_permissions(site.path("site/a"), fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = fs::File::open(site.path("site/a")).is_ok();
    assert_eq!(site.status("/s/a"), Some(if is_root { 200 } else { 404 }));
    assert_eq!(site.files.larger.len(), usize::from(is_root), "it was opened again");
}

#[test]
fn another_path_to_a_larger_file_shows_after_a_second() {
    let mut site = Site::new();
    let text = |letter: &str| letter.repeat(SMALL_BYTES + 1);
    site.write("site/a.css", &text("a"));
    site.write("site/b.css", &text("b"));
    symlink("a.css", site.path("site/link.css")).unwrap();
    let first = |site: &mut Site, fields: &[&str]| site.get("/s/link.css", fields).unwrap().body[0];
    assert_eq!(first(&mut site, &[]), b'a');
    fs::remove_file(site.path("site/link.css")).unwrap();
    symlink("b.css", site.path("site/link.css")).unwrap();
    site.write("site/link.css.gz", &text("z"));
    assert_eq!(first(&mut site, &[]), b'a');
    assert_eq!(first(&mut site, &["Accept-Encoding: gzip"]), b'z', "nobody has requested it");
    site.instant += Duration::from_secs(1);
    assert_eq!(first(&mut site, &[]), b'b');
}

#[test]
fn a_part_has_no_content_range_of_the_application() {
    let mut site = Site::new();
    site.write("deep/a", "0123456789");
    let lines = [("X-Sendfile", "a"), ("Content-Range", "bytes 0-99/100")];
    let ranges = |site: &mut Site, fields: &[&str]| {
        let got = site.named("200 OK", &lines).get("/", fields).unwrap();
        let found = got.fields.into_iter().filter(|(name, _)| name == "Content-Range");
        (got.status, found.map(|(_, value)| value).collect::<Vec<_>>())
    };
    assert_eq!(ranges(&mut site, &["Range: bytes=0-1"]), (206, vec!["bytes 0-1/10".to_owned()]));
    assert_eq!(
        ranges(&mut site, &["Range: bytes=0-1,8-9"]),
        (206, vec![]),
        "the parts have one each"
    );
}
