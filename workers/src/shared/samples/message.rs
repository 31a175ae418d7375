//! The messages of a ring: code objects with their names and line tables, samples that refer to them, and the routes of
//! the requests that were sampled.
//!
//! | message | words |
//! |---|---|
//! | code | kind and pid · number and first line · lengths and kinds of name and file · length and format of the line table · name, file and line table, each padded to a word |
//! | sample | kind and pid · number of the request, or 0 · one word for each frame, the innermost first: code and byte offset |
//! | route | kind and pid · number of the request · length of the route · the route, padded to a word |
//!
//! A request has a number within its worker: the microsecond in which it began. An application names a route during the
//! call, so the route follows the samples of a call, once the call has ended. It is empty if there is none.
//!
//! The worker sends strings as CPython stores them, and line tables as they are. The supervisor decodes them, because a
//! signal handler must not allocate memory.

use super::Draft;

const CODE: u64 = 1;
const SAMPLE: u64 = 2;
const ROUTE: u64 = 3;

/// Strings and routes are cut to this many bytes.
pub const MAX_TEXT_BYTES: usize = 512;
/// Line tables are cut to this many bytes; the lines behind are not known then.
pub const MAX_TABLE_BYTES: usize = 16 * 1024;
/// The number of frames in a sample; the outer frames of a deeper stack are left out.
pub const MAX_FRAMES: usize = 200;
/// The maximum length of a message with a route, in words, with the word that says how long it is.
pub(super) const MAX_ROUTE_WORDS: u64 = 4 + MAX_TEXT_BYTES as u64 / 8;

/// Stands for a code object that could not be described.
pub const UNKNOWN_CODE: u32 = u32::MAX;
/// Stands for an instruction that is not known.
pub const UNKNOWN_OFFSET: u32 = u32::MAX;

/// How CPython encodes the lines of a code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LineFormat {
    /// CPython 3.10 (PEP 626).
    Pairs = 10,
    /// CPython 3.11 and later (PEP 657).
    Locations = 11,
}

/// A string as CPython stores it: one, two or four bytes for each character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TextRecord<'a> {
    pub bytes: &'a [u8],
    pub width: u8,
}

/// A code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct CodeRecord<'a> {
    pub number: u32,
    pub first_line: u32,
    pub name: TextRecord<'a>,
    pub file: TextRecord<'a>,
    pub format: LineFormat,
}

/// One frame of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SampledFrame {
    pub code: u32,
    /// The byte offset of the running instruction.
    pub offset: u32,
}

/// A message as the supervisor reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Message {
    Code { pid: u32, code: Code },
    Sample { pid: u32, request: u64, frames: Vec<SampledFrame> },
    Route { pid: u32, request: u64, route: Option<String> },
}

/// A code object with readable names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Code {
    pub number: u32,
    pub first_line: u32,
    pub name: String,
    pub file: String,
    pub format: LineFormat,
    pub lines: Vec<u8>,
}

/// Writes a code object up to its line table, of which `table_bytes` bytes follow.
pub fn begin_code(draft: &mut Draft<'_>, pid: u32, code: &CodeRecord<'_>, table_bytes: usize) {
    let CodeRecord { number, first_line, name, file, format } = *code;
    draft.word(CODE << 32 | u64::from(pid));
    draft.word(u64::from(number) << 32 | u64::from(first_line));
    let text =
        |text: TextRecord<'_>| (text.bytes.len() as u64 & 0xffff) << 8 | u64::from(text.width);
    draft.word(text(name) << 32 | text(file));
    draft.word((table_bytes as u64) << 8 | format as u64);
    draft.bytes(name.bytes);
    draft.bytes(file.bytes);
}

/// Writes a sample.
pub fn write_sample(draft: &mut Draft<'_>, pid: u32, request: u64, frames: &[SampledFrame]) {
    draft.word(SAMPLE << 32 | u64::from(pid));
    draft.word(request);
    for frame in frames {
        draft.word(u64::from(frame.code) << 32 | u64::from(frame.offset));
    }
}

/// Writes the route of a request; an empty one stands for none.
pub fn write_route(draft: &mut Draft<'_>, pid: u32, request: u64, route: &[u8]) {
    let route = route.get(..MAX_TEXT_BYTES).unwrap_or(route);
    draft.word(ROUTE << 32 | u64::from(pid));
    draft.word(request);
    draft.word(route.len() as u64);
    draft.bytes(route);
}

/// Reads a message; `None` if it is none.
pub fn read(words: &[u64]) -> Option<Message> {
    let (first, rest) = words.split_first()?;
    let pid = low(*first);
    match first >> 32 {
        CODE => read_code(rest).map(|code| Message::Code { pid, code }),
        SAMPLE => {
            let (request, rest) = rest.split_first()?;
            let frame = |word: &u64| SampledFrame { code: high(*word), offset: low(*word) };
            let frames = rest.iter().take(MAX_FRAMES).map(frame).collect();
            Some(Message::Sample { pid, request: *request, frames })
        }
        ROUTE => {
            let [request, length, rest @ ..] = rest else { return None };
            let length = usize::try_from(*length).ok().filter(|it| *it <= MAX_TEXT_BYTES)?;
            let route = take_bytes(&mut &*rest, length)?;
            let route = (length > 0).then(|| String::from_utf8_lossy(&route).into_owned());
            Some(Message::Route { pid, request: *request, route })
        }
        _ => None,
    }
}

