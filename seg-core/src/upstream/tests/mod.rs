//! Whole exchanges against servers that play bytes: every test drives both ends of real sockets
//! on one thread, so what happens first is decided, not timed.

mod connecting;
mod deadlines;
mod framing;
mod interim;
mod memory;
mod pooling;
mod replay;
mod server;
mod upload;
