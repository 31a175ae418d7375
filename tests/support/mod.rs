//! What the modules of this test program share.

pub(crate) mod codec;
pub(crate) mod corpus;
pub(crate) mod echo;
pub(crate) mod ok;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod talk;
