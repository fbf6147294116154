//! test
pub mod btf; pub mod clock; pub mod drain; pub mod fold; pub mod offsets; pub mod probes;
