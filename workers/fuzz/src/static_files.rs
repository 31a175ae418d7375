//! Requests for files below `--static`: paths, conditions, ranges and codings.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, create_dir, write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant, UNIX_EPOCH};

use arctos_worker::http::multipart::Piece;
use arctos_worker::http::{ByteRange, Head};
use arctos_worker::settings::{FileSettings, HeaderMap, Limits, Settings, StaticMount};
use arctos_worker::static_files::{FileAnswer, FileContent, FileParts, Now, StaticFiles};
use tempfile::TempDir;

/// The files below the mount and their sizes: one is sent from the file, the others from memory. Everything else there
/// must not be sent.
const FILES: [(&str, u64); 5] =
    [("a.txt", 20_000), ("b.css", 300), ("b.css.br", 20), ("b.css.gz", 40), ("d/empty.bin", 0)];
/// The time of all files.
const MODIFIED: u64 = 784_111_777;

/// Takes the bytes as a request, behind `GET /`, for a file. What is sent is (a part of) a file of the mount or a line
/// of text, and the head says exactly what it is.
pub fn static_files(bytes: &[u8]) {
    thread_local! {
        static MOUNT: RefCell<Mount> = RefCell::new(Mount::new());
    }
    for method in ["GET", "HEAD"] {
        let bytes = [method.as_bytes(), b" /", bytes].concat();
        if let Ok(Some(head)) = Head::of(&bytes, &Limits::DEFAULT, HeaderMap::Drop) {
            MOUNT.with_borrow_mut(|mount| mount.check(&head, &bytes));
        }
    }
}

struct Mount {
    files: StaticFiles,
    /// The sizes of the files of the mount, by inode.
    sizes: BTreeMap<u64, u64>,
    _dirs: [TempDir; 2],
}

impl Mount {
    fn new() -> Self {
        let dirs = [(); 2].map(|()| TempDir::new().expect("a directory"));
        let [inside, outside] = [&dirs[0], &dirs[1]].map(TempDir::path);
        let make = |path: &str, size: u64| {
            let path = inside.join(path);
            write(&path, vec![b'x'; size as usize]).expect("a file");
            let file = File::options().write(true).open(&path).expect("a file");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED)).expect("a time");
            (file.metadata().expect("a file").ino(), size)
        };
        create_dir(inside.join("d")).expect("a directory");
        let sizes = FILES.map(|(path, size)| make(path, size)).into_iter().collect();
        make(".hidden", 10);
        write(outside.join("secret"), "secret").expect("a file");
        symlink(outside, inside.join("out")).expect("a link");
        symlink(outside.join("secret"), inside.join("s.txt")).expect("a link");
        let mounts = vec![StaticMount { prefix: String::new(), dir: inside.to_owned() }];
        let files = FileSettings { mounts, ..FileSettings::default() };
        let settings = Settings { files, ..Settings::default() };
        let files = StaticFiles::open(&settings).expect("a directory").expect("a mount");
        Self { files, sizes, _dirs: dirs }
    }

    fn check(&mut self, head: &Head, bytes: &[u8]) {
        let now = Now { wall: MODIFIED + 1000, instant: Instant::now() };
        // The path `*` is below no mount.
        let Some(answer) = self.files.answer(head, bytes, now) else {
            assert_eq!(head.path.of(bytes), b"*");
            return;
        };
        check_answer(answer, head.is_head(bytes), &self.sizes);
    }
}

fn check_answer(answer: FileAnswer<'_>, is_head: bool, sizes: &BTreeMap<u64, u64>) {
    let FileAnswer { head, content, problem: _ } = answer;
    let field = |name: &str| head.find(name).map(|value| value.escape_ascii().to_string());
    let status = head.status().0;
    match content {
        FileContent::Nothing => assert!(status == 304 || status == 200),
        FileContent::Bytes(bytes) => {
            let length = bytes.len() as u64;
            assert_eq!(head.content_length(), Some(length));
            if matches!(status, 200 | 206) {
                assert!(!is_head, "HEAD has no body");
                check_small(status, field("Content-Range"), bytes, sizes);
            } else {
                assert!(matches!(status, 404 | 405 | 412 | 416), "{status}");
            }
        }
        FileContent::File(body) => {
            assert!(!is_head, "HEAD has no body");
            let file = body.file.as_fd().try_clone_to_owned().expect("an open file");
            let inode = File::from(file).metadata().expect("an open file").ino();
            let size = *sizes.get(&inode).expect("a file of the mount");
            let length = match body.parts {
                FileParts::One(range) if status == 200 => {
                    assert_eq!((range.offset, range.length), (0, size));
                    size
                }
                FileParts::One(range) => {
                    assert_eq!(field("Content-Range"), Some(content_range(range, size)));
                    range.length
                }
                FileParts::Several(mut multipart) => {
                    let promised = multipart.length();
                    let mut ranges: Vec<ByteRange> = Vec::new();
                    let mut length = 0;
                    while let Some(piece) = multipart.next_piece() {
                        length += match piece {
                            Piece::Part { text, range } => {
                                let text = String::from_utf8(text).expect("ASCII");
                                assert!(text.contains(&content_range(range, size)));
                                ranges.push(range);
                                text.len() as u64 + range.length
                            }
                            Piece::Closing(text) => text.len() as u64,
                        };
                    }
                    assert_eq!(length, promised);
                    check_apart(ranges);
                    length
                }
            };
            assert!(matches!(status, 200 | 206));
            assert_eq!(head.content_length(), Some(length));
            assert!(field("ETag").is_some() && field("Last-Modified").is_some());
        }
    }
}

/// All of a small file, a part of it, or several parts with texts between them.
fn check_small(status: u16, range: Option<String>, bytes: &[u8], sizes: &BTreeMap<u64, u64>) {
    let (length, is_content) = (bytes.len() as u64, bytes.iter().all(|&byte| byte == b'x'));
    match range {
        None if status == 200 => assert!(is_content && sizes.values().any(|&size| size == length)),
        None => {
            assert!(bytes.ends_with(b"--\r\n") && bytes.starts_with(b"\r\n--"), "several parts")
        }
        Some(range) => {
            let (first, size) = range["bytes ".len()..].split_once('-').expect("a range");
            let (_, size) = size.split_once('/').expect("a size");
            let [offset, size] = [first, size].map(|number| number.parse().expect("a number"));
            assert_eq!((status, range), (206, content_range(ByteRange { offset, length }, size)));
            assert!(is_content && sizes.values().any(|&it| it == size));
        }
    }
}

/// The value of `Content-Range`, and whether the range is one of a file of this size.
fn content_range(range: ByteRange, size: u64) -> String {
    let ByteRange { offset, length } = range;
    assert!(length > 0 && offset < size && length <= size - offset, "{range:?} of {size}");
    format!("bytes {offset}-{}/{size}", offset + length - 1)
}

/// No byte is sent twice.
fn check_apart(mut ranges: Vec<ByteRange>) {
    assert!(ranges.len() > 1);
    ranges.sort_by_key(|range| range.offset);
    for pair in ranges.windows(2) {
        assert!(pair[0].offset + pair[0].length < pair[1].offset, "{pair:?}");
    }
}
