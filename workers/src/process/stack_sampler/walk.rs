//! Follows the frames of the interrupted thread, and writes them as a sample.
//!
//! Everything is read through [`Memory`], whose reads may fail but never harm. The thread whose frames these are is the
//! one that was interrupted, so nothing changes or frees them meanwhile. But CPython may have been interrupted while it
//! entered or left a frame. Then a pointer may be old, and the worst outcome is a sample with a wrong frame: whatever is
//! taken for a code object, a string or a line table has to be of that type, and has a limited length.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::layout::{
    BYTES_DATA, CODE_BYTES, FRAME_BYTES, Instruction, Layout, OBJECT_TYPE, SIZE, TEXT_STATE,
};
use super::memory::{AT_ONCE_BYTES, Memory};
use crate::shared::samples::message::{
    MAX_FRAMES, MAX_TABLE_BYTES, MAX_TEXT_BYTES, UNKNOWN_CODE, UNKNOWN_OFFSET, begin_code,
    write_sample,
};
use crate::shared::samples::{CodeRecord, SampleArea, SampledFrame, TextRecord};

/// What has to be known of an interpreter to read its frames.
#[derive(Clone, Copy, Debug)]
pub struct Interpreter {
    /// The offsets of its version.
    pub layout: &'static Layout,
    /// The state of the thread that runs requests.
    pub thread: usize,
    /// The frame in which the server itself was started; frames from there on are not sampled.
    pub base: usize,
    /// The type of code objects.
    pub code_type: usize,
    /// The type of strings.
    pub text_type: usize,
    /// The type of line tables.
    pub bytes_type: usize,
}

impl Interpreter {
    /// The innermost frame; `None` if it cannot be read, 0 if there is none.
    pub fn head(&self, memory: &impl Memory) -> Option<usize> {
        let head = &self.layout.head;
        let pointer = word(memory, self.thread.checked_add(head.thread)?)?;
        match head.indirect {
            Some(offset) => word(memory, pointer.checked_add(offset)?),
            None => Some(pointer),
        }
    }
}

/// The code objects that the supervisor knows, by their address and their content. Open addressing; a table that is half
/// full is cleared, and the objects are described again.
pub(super) struct KnownCode {
    session: AtomicU32,
    /// The number of the next code object. It is never reused in a session.
    next: AtomicU32,
    used: AtomicU32,
    places: [Known; KNOWN_PLACES],
}

struct Known {
    address: AtomicU64,
    /// A hash of the fields that are sent.
    content: AtomicU64,
    number: AtomicU32,
}

const KNOWN_PLACES: usize = 4096;

impl Known {
    const fn new() -> Self {
        Self { address: AtomicU64::new(0), content: AtomicU64::new(0), number: AtomicU32::new(0) }
    }
}

impl KnownCode {
    pub(super) const fn new() -> Self {
        Self {
            session: AtomicU32::new(0),
            next: AtomicU32::new(0),
            used: AtomicU32::new(0),
            places: [const { Known::new() }; KNOWN_PLACES],
        }
    }

    fn begin(&self, session: u32) {
        if self.session.swap(session, Ordering::Relaxed) != session {
            self.next.store(0, Ordering::Relaxed);
            self.clear();
        }
    }

    fn clear(&self) {
        self.used.store(0, Ordering::Relaxed);
        self.places.iter().for_each(|place| place.address.store(0, Ordering::Relaxed));
    }

