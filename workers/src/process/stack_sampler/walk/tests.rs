use std::collections::BTreeMap;

use super::*;
use crate::shared::samples::message::{self, Code, LineFormat, Message};

/// Memory that has only what was put there.
#[derive(Default)]
struct Objects(BTreeMap<usize, Vec<u8>>);

const CODE_TYPE: usize = 0x1000;
const TEXT_TYPE: usize = 0x2000;
const BYTES_TYPE: usize = 0x3000;
const THREAD: usize = 0x10_0000;

impl Memory for Objects {
    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        let Some((start, bytes)) = self.0.range(..=address).next_back() else { return false };
        match bytes.get(address - start..).and_then(|rest| rest.get(..into.len())) {
            Some(found) => into.copy_from_slice(found),
            None => return false,
        }
        true
    }
}

impl Objects {
    fn set(&mut self, address: usize, length: usize, words: &[(usize, usize)]) {
        let bytes = self.0.entry(address).or_insert_with(|| vec![0; length]);
        for (offset, word) in words {
            bytes[*offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
        }
    }

    fn text(&mut self, address: usize, text: &str) -> usize {
        let state = 1 << 2 | 0x20 | 0x40;
        self.set(address, 40 + text.len(), &[(8, TEXT_TYPE), (16, text.len()), (32, state)]);
        self.0.get_mut(&address).unwrap()[40..].copy_from_slice(text.as_bytes());
        address
    }

    fn bytes(&mut self, address: usize, bytes: &[u8]) -> usize {
        self.set(address, 32 + bytes.len(), &[(8, BYTES_TYPE), (16, bytes.len())]);
        self.0.get_mut(&address).unwrap()[32..].copy_from_slice(bytes);
        address
    }

    /// A code object with a name, in 3.12.
    fn code(&mut self, address: usize, name: &str) -> usize {
        let name = self.text(address + 0x1000, name);
        let file = self.text(address + 0x2000, "app.py");
        let lines = self.bytes(address + 0x3000, &[1, 2, 3]);
        let words = [(8, CODE_TYPE), (68, 7), (112, file), (128, name), (136, lines)];
        self.set(address, 200, &words);
        address
    }

    fn frame(&mut self, address: usize, code: usize, previous: usize) -> usize {
        let words = [(0, code), (8, previous), (56, code + 192 + 6)];
        self.set(address, 80, &words);
        address
    }

    /// Has the thread run this frame, in 3.12.
    fn run(&mut self, frame: usize) {
        self.set(THREAD, 64, &[(56, THREAD + 0x1000)]);
        self.0.remove(&(THREAD + 0x1000));
        self.set(THREAD + 0x1000, 8, &[(0, frame)]);
    }
}

fn interpreter() -> Interpreter {
    Interpreter {
        layout: Layout::of(3, 12).unwrap(),
        thread: THREAD,
        base: 0,
        code_type: CODE_TYPE,
        text_type: TEXT_TYPE,
        bytes_type: BYTES_TYPE,
    }
}

struct Rig {
    area: &'static SampleArea,
    known: &'static KnownCode,
    interpreter: Interpreter,
    session: u32,
}

impl Rig {
    fn new() -> Self {
        let known = Box::leak(Box::new(KnownCode::new()));
        let rig =
            Self { area: SampleArea::detached(), known, interpreter: interpreter(), session: 1 };
        rig.area.begin(1);
        rig
    }

