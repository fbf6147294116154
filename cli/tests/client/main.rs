//! The client as a whole program, against a collector that answers from memory.

#[cfg(test)]
mod collector;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod live;
#[cfg(test)]
mod refused;
