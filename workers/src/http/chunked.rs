//! A decoder for the chunked transfer coding (RFC 9112 §7.1).
//!
//! httparse's `parse_chunk_size` reads an empty size as 0 and skips LF in extensions, so a proxy could see
//! other chunks than this server. This state machine checks each byte as it arrives, which also makes the
//! outcome independent of where a read ended.
//!
//! | state | byte | next |
//! |---|---|---|
//! | `Size` | HEXDIG, at most 16 | `Size` |
//! | `Size` | `;`, HTAB, SP (not first) | `Extension` |
//! | `Size` | CR (not first) | `SizeLf` |
//! | `Extension` | as in [`super::chunk_extension`] | `Extension`, then `SizeLf` |
//! | `SizeLf` | LF | `Data`, or `Trailers` for a size of 0 |
//! | `Data` | any, as many as the size says | `DataCr` |
//! | `DataCr` | CR | `DataLf` |
//! | `DataLf` | LF | `Size` |
//! | `Trailers` | as in [`super::fields`] | `End` |
//!
//! Anything else is an error.

use crate::http::body_error::{BodyError, Decoded};
use crate::http::chunk_extension::{ExtensionScan, ExtensionStep};
use crate::http::fields::{FieldLimits, FieldScan, LineEnd};

/// Maximum hexadecimal digits of a chunk size: as many as fit into 64 bits, so that no size can overflow.
const SIZE_DIGITS: u8 = 16;
/// Maximum extension bytes of one chunk, between its size and its CR.
const CHUNK_EXTENSION_BYTES: usize = 256;
/// Maximum extension bytes of one body.
const BODY_EXTENSION_BYTES: usize = 16 * 1024;
/// Maximum bytes of the trailer section, its empty line included.
const TRAILER_BYTES: usize = 16 * 1024;
/// Maximum lines of the trailer section.
const TRAILER_LINES: usize = 100;

/// Decodes one chunked body.
#[derive(Clone, Debug)]
pub(super) struct ChunkedDecoder {
    state: ChunkState,
    /// The sum of all chunk sizes so far.
    announced_bytes: u64,
    /// The maximum of `announced_bytes`; `None` is unlimited.
    limit_bytes: Option<u64>,
    /// The extension bytes of all chunks so far.
    extension_bytes: usize,
    trailer_limits: FieldLimits,
}

#[derive(Clone, Debug)]
enum ChunkState {
    Size { digits: u8, size: u64 },
    Extension { size: u64, bytes: usize, scan: ExtensionScan },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers { scan: FieldScan, room_bytes: usize },
    End,
}

const SIZE: ChunkState = ChunkState::Size { digits: 0, size: 0 };

impl ChunkedDecoder {
    /// Starts a body of at most `limit_bytes`, with trailer lines of at most `line_bytes`.
    pub(super) fn new(limit_bytes: Option<u64>, line_bytes: usize) -> Self {
        Self {
            state: SIZE,
            announced_bytes: 0,
            limit_bytes,
            extension_bytes: 0,
            trailer_limits: FieldLimits { line_bytes, line_count: TRAILER_LINES },
        }
    }

    /// Decodes the next piece, as [`super::BodyDecoder::decode`] does.
    pub(super) fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, BodyError> {
        let mut at = 0;
        loop {
            match &mut self.state {
                ChunkState::Data { left } => {
                    let rest = &input[at..];
                    if rest.is_empty() {
                        return Ok(Decoded { data: &[], consumed: at, is_end: false });
                    }
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = ChunkState::DataCr;
                    }
                    let consumed = at + count;
                    return Ok(Decoded { data: &rest[..count], consumed, is_end: false });
                }
                ChunkState::Trailers { scan, room_bytes } => {
                    let (count, end) =
                        scan.next_line(&input[at..], *room_bytes, &self.trailer_limits)?;
                    at += count;
                    *room_bytes -= count;
                    match end {
                        LineEnd::Unfinished => {
                            return Ok(Decoded { data: &[], consumed: at, is_end: false });
                        }
                        // Trailers are discarded: merged into the environ, one could pose as a header
                        // that the proxy in front of us has checked (RFC 9110 §6.5.1).
                        LineEnd::Field { .. } => {}
                        LineEnd::Last => self.state = ChunkState::End,
                    }
                }
                ChunkState::End => return Ok(Decoded { data: &[], consumed: at, is_end: true }),
                ChunkState::Size { .. }
                | ChunkState::Extension { .. }
                | ChunkState::SizeLf { .. }
                | ChunkState::DataCr
                | ChunkState::DataLf => {
                    let Some(&byte) = input.get(at) else {
                        return Ok(Decoded { data: &[], consumed: at, is_end: false });
                    };
                    self.step(byte)?;
                    at += 1;
                }
            }
        }
    }

    /// Checks one byte of what surrounds the data.
    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match self.state {
            ChunkState::Size { digits, size } => match (hex_digit(byte), byte) {
                (Some(_), _) if digits == SIZE_DIGITS => return Err(BodyError::SizeTooLong),
                (Some(digit), _) => {
                    ChunkState::Size { digits: digits + 1, size: (size << 4) | u64::from(digit) }
                }
                (None, _) if digits == 0 => return Err(BodyError::NoSize),
                (None, b'\r') => ChunkState::SizeLf { size },
                (None, byte) => match ExtensionScan::open(byte) {
                    Some(scan) => self.extend(size, 0, scan)?,
                    None => return Err(BodyError::BadSize),
                },
            },
            ChunkState::Extension { size, bytes, scan } => match scan.next(byte)? {
                ExtensionStep::Within(scan) => self.extend(size, bytes, scan)?,
                ExtensionStep::Cr => ChunkState::SizeLf { size },
            },
            ChunkState::SizeLf { size } => {
                expect_lf(byte)?;
                self.announce(size)?
            }
            ChunkState::DataCr if byte == b'\r' => ChunkState::DataLf,
            ChunkState::DataCr => return Err(BodyError::DataNotClosed),
            ChunkState::DataLf => {
                expect_lf(byte)?;
                SIZE
            }
            // `decode` handles these itself.
            ChunkState::Data { .. } | ChunkState::Trailers { .. } | ChunkState::End => {
                return Ok(());
            }
        };
        Ok(())
    }

    /// Counts one more byte of an extension that had `bytes` so far.
    fn extend(
        &mut self,
        size: u64,
        bytes: usize,
        scan: ExtensionScan,
    ) -> Result<ChunkState, BodyError> {
        self.extension_bytes += 1;
        if bytes == CHUNK_EXTENSION_BYTES || self.extension_bytes > BODY_EXTENSION_BYTES {
            return Err(BodyError::ExtensionTooLong);
        }
        Ok(ChunkState::Extension { size, bytes: bytes + 1, scan })
    }

    /// Returns the state that follows a complete size line.
    fn announce(&mut self, size: u64) -> Result<ChunkState, BodyError> {
        if size == 0 {
            return Ok(ChunkState::Trailers {
                scan: FieldScan::default(),
                room_bytes: TRAILER_BYTES,
            });
        }
        let announced = self.announced_bytes.checked_add(size).ok_or(BodyError::TooLarge)?;
        if self.limit_bytes.is_some_and(|limit| announced > limit) {
            return Err(BodyError::TooLarge);
        }
        self.announced_bytes = announced;
        Ok(ChunkState::Data { left: size })
    }
}

fn expect_lf(byte: u8) -> Result<(), BodyError> {
    if byte == b'\n' { Ok(()) } else { Err(BodyError::BareCr) }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