    /// The place of a code object, or the free one where it belongs.
    fn place(&self, address: usize) -> &Known {
        let start = (address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let probes = (0..KNOWN_PLACES).map(|step| &self.places[(start + step) % KNOWN_PLACES]);
        let is_here = |place: &&Known| {
            let found = place.address.load(Ordering::Relaxed);
            found == 0 || found == address as u64
        };
        // It is never full.
        probes.into_iter().find(is_here).unwrap_or(&self.places[0])
    }

    fn get(&self, address: usize, content: u64) -> Option<u32> {
        let place = self.place(address);
        let is_known = place.address.load(Ordering::Relaxed) == address as u64
            && place.content.load(Ordering::Relaxed) == content;
        is_known.then(|| place.number.load(Ordering::Relaxed))
    }

    fn add(&self, address: usize, content: u64, number: u32) {
        if self.used.load(Ordering::Relaxed) as usize >= KNOWN_PLACES / 2 {
            self.clear();
        }
        let place = self.place(address);
        if place.address.swap(address as u64, Ordering::Relaxed) == 0 {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        place.content.store(content, Ordering::Relaxed);
        place.number.store(number, Ordering::Relaxed);
    }
}

/// Where a sample goes, and what it is about.
pub(super) struct Target<'a> {
    pub(super) area: &'a SampleArea,
    pub(super) known: &'a KnownCode,
    pub(super) session: u32,
    pub(super) pid: u32,
    pub(super) request: u64,
}

/// Takes a sample of the interrupted thread; false if it was lost.
pub(super) fn sample(memory: &impl Memory, interpreter: &Interpreter, target: &Target<'_>) -> bool {
    target.known.begin(target.session);
    let mut raw = [RawFrame::default(); MAX_FRAMES];
    let Some(count) = walk(memory, interpreter, &mut raw) else {
        target.area.lose();
        return false;
    };
    let mut frames = [SampledFrame { code: UNKNOWN_CODE, offset: UNKNOWN_OFFSET }; MAX_FRAMES];
    let mut used = 0;
    for batch in raw.get(..count).unwrap_or_default().chunks(CODES_AT_ONCE) {
        let mut codes = [0; CODES_AT_ONCE * CODE_BYTES];
        let codes = codes.get_mut(..batch.len() * CODE_BYTES).unwrap_or_default();
        let mut addresses = [0; CODES_AT_ONCE];
        addresses.iter_mut().zip(batch).for_each(|(address, frame)| *address = frame.code);
        let are_all =
            memory.gather(addresses.get(..batch.len()).unwrap_or_default(), CODE_BYTES, codes);
        for (raw, code) in batch.iter().zip(codes.chunks_exact_mut(CODE_BYTES)) {
            let is_code = (are_all || memory.read(raw.code, code))
                && word_in(code, OBJECT_TYPE) == interpreter.code_type;
            if is_code && let Some(frame) = frames.get_mut(used) {
                *frame = SampledFrame {
                    code: number_of(memory, interpreter, target, raw.code, code),
                    offset: raw.offset(interpreter.layout),
                };
                used += 1;
            }
        }
    }
    let mut draft = target.area.draft();
    write_sample(&mut draft, target.pid, target.request, frames.get(..used).unwrap_or_default());
    let is_taken = draft.finish();
    if !is_taken {
        target.area.lose();
    }
    is_taken
}

/// The number of code objects that are read at once; they fit into a pipe.
const CODES_AT_ONCE: usize = AT_ONCE_BYTES / CODE_BYTES;

/// A frame as it lies in memory.
#[derive(Clone, Copy, Default)]
struct RawFrame {
    code: usize,
    /// A number of instructions or a pointer.
    instruction: usize,
}

impl RawFrame {
    /// The byte offset of the running instruction.
    fn offset(self, layout: &Layout) -> u32 {
        let offset = match layout.frame.instruction {
            // -1 before the first instruction.
            Instruction::Index { .. } => {
                u32::try_from(self.instruction).ok().and_then(|it| it.checked_mul(2))
            }
            Instruction::Pointer { code_start, .. } => {
                let start = self.code.checked_add(code_start);
                let offset = start.and_then(|start| self.instruction.checked_sub(start));
                offset.and_then(|offset| u32::try_from(offset).ok())
            }
        };
        offset.unwrap_or(UNKNOWN_OFFSET)
    }
}

/// Follows the frames from the innermost one to that of the server. Returns their number; `None` if the first one
/// cannot be read.
fn walk(
    memory: &impl Memory,
    interpreter: &Interpreter,
    frames: &mut [RawFrame; MAX_FRAMES],
) -> Option<usize> {
    let layout = &interpreter.layout.frame;
    let mut address = interpreter.head(memory)?;
    let mut page = Page { memory, start: 1, bytes: [0; PAGE_BYTES] };
    let mut count = 0;
    // Frames of the interpreter itself do not count, so the steps are limited, too.
    for _ in 0..2 * MAX_FRAMES {
        if address == 0 || address == interpreter.base {
            break;
        }
        let mut frame = [0; FRAME_BYTES];
        let frame = frame.get_mut(..layout.bytes)?;
        if !page.read(address, frame) {
            return (count > 0).then_some(count);
        }
        let is_interpreter =
            layout.owner.is_some_and(|owner| frame.get(owner).is_some_and(|owner| *owner >= 3));
        if !is_interpreter {
            let Some(place) = frames.get_mut(count) else { break };
            // From 3.14 on, the lowest bits are flags.
            let code = word_in(frame, layout.code) & !7;
            let instruction = match layout.instruction {
                Instruction::Index { field } => {
                    let index = i32_in(frame, field);
                    usize::try_from(index).unwrap_or(usize::MAX)
                }
                Instruction::Pointer { field, .. } => word_in(frame, field),
            };
            *place = RawFrame { code, instruction };
            count += 1;
        }
        address = word_in(frame, layout.previous);
    }
    Some(count)
}

const PAGE_BYTES: usize = 2048;

/// A copy of a piece of memory. Since 3.11, the frames of a thread lie behind one another, so that one copy has several.
struct Page<'a, M> {
    memory: &'a M,
    /// Its address, a multiple of its size; anything else if there is none.
    start: usize,
    bytes: [u8; PAGE_BYTES],
}