fn read_code(words: &[u64]) -> Option<Code> {
    let [ids, texts, table, rest @ ..] = words else { return None };
    let format = match table & 0xff {
        10 => LineFormat::Pairs,
        11 => LineFormat::Locations,
        _ => return None,
    };
    let mut rest = rest;
    let name = take_text(&mut rest, high(*texts))?;
    let file = take_text(&mut rest, low(*texts))?;
    let length = usize::try_from(table >> 8).ok().filter(|length| *length <= MAX_TABLE_BYTES)?;
    let lines = take_bytes(&mut rest, length)?;
    Some(Code { number: high(*ids), first_line: low(*ids), name, file, format, lines })
}

fn take_text(words: &mut &[u64], head: u32) -> Option<String> {
    let bytes = take_bytes(words, (head >> 8) as usize)?;
    Some(match head & 0xff {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => {
            let units = bytes.chunks_exact(2).map(|unit| u16::from_ne_bytes([unit[0], unit[1]]));
            units.map(|unit| char::from_u32(unit.into()).unwrap_or('\u{fffd}')).collect()
        }
        _ => {
            let units = bytes.chunks_exact(4).filter_map(|unit| unit.try_into().ok());
            let code_points = units.map(u32::from_ne_bytes);
            code_points.map(|unit| char::from_u32(unit).unwrap_or('\u{fffd}')).collect()
        }
    })
}

fn take_bytes(words: &mut &[u64], length: usize) -> Option<Vec<u8>> {
    let (own, rest) = words.split_at_checked(length.div_ceil(8))?;
    *words = rest;
    let mut bytes: Vec<u8> = own.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.truncate(length);
    Some(bytes)
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::super::SampleArea;
    use super::*;

    fn sent(write: impl FnOnce(&mut Draft<'_>)) -> Option<Message> {
        let area = SampleArea::detached();
        let mut draft = area.draft();
        write(&mut draft);
        assert!(draft.finish());
        let mut found = None;
        area.drain(|words| found = read(words));
        found
    }

    fn code(name: TextRecord<'_>) -> Option<Message> {
        let file = TextRecord { bytes: b"/app/views.py", width: 1 };
        let format = LineFormat::Locations;
        let record = CodeRecord { number: 3, first_line: 42, name, file, format };
        sent(|draft| {
            begin_code(draft, 77, &record, 3);
            draft.bytes(&[1, 2, 3]);
        })
    }

    #[test]
    fn a_code_object_arrives_with_its_names_in_every_width() {
        let wide = |width: u8, text: &str| -> Vec<u8> {
            let units = text.chars().map(u32::from);
            units.flat_map(|unit| unit.to_ne_bytes()[..usize::from(width)].to_vec()).collect()
        };
        for (width, name) in [(1, "slow"), (1, "größe"), (2, "медленно"), (4, "🐢")] {
            let bytes = wide(width, name);
            let message = code(TextRecord { bytes: &bytes, width });
            let Some(Message::Code { pid: 77, code }) = message else { panic!("{message:?}") };
            assert_eq!((code.number, code.first_line), (3, 42));
            assert_eq!((code.name.as_str(), code.file.as_str()), (name, "/app/views.py"));
            assert_eq!((code.format, code.lines), (LineFormat::Locations, vec![1, 2, 3]));
        }
    }

    #[test]
    fn a_sample_arrives_with_its_frames() {
        let frames = [(1, 8), (2, UNKNOWN_OFFSET), (UNKNOWN_CODE, 0)];
        let frames = frames.map(|(code, offset)| SampledFrame { code, offset });
        let message = sent(|draft| write_sample(draft, 5, 99, &frames));
        assert_eq!(message, Some(Message::Sample { pid: 5, request: 99, frames: frames.to_vec() }));
    }

    #[test]
    fn a_route_arrives_or_is_none() {
        let long = "r".repeat(2000);
        for (route, expected) in [
            ("/größe/{id}", Some("/größe/{id}")),
            ("", None),
            (&long[..], Some(&long[..MAX_TEXT_BYTES])),
        ] {
            let message = sent(|draft| write_route(draft, 5, 99, route.as_bytes()));
            let route = expected.map(str::to_owned);
            assert_eq!(message, Some(Message::Route { pid: 5, request: 99, route }));
        }
        let message = sent(|draft| write_route(draft, 5, 99, b"/\xff"));
        let route = Some("/\u{fffd}".to_owned());
        assert_eq!(message, Some(Message::Route { pid: 5, request: 99, route }));
    }

    #[test]
    fn nonsense_is_no_message() {
        let head = CODE << 32;
        for words in [
            vec![],
            vec![0],
            vec![9 << 32, 1],
            vec![head],
            vec![head, 0, 0, 99],
            vec![head, 0, 0xffff_ff01 << 32, 11],
            vec![head, 0, 0, u64::MAX << 8 | 11],
            vec![head, 0, 0, 1000 << 8 | 11],
            vec![SAMPLE << 32],
            vec![ROUTE << 32, 1],
            vec![ROUTE << 32, 1, 9, 0],
            vec![ROUTE << 32, 1, u64::MAX, 0],
        ] {
            assert_eq!(read(&words), None, "{words:x?}");
        }
        let surrogate = code(TextRecord { bytes: &0xd800_u16.to_ne_bytes(), width: 2 });
        assert!(matches!(surrogate, Some(Message::Code { code, .. }) if code.name == "\u{fffd}"));
    }
}
