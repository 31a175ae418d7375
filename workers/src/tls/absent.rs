//! TLS in a build without it: no value of these types exists, so nothing that uses one is ever called.

use super::{Loaded, Processed, TlsError};
use crate::connection::TlsInfo;
use crate::settings::TlsFiles;

/// Uninhabited.
#[derive(Clone, Debug)]
pub enum TlsConfig {}

/// Uninhabited.
pub enum Session {}

/// Fails: there is no TLS.
pub fn load(_files: &TlsFiles) -> Result<Loaded, TlsError> {
    Err(TlsError::NotBuilt)
}

#[expect(missing_docs, reason = "the methods of the real type, which nobody can call")]
impl TlsConfig {
    pub fn for_child(&self) -> Self {
        match *self {}
    }
}

#[expect(missing_docs, reason = "the methods of the real type, which nobody can call")]
impl Session {
    pub fn new(config: &TlsConfig) -> Result<Self, String> {
        match *config {}
    }

    pub fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub fn info(&self) -> TlsInfo {
        match *self {}
    }

    pub fn process(&mut self, _: &mut [u8], _: &mut [u8], _: &mut Vec<u8>) -> Processed {
        match *self {}
    }

    pub fn encrypt(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), String> {
        match *self {}
    }

    pub fn close_notify(&mut self, _: &mut Vec<u8>) {
        match *self {}
    }
}