    fn sample(&self, memory: &Objects) -> (Vec<Code>, Option<Vec<SampledFrame>>) {
        let Self { area, known, session, .. } = *self;
        let target = Target { area, known, session, pid: 5, request: 1 };
        sample(memory, &self.interpreter, &target);
        let (mut codes, mut sample) = (Vec::new(), None);
        area.drain(|words| match message::read(words).unwrap() {
            Message::Code { code, .. } => codes.push(code),
            Message::Sample { frames, .. } => sample = Some(frames),
            Message::Route { .. } => panic!("no call has ended"),
        });
        (codes, sample)
    }
}

#[test]
fn every_supported_version_has_a_layout() {
    assert!((10..=14).all(|minor| Layout::of(3, minor).is_some()));
    assert!([(3, 9), (3, 15), (4, 10), (2, 10)].iter().all(|it| Layout::of(it.0, it.1).is_none()));
}

#[test]
fn code_is_described_once_in_a_session() {
    let mut memory = Objects::default();
    let (inner, outer) = (memory.code(0x20_0000, "inner"), memory.code(0x30_0000, "outer"));
    let outer = memory.frame(0x40_0000, outer, 0);
    let inner = memory.frame(0x50_0000, inner, outer);
    memory.run(inner);
    let mut rig = Rig::new();
    let expected = [(0, 6), (1, 6)].map(|(code, offset)| SampledFrame { code, offset });
    let (codes, sample) = rig.sample(&memory);
    assert_eq!(codes.iter().map(|code| code.name.as_str()).collect::<Vec<_>>(), ["inner", "outer"]);
    let Code { first_line, file, format, lines, .. } = &codes[0];
    assert_eq!((*first_line, file.as_str(), &lines[..]), (7, "app.py", &[1, 2, 3][..]));
    assert_eq!(*format, LineFormat::Locations);
    assert_eq!(sample.as_deref(), Some(&expected[..]));
    let (codes, sample) = rig.sample(&memory);
    assert_eq!((codes.len(), sample.as_deref()), (0, Some(&expected[..])));
    rig.session = 2;
    assert_eq!(rig.sample(&memory).0.len(), 2);
    // Another code object at the same address is another function.
    memory.text(0x60_0000, "newcomer");
    memory.set(0x20_0000, 200, &[(128, 0x60_0000)]);
    let (codes, sample) = rig.sample(&memory);
    assert_eq!((codes[0].name.as_str(), sample.unwrap()[0].code), ("newcomer", 2));
}

#[test]
fn frames_of_the_server_and_of_the_interpreter_are_left_out() {
    let mut memory = Objects::default();
    let code = memory.code(0x20_0000, "view");
    let server = memory.frame(0x40_0000, code, 0);
    let trampoline = memory.frame(0x50_0000, 0x7777, server);
    memory.0.get_mut(&trampoline).unwrap()[70] = 3;
    let view = memory.frame(0x60_0000, code, trampoline);
    memory.run(view);
    let mut rig = Rig::new();
    rig.interpreter.base = server;
    assert_eq!(rig.sample(&memory).1.unwrap().len(), 1);
    memory.run(server);
    assert_eq!(rig.sample(&memory).1, Some(Vec::new()), "only the server runs");
}

#[test]
fn wrong_pointers_cost_a_frame_or_a_sample_and_nothing_else() {
    let mut memory = Objects::default();
    let code = memory.code(0x20_0000, "view");
    let lost = memory.frame(0x40_0000, 0xdead_0000, 0xbeef_0000);
    let whole = memory.frame(0x50_0000, code, lost);
    memory.run(whole);
    let rig = Rig::new();
    assert_eq!(rig.sample(&memory).1.unwrap().len(), 1);
    // Neither a string nor an object of any type is code.
    for wrong in [0x20_1000, 0x50_0000, 0, 1] {
        memory.frame(0x50_0000, wrong, 0);
        assert_eq!(rig.sample(&memory).1, Some(Vec::new()), "{wrong:x}");
    }
    for bad in [8, usize::MAX, usize::MAX - 8] {
        memory.run(bad);
        assert_eq!(rig.sample(&memory).1, None, "{bad:x}");
    }
    assert_eq!(rig.area.lost(), 3);
    let blind = Rig { interpreter: Interpreter { thread: usize::MAX, ..interpreter() }, ..rig };
    assert_eq!(blind.sample(&memory).1, None);
}

#[test]
fn code_without_readable_names_stays_unknown() {
    let mut memory = Objects::default();
    let code = memory.code(0x20_0000, "view");
    let frame = memory.frame(0x50_0000, code, 0);
    memory.run(frame);
    let rig = Rig::new();
    for (field, wrong) in [(128, 0x20_3000), (128, 0), (112, usize::MAX - 3), (136, 8)] {
        let mut memory = Objects(memory.0.clone());
        memory.set(code, 200, &[(field, wrong)]);
        let (codes, sample) = rig.sample(&memory);
        assert_eq!((codes.len(), sample.unwrap()[0].code), (0, UNKNOWN_CODE), "{field} {wrong:x}");
    }
    // A line table of another type has no lines.
    memory.set(code, 200, &[(136, 0x20_1000)]);
    assert_eq!(rig.sample(&memory).0[0].lines, Vec::<u8>::new());
}

#[test]
fn long_names_and_line_tables_are_cut() {
    let mut memory = Objects::default();
    let code = memory.code(0x20_0000, "view");
    memory.text(0x70_0000, &"n".repeat(2000));
    memory.bytes(0x80_0000, &[9; 50_000]);
    memory.set(code, 200, &[(128, 0x70_0000), (136, 0x80_0000)]);
    let frame = memory.frame(0x50_0000, code, 0);
    memory.run(frame);
    let codes = Rig::new().sample(&memory).0;
    assert_eq!((codes[0].name.len(), codes[0].lines.len()), (MAX_TEXT_BYTES, MAX_TABLE_BYTES));
}

#[test]
fn a_circle_of_frames_ends() {
    let mut memory = Objects::default();
    let code = memory.code(0x20_0000, "view");
    let frame = memory.frame(0x50_0000, code, 0x60_0000);
    memory.frame(0x60_0000, code, frame);
    memory.run(frame);
    assert_eq!(Rig::new().sample(&memory).1.unwrap().len(), MAX_FRAMES);
    memory.0.get_mut(&0x50_0000).unwrap()[70] = 3;
    memory.0.get_mut(&0x60_0000).unwrap()[70] = 3;
    assert_eq!(Rig::new().sample(&memory).1, Some(Vec::new()));
}

#[test]
fn more_code_than_the_table_holds_is_described_again() {
    let rig = Rig::new();
    for number in 0..3 * KNOWN_PLACES as u32 {
        let address = 0x1_0000 + 16 * number as usize;
        assert_eq!(rig.known.get(address, 1), None);
        rig.known.add(address, 1, number);
        assert_eq!(rig.known.get(address, 1), Some(number));
        assert_eq!(rig.known.get(address, 2), None);
    }
}
