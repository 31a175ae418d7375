//! Code that several modules of this program use.

pub(crate) mod codec;
pub(crate) mod conversation;
pub(crate) mod corpus;
pub(crate) mod echo;
pub(crate) mod ok;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod stated;
