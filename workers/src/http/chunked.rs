//! The chunked coding (RFC 9112 §7.1), decoded by our own machine.
