//! What is sent of a file: itself, or a compressed file beside it that the client accepts.

use std::borrow::Cow;

use super::content_type::{content_type, is_compressible};
use super::request::Request;
use super::root::{OpenError, OpenFile, Root};
use crate::http::{AcceptedCodings, ContentCoding};

/// An open file and what it is.
pub(super) struct Representation {
    pub(super) file: OpenFile,
    pub(super) content_type: Cow<'static, str>,
    pub(super) coding: Option<ContentCoding>,
    /// Whether another request for the same path could get another representation.
    pub(super) varies: bool,
}

impl Representation {
    /// Opens the representation that a client prefers. Only names of a compressible type are looked up with the ending
    /// of a coding; they vary, whether there is such a file or not.
    pub(super) fn open(root: &Root, name: &str, request: &Request<'_>) -> Result<Self, OpenError> {
        let content_type = content_type(name);
        let varies = is_compressible(&content_type);
        if varies {
            for coding in AcceptedCodings::of(request.head, request.head_bytes).iter() {
                let compressed = format!("{name}{}", coding.suffix());
                if let Ok(file) = root.open_file(&compressed) {
                    return Ok(Self { file, content_type, coding: Some(coding), varies });
                }
            }
        }
        Ok(Self { file: root.open_file(name)?, content_type, coding: None, varies })
    }
}
