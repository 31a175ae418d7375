//! Where CPython keeps frames and code objects in memory, for each version.
//!
//! These are the offsets of fields in `PyThreadState`, the frame, `PyCodeObject` and `PyUnicodeObject`, which are fixed
//! within a minor version: extension modules with an inlined `PyThreadState_GET` depend on them. A wrong offset shows
//! itself, because whatever is taken for a code object has to be of the type `code`.

use crate::shared::samples::message::LineFormat;

/// The offsets of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) head: Head,
    pub(super) frame: FrameLayout,
    pub(super) code: CodeLayout,
    /// Where the characters of a string begin that has only ASCII.
    pub(super) ascii_text: usize,
    /// Where the characters of any other string begin.
    pub(super) other_text: usize,
}

/// How the innermost frame of a thread is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// A pointer in `PyThreadState`: to the frame, or to what has a pointer to it.
    pub(super) thread: usize,
    /// The offset of that pointer (`cframe->current_frame`).
    pub(super) indirect: Option<usize>,
}

/// The fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameLayout {
    /// The number of bytes that are read. No frame is shorter.
    pub(super) bytes: usize,
    pub(super) code: usize,
    pub(super) previous: usize,
    pub(super) instruction: Instruction,
    /// One byte that says who owns the frame; 3 and more is the interpreter itself, whose frames have no code.
    pub(super) owner: Option<usize>,
}

/// The running instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// A number of instructions from the start of the code, 32 bits.
    Index { field: usize },
    /// A pointer into the code, which begins at this offset of the code object.
    Pointer { field: usize, code_start: usize },
}

/// The fields of a code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeLayout {
    pub(super) first_line: usize,
    /// The qualified name, or the name in 3.10, which has no other.
    pub(super) name: usize,
    pub(super) file: usize,
    pub(super) lines: usize,
    pub(super) format: LineFormat,
}

/// At least the part of a frame that is read.
pub(super) const FRAME_BYTES: usize = 104;
/// The part of a code object that is read.
pub(super) const CODE_BYTES: usize = 144;
/// Every object: its type.
pub(super) const OBJECT_TYPE: usize = 8;
/// `bytes` and `str`: the length, and what follows.
pub(super) const SIZE: usize = 16;
pub(super) const BYTES_DATA: usize = 32;
pub(super) const TEXT_STATE: usize = 32;

const V10: Layout = Layout {
    head: Head { thread: 24, indirect: None },
    frame: FrameLayout {
        bytes: 104,
        code: 32,
        previous: 24,
        instruction: Instruction::Index { field: 96 },
        owner: None,
    },
    code: CodeLayout {
        first_line: 40,
        name: 112,
        file: 104,
        lines: 120,
        format: LineFormat::Pairs,
    },
    ascii_text: 48,
    other_text: 72,
};

const V11: Layout = Layout {
    head: Head { thread: 56, indirect: Some(8) },
    frame: FrameLayout {
        bytes: 72,
        code: 32,
        previous: 48,
        instruction: Instruction::Pointer { field: 56, code_start: 184 },
        owner: Some(69),
    },
    code: CodeLayout {
        first_line: 72,
        name: 128,
        file: 112,
        lines: 136,
        format: LineFormat::Locations,
    },
    ascii_text: 48,
    other_text: 72,
};

const V12: Layout = Layout {
    head: Head { thread: 56, indirect: Some(0) },
    frame: FrameLayout {
        bytes: 72,
        code: 0,
        previous: 8,
        instruction: Instruction::Pointer { field: 56, code_start: 192 },
        owner: Some(70),
    },
    code: CodeLayout { first_line: 68, ..V11.code },
    ascii_text: 40,
    other_text: 56,
};

const V13: Layout = Layout {
    head: Head { thread: 72, indirect: None },
    frame: FrameLayout {
        instruction: Instruction::Pointer { field: 56, code_start: 200 },
        ..V12.frame
    },
    ..V12
};

const V14: Layout = Layout {
    frame: FrameLayout {
        bytes: 80,
        instruction: Instruction::Pointer { field: 56, code_start: 208 },
        owner: Some(74),
        ..V12.frame
    },
    ..V13
};

impl Layout {
    /// The layout of a version of CPython with the interpreter's lock, on a machine of 64 bits; `None` if it is not
    /// known.
    pub fn of(major: u8, minor: u8) -> Option<&'static Self> {
        if usize::BITS != 64 || major != 3 {
            return None;
        }
        Some(match minor {
            10 => &V10,
            11 => &V11,
            12 => &V12,
            13 => &V13,
            14 => &V14,
            _ => return None,
        })
    }
}
