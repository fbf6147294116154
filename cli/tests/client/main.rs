//! The client as a whole program, against a collector that answers from memory.

mod collector;
mod commands;
mod live;
