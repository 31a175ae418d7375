//! The chunked coding (RFC 9112 §7.1), decoded by our own machine.
//!
//! httparse's `parse_chunk_size` reads an empty size as 0 and swallows LF in extensions: a reader
//! before us would see other chunks than we do. Here a byte is judged when it comes, so the outcome
//! does not depend on where a read ended.
//!
//! | place | byte | next |
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

/// Hexadecimal digits of a size: as many as fit 64 bits, so that no size can overflow.
const SIZE_DIGITS: u8 = 16;
/// Extension bytes of one chunk, from behind its size to its CR.
const CHUNK_EXTENSION_BYTES: usize = 256;
/// Extension bytes of one body.
const BODY_EXTENSION_BYTES: usize = 16 * 1024;
/// Bytes of the whole trailer section, its empty line included.
const TRAILER_BYTES: usize = 16 * 1024;
/// Lines of the trailer section.
const TRAILER_LINES: usize = 100;

/// Decodes one chunked body.
#[derive(Clone, Debug)]
pub(super) struct ChunkedDecoder {
    place: Place,
    /// Bytes of chunk data that all sizes so far announce.
    announced_bytes: u64,
    /// Most of them; `None` is unlimited.
    limit_bytes: Option<u64>,
    /// Extension bytes of the whole body so far.
    extension_bytes: usize,
    trailer_limits: FieldLimits,
}

#[derive(Clone, Debug)]
enum Place {
    Size { digits: u8, size: u64 },
    Extension { size: u64, bytes: usize, scan: ExtensionScan },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers { scan: FieldScan, room_bytes: usize },
    End,
}

const SIZE: Place = Place::Size { digits: 0, size: 0 };

impl ChunkedDecoder {
    /// For a body of at most `limit_bytes`, with trailer lines of at most `line_bytes`.
    pub(super) fn new(limit_bytes: Option<u64>, line_bytes: usize) -> Self {
        Self {
            place: SIZE,
            announced_bytes: 0,
            limit_bytes,
            extension_bytes: 0,
            trailer_limits: FieldLimits { line_bytes, line_count: TRAILER_LINES },
        }
    }

    /// As [`super::BodyDecoder::decode`].
    pub(super) fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, BodyError> {
        let mut at = 0;
        loop {
            match &mut self.place {
                Place::Data { left } => {
                    let rest = &input[at..];
                    if rest.is_empty() {
                        return Ok(Decoded { data: &[], consumed: at, is_end: false });
                    }
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.place = Place::DataCr;
                    }
                    let consumed = at + count;
                    return Ok(Decoded { data: &rest[..count], consumed, is_end: false });
                }
                Place::Trailers { scan, room_bytes } => {
                    let (count, end) =
                        scan.next_line(&input[at..], *room_bytes, &self.trailer_limits)?;
                    at += count;
                    *room_bytes -= count;
                    match end {
                        LineEnd::Unfinished => {
                            return Ok(Decoded { data: &[], consumed: at, is_end: false });
                        }
                        // Thrown away: merged into the environ, a trailer could pose as a header
                        // that the proxy before us has checked (RFC 9110 §6.5.1).
                        LineEnd::Field { .. } => {}
                        LineEnd::Last => self.place = Place::End,
                    }
                }
                Place::End => return Ok(Decoded { data: &[], consumed: at, is_end: true }),
                Place::Size { .. }
                | Place::Extension { .. }
                | Place::SizeLf { .. }
                | Place::DataCr
                | Place::DataLf => {
                    let Some(&byte) = input.get(at) else {
                        return Ok(Decoded { data: &[], consumed: at, is_end: false });
                    };
                    self.step(byte)?;
                    at += 1;
                }
            }
        }
    }

    /// Judges one byte of what surrounds the data.
    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.place = match self.place {
            Place::Size { digits, size } => match (hex_digit(byte), byte) {
                (Some(_), _) if digits == SIZE_DIGITS => return Err(BodyError::SizeTooLong),
                (Some(digit), _) => {
                    Place::Size { digits: digits + 1, size: (size << 4) | u64::from(digit) }
                }
                (None, _) if digits == 0 => return Err(BodyError::NoSize),
                (None, b'\r') => Place::SizeLf { size },
                (None, byte) => match ExtensionScan::open(byte) {
                    Some(scan) => self.extend(size, 0, scan)?,
                    None => return Err(BodyError::BadSize),
                },
            },
            Place::Extension { size, bytes, scan } => match scan.next(byte)? {
                ExtensionStep::Within(scan) => self.extend(size, bytes, scan)?,
                ExtensionStep::Cr => Place::SizeLf { size },
            },
            Place::SizeLf { size } => {
                judge_lf(byte)?;
                self.announce(size)?
            }
            Place::DataCr if byte == b'\r' => Place::DataLf,
            Place::DataCr => return Err(BodyError::DataNotClosed),
            Place::DataLf => {
                judge_lf(byte)?;
                SIZE
            }
            // `decode` has no step for these.
            Place::Data { .. } | Place::Trailers { .. } | Place::End => return Ok(()),
        };
        Ok(())
    }

    /// Counts one byte of an extension; `bytes` were there before it.
    fn extend(&mut self, size: u64, bytes: usize, scan: ExtensionScan) -> Result<Place, BodyError> {
        self.extension_bytes += 1;
        if bytes == CHUNK_EXTENSION_BYTES || self.extension_bytes > BODY_EXTENSION_BYTES {
            return Err(BodyError::ExtensionTooLong);
        }
        Ok(Place::Extension { size, bytes: bytes + 1, scan })
    }

    /// What comes behind a whole size line.
    fn announce(&mut self, size: u64) -> Result<Place, BodyError> {
        if size == 0 {
            return Ok(Place::Trailers { scan: FieldScan::default(), room_bytes: TRAILER_BYTES });
        }
        let announced = self.announced_bytes.checked_add(size).ok_or(BodyError::TooLarge)?;
        if self.limit_bytes.is_some_and(|limit| announced > limit) {
            return Err(BodyError::TooLarge);
        }
        self.announced_bytes = announced;
        Ok(Place::Data { left: size })
    }
}

fn judge_lf(byte: u8) -> Result<(), BodyError> {
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