impl<M: Memory> Page<'_, M> {
    fn read(&mut self, address: usize, into: &mut [u8]) -> bool {
        let start = address - address % PAGE_BYTES;
        let offset = address - start;
        if offset + into.len() > PAGE_BYTES {
            return self.memory.read(address, into);
        }
        if self.start != start {
            self.start = 1;
            if !self.memory.read(start, &mut self.bytes) {
                return self.memory.read(address, into);
            }
            self.start = start;
        }
        let Some(found) = self.bytes.get(offset..offset + into.len()) else { return false };
        into.copy_from_slice(found);
        true
    }
}

/// The number of a code object, which is described first if the supervisor does not know it.
fn number_of(
    memory: &impl Memory,
    interpreter: &Interpreter,
    target: &Target<'_>,
    address: usize,
    code: &[u8],
) -> u32 {
    let layout = &interpreter.layout.code;
    let fields = [layout.name, layout.file, layout.lines].map(|field| word_in(code, field) as u64);
    let first_line = i32_in(code, layout.first_line);
    let content = fields.into_iter().fold(first_line as u64, |hash, field| {
        (hash ^ field).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
    });
    if let Some(number) = target.known.get(address, content) {
        return number;
    }
    let number = target.known.next.load(Ordering::Relaxed);
    if describe(memory, interpreter, target, number, code).is_none() {
        return UNKNOWN_CODE;
    }
    target.known.next.store(number.wrapping_add(1), Ordering::Relaxed);
    target.known.add(address, content, number);
    number
}

/// Sends the names and the line table of a code object; `None` if they cannot be read, or have no room.
fn describe(
    memory: &impl Memory,
    interpreter: &Interpreter,
    target: &Target<'_>,
    number: u32,
    code: &[u8],
) -> Option<()> {
    let layout = &interpreter.layout.code;
    let (mut name, mut file) = ([0; MAX_TEXT_BYTES], [0; MAX_TEXT_BYTES]);
    let name = text(memory, interpreter, word_in(code, layout.name), &mut name)?;
    let file = text(memory, interpreter, word_in(code, layout.file), &mut file)?;
    let first_line = u32::try_from(i32_in(code, layout.first_line)).unwrap_or(0);
    let lines = word_in(code, layout.lines);
    let length = if word(memory, lines.checked_add(OBJECT_TYPE)?)? == interpreter.bytes_type {
        word(memory, lines.checked_add(SIZE)?)?.min(MAX_TABLE_BYTES)
    } else {
        0
    };
    let record = CodeRecord { number, first_line, name, file, format: layout.format };
    let mut draft = target.area.draft();
    begin_code(&mut draft, target.pid, &record, length);
    let mut piece = [0; PAGE_BYTES];
    for start in (0..length).step_by(PAGE_BYTES) {
        let piece = piece.get_mut(..PAGE_BYTES.min(length - start))?;
        if !memory.read(lines.checked_add(BYTES_DATA + start)?, piece) {
            return None;
        }
        draft.bytes(piece);
    }
    draft.finish().then_some(())
}

/// Reads a string as CPython stores it.
fn text<'a>(
    memory: &impl Memory,
    interpreter: &Interpreter,
    address: usize,
    into: &'a mut [u8; MAX_TEXT_BYTES],
) -> Option<TextRecord<'a>> {
    let mut head = [0; TEXT_STATE + 8];
    if !memory.read(address, &mut head) || word_in(&head, OBJECT_TYPE) != interpreter.text_type {
        return None;
    }
    let state = word_in(&head, TEXT_STATE);
    let (kind, is_compact, is_ascii) = (state >> 2 & 7, state & 0x20 != 0, state & 0x40 != 0);
    let width = u8::try_from(kind).ok().filter(|width| is_compact && [1, 2, 4].contains(width))?;
    let layout = interpreter.layout;
    let data = if is_ascii { layout.ascii_text } else { layout.other_text };
    let most = MAX_TEXT_BYTES / kind;
    let into = into.get_mut(..word_in(&head, SIZE).min(most) * kind)?;
    memory.read(address.checked_add(data)?, into).then_some(TextRecord { bytes: into, width })
}

fn word(memory: &impl Memory, address: usize) -> Option<usize> {
    let mut word = [0; 8];
    memory.read(address, &mut word).then(|| word_in(&word, 0))
}

/// A word in what was read; 0 beyond its end.
fn word_in(bytes: &[u8], offset: usize) -> usize {
    let word = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| usize::from_ne_bytes(*word))
}

fn i32_in(bytes: &[u8], offset: usize) -> i32 {
    let word = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| i32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests;
