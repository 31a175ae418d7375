//! The parts of an area, as they lie in memory.

use std::sync::atomic::{AtomicU32, AtomicU64};

use super::number::SharedNumber;

/// Rows in a block.
pub(super) const ROWS_IN_BLOCK: usize = 4;
/// Bytes of text in a chunk.
pub(super) const CHUNK_BYTES: usize = 128;

/// The first part of an area.
#[repr(C, align(128))]
pub(in crate::shared) struct AreaHeader {
    pub(super) epoch: AtomicU32,
    pub(super) series: AtomicU32,
    pub(super) rows: AtomicU32,
    pub(super) text: AtomicU32,
    pub(super) histograms: AtomicU32,
    /// Updates of series that have no row of their own.
    pub(super) refused: AtomicU64,
}

/// Four rows.
#[repr(C, align(128))]
pub(in crate::shared) struct RowBlock(pub(super) [Row; ROWS_IN_BLOCK]);

/// A part of the descriptions.
#[repr(C, align(128))]
pub(in crate::shared) struct TextChunk(pub(super) [AtomicU64; CHUNK_BYTES / 8]);

/// One series of one process.
#[repr(C)]
pub struct Row {
    /// 0 until the description is complete, then its length in bytes.
    pub(super) length: AtomicU32,
    /// Where it begins in the text, in words of 8 bytes.
    pub(super) text: AtomicU32,
    /// The index of its histogram plus one; 0 if it has none.
    pub(super) histogram: AtomicU32,
    _unused: AtomicU32,
    /// The value of a counter or a gauge.
    pub number: SharedNumber,
    /// When a gauge whose last value counts was set: CLOCK_MONOTONIC in nanoseconds.
    pub set_at: AtomicU64,
}
