//! stub
#![allow(missing_docs)]
use crate::connection::SocketName;
use crate::log::LogFormat;
use std::os::fd::OwnedFd;
use std::time::Duration;
pub struct AccessLog;
pub struct Entry<'a> {
    pub peer: &'a SocketName,
    pub method: &'a [u8],
    pub path: &'a [u8],
    pub version: &'static str,
    pub status: u16,
    pub body_bytes: u64,
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    pub duration: Duration,
}
impl AccessLog {
    pub fn new(_fd: OwnedFd, _f: LogFormat) -> Self {
        todo!()
    }
    pub fn record(&mut self, _e: &Entry<'_>) {}
    pub fn flush(&mut self) {}
}
