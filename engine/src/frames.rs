//! ClickHouse's native compressed frames, as `compress=1` and `decompress=1` use them: a `CityHash128` checksum,
//! a method, two sizes, and the bytes.

use std::io::{self, Read};

use crate::exception::{Code, Exception};

const CHECKSUM_BYTES: usize = 16;
/// Method byte, then compressed and plain size as little-endian `u32`.
const HEADER_BYTES: usize = 9;
/// No frame may be larger, plain or compressed. `ClickHouse` itself writes 1 MiB and allows 1 GiB.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Plain bytes that we put into one frame; `ClickHouse`'s own `max_compress_block_size`.
const FRAME_BYTES: usize = 1 << 20;

const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;

/// Writes `plain` as LZ4 frames to the end of `out`.
///
/// # Errors
/// None for what fits into memory; sizes are checked all the same.
pub fn write_frames(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    for part in plain.chunks(FRAME_BYTES) {
        let start = out.len();
        let body = start + CHECKSUM_BYTES + HEADER_BYTES;
        out.resize(body + lz4_flex::block::get_maximum_output_size(part.len()), 0);
        let written = lz4_flex::block::compress_into(part, &mut out[body..]).map_err(io::Error::other)?;
        out.truncate(body + written);
        let compressed = u32::try_from(HEADER_BYTES + written).map_err(io::Error::other)?;
        let plain = u32::try_from(part.len()).map_err(io::Error::other)?;
        let header = start + CHECKSUM_BYTES;
        out[header] = METHOD_LZ4;
        out[header + 1..header + 5].copy_from_slice(&compressed.to_le_bytes());
        out[header + 5..header + 9].copy_from_slice(&plain.to_le_bytes());
        let sum = checksum(&out[header..]);
        out[start..header].copy_from_slice(&sum);
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    cityhash_rs::cityhash_102_128(bytes)
        .rotate_right(64)
        .to_le_bytes()
}

/// Reads frames from `inner` and gives the plain bytes.
#[derive(Debug)]
pub struct FrameReader<R> {
    inner: R,
    plain: Vec<u8>,
    at: usize,
}

impl<R: Read> FrameReader<R> {
    /// Starts before the first frame.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            plain: Vec::new(),
            at: 0,
        }
    }

    /// Fills `plain` with the next frame; `false` at the end between frames.
    fn next_frame(&mut self) -> io::Result<bool> {
        let mut head = [0_u8; CHECKSUM_BYTES + HEADER_BYTES];
        if !read_all_or_nothing(&mut self.inner, &mut head)? {
            return Ok(false);
        }
        let (sum, header) = head.split_at(CHECKSUM_BYTES);
        let compressed = size(&header[1..5])?;
        let plain = size(&header[5..9])?;
        let body = compressed
            .checked_sub(HEADER_BYTES)
            .ok_or_else(|| broken("a frame is shorter than its header"))?;
        if compressed > FRAME_BYTES_MAX || plain > FRAME_BYTES_MAX {
            return Err(broken(format_args!(
                "a frame is larger than {FRAME_BYTES_MAX} bytes"
            )));
        }
        let mut frame = header.to_vec();
        // The size is only claimed: memory grows with what arrives.
        let arrived = Read::by_ref(&mut self.inner)
            .take(u64::try_from(body).map_err(io::Error::other)?)
            .read_to_end(&mut frame)?;
        if arrived != body {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the body ended inside a compressed frame",
            ));
        }
        if checksum(&frame) != sum {
            let text = "Checksum doesn't match: corrupted data";
            return Err(io::Error::other(Exception::new(
                Code::CHECKSUM_DOESNT_MATCH,
                text,
            )));
        }
        let body = &frame[HEADER_BYTES..];
        self.at = 0;
        self.plain = match header[0] {
            METHOD_NONE => body.to_vec(),
            METHOD_LZ4 => lz4_flex::block::decompress(body, plain).map_err(broken)?,
            METHOD_ZSTD => zstd::bulk::decompress(body, plain).map_err(broken)?,
            other => {
                let text = format_args!("Unknown compression method: {other:#04x}");
                return Err(io::Error::other(Exception::new(
                    Code::UNKNOWN_COMPRESSION_METHOD,
                    text,
                )));
            }
        };
        if self.plain.len() != plain {
            return Err(broken("a frame has another size than it says"));
        }
        Ok(true)
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if !self.next_frame()? {
                return Ok(0);
            }
        }
        let rest = &self.plain[self.at..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken;
        Ok(taken)
    }
}

fn broken(why: impl std::fmt::Display) -> io::Error {
    io::Error::other(Exception::new(
        Code::CANNOT_DECOMPRESS,
        format_args!("Cannot decompress: {why}"),
    ))
}

fn size(bytes: &[u8]) -> io::Result<usize> {
    let bytes = bytes.try_into().map_err(io::Error::other)?;
    usize::try_from(u32::from_le_bytes(bytes)).map_err(io::Error::other)
}

/// Fills `out`, or reads nothing at all at the end.
fn read_all_or_nothing(inner: &mut impl Read, out: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < out.len() {
        match inner.read(&mut out[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the body ended inside a compressed frame",
                ));
            }
            read => filled += read,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(frames: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        FrameReader::new(frames).read_to_end(&mut plain).map(|_| plain)
    }

    /// A frame of any method around bytes that are already compressed.
    fn frame(method: u8, body: &[u8], plain: usize) -> Vec<u8> {
        let mut rest = vec![method];
        rest.extend(u32::try_from(body.len() + HEADER_BYTES).unwrap().to_le_bytes());
        rest.extend(u32::try_from(plain).unwrap().to_le_bytes());
        rest.extend(body);
        [checksum(&rest).as_slice(), &rest].concat()
    }

    #[test]
    fn every_method_is_read() {
        let plain = b"some plain bytes".repeat(100);
        let compressed = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(
            read(&frame(METHOD_ZSTD, &compressed, plain.len())).unwrap(),
            plain
        );
        assert_eq!(read(&frame(METHOD_NONE, &plain, plain.len())).unwrap(), plain);
    }

    #[test]
    fn broken_frames_are_refused() {
        let mut frames = Vec::new();
        write_frames(b"hello", &mut frames).unwrap();
        for at in 0..frames.len() {
            let mut bent = frames.clone();
            bent[at] ^= 1;
            assert!(read(&bent).is_err(), "byte {at}");
            assert!(at == 0 || read(&frames[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..5)) {
            let mut frames = Vec::new();
            for part in &parts {
                write_frames(part, &mut frames).unwrap();
            }
            prop_assert_eq!(read(&frames).unwrap(), parts.concat());
        }
    }
}
