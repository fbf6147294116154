//! Content encodings of request bodies and responses: gzip, deflate, zstd and LZ4 frames.

use std::io::{self, Read, Write as _};

use crate::{
    exception::{Code, Exception},
    frames::{FrameReader, write_frames},
};

/// How a body is compressed as HTTP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950: zlib, which HTTP calls deflate.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// The LZ4 frame format.
    Lz4,
}

impl Encoding {
    /// The name in `Content-Encoding`; none for identity.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
            Self::Lz4 => Some("lz4"),
        }
    }

    /// Reads `Content-Encoding`.
    ///
    /// # Errors
    /// `UNKNOWN_COMPRESSION_METHOD` for one that is not known here.
    pub fn of_content(name: &str) -> Result<Self, Exception> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            "lz4" => Ok(Self::Lz4),
            other => Err(Exception::new(
                Code::UNKNOWN_COMPRESSION_METHOD,
                format_args!("Unknown compression method: {other}"),
            )),
        }
    }

    /// Chooses from `Accept-Encoding`: the known one with the greatest weight, the earlier of equals.
    #[must_use]
    pub fn of_accept(accept: &str) -> Self {
        let mut best = (0.0, Self::Identity);
        for choice in accept.split(',') {
            let mut parts = choice.split(';');
            let Ok(encoding) = Self::of_content(parts.next().unwrap_or_default()) else {
                continue;
            };
            let weight = parts
                .find_map(|part| {
                    part.trim()
                        .strip_prefix("q=")
                        .map(|weight| weight.trim().parse().unwrap_or(0.0))
                })
                .unwrap_or(1.0);
            if encoding != Self::Identity && weight > best.0 {
                best = (weight, encoding);
            }
        }
        best.1
    }
}

/// Wraps `body` so that it gives plain bytes: first the content encoding is undone, then native frames.
///
/// # Errors
/// When a decoder cannot be set up.
pub fn plain_reader<R: Read + Send + 'static>(
    body: R,
    encoding: Encoding,
    frames: bool,
) -> io::Result<Box<dyn Read + Send>> {
    let plain: Box<dyn Read + Send> = match encoding {
        Encoding::Identity => Box::new(body),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(body)),
        Encoding::Zstd => Box::new(zstd::Decoder::new(body)?),
        Encoding::Lz4 => Box::new(Lz4Reader(lz4_flex::frame::FrameDecoder::new(body))),
    };
    Ok(if frames {
        Box::new(FrameReader::new(plain))
    } else {
        plain
    })
}

/// Reads every LZ4 frame of a body: the decoder alone stops at the end of the first.
struct Lz4Reader<R: Read>(lz4_flex::frame::FrameDecoder<R>);

impl<R: Read> Read for Lz4Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            // The end of a frame, unless it was the end of the body: then the next read gives nothing, too.
            0 if !out.is_empty() => self.0.read(out),
            read => Ok(read),
        }
    }
}

/// Compresses a response piece by piece; every piece can be read as soon as it has arrived.
pub struct Compressor {
    encoder: Encoder,
    frames: bool,
}

enum Encoder {
    Identity(Vec<u8>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
    Lz4(lz4_flex::frame::FrameEncoder<Vec<u8>>),
}

impl Compressor {
    /// For one response: `frames` writes native frames first, `encoding` is applied to what comes out.
    ///
    /// # Errors
    /// When an encoder cannot be set up.
    pub fn new(encoding: Encoding, frames: bool) -> io::Result<Self> {
        let fast = flate2::Compression::fast();
        let encoder = match encoding {
            Encoding::Identity => Encoder::Identity(Vec::new()),
            Encoding::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), fast)),
            Encoding::Deflate => Encoder::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), fast)),
            Encoding::Zstd => Encoder::Zstd(zstd::Encoder::new(Vec::new(), 1)?),
            Encoding::Lz4 => Encoder::Lz4(lz4_flex::frame::FrameEncoder::new(Vec::new())),
        };
        Ok(Self { encoder, frames })
    }

    /// Takes a piece and gives what can be sent of it: all.
    ///
    /// # Errors
    /// When an encoder fails.
    pub fn piece(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let framed;
        let bytes = if self.frames {
            let mut out = Vec::new();
            write_frames(plain, &mut out)?;
            framed = out;
            &framed
        } else {
            plain
        };
        match &mut self.encoder {
            Encoder::Identity(out) => {
                out.extend_from_slice(bytes);
                Ok(std::mem::take(out))
            }
            Encoder::Gzip(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Encoder::Deflate(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Encoder::Zstd(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Encoder::Lz4(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// Gives the end of the response: checksums and end marks.
    ///
    /// # Errors
    /// When an encoder fails.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.encoder {
            Encoder::Identity(out) => Ok(out),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Deflate(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 5] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
        Encoding::Lz4,
    ];

    fn compress(encoding: Encoding, frames: bool, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut compressor = Compressor::new(encoding, frames).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(compressor.piece(piece).unwrap());
        }
        out.extend(compressor.finish().unwrap());
        out
    }

    fn read(body: Vec<u8>, encoding: Encoding, frames: bool) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        plain_reader(io::Cursor::new(body), encoding, frames)?
            .read_to_end(&mut plain)
            .map(|_| plain)
    }

    #[test]
    fn the_best_known_encoding_is_chosen() {
        for (accept, encoding) in [
            ("lz4", Encoding::Lz4),
            ("br, gzip;q=0.5, zstd", Encoding::Zstd),
            ("gzip, deflate", Encoding::Gzip),
            ("identity", Encoding::Identity),
            ("gzip;q=0", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            assert_eq!(Encoding::of_accept(accept), encoding, "{accept}");
        }
    }

    #[test]
    fn an_unknown_content_encoding_is_refused() {
        assert_eq!(Encoding::of_content("br").unwrap_err().code(), 89);
    }

    #[test]
    fn several_lz4_frames_are_one_body() {
        let one = compress(Encoding::Lz4, false, &[b"one".to_vec()]);
        let two = compress(Encoding::Lz4, false, &[b"two".to_vec()]);
        assert_eq!(
            read([one, two].concat(), Encoding::Lz4, false).unwrap(),
            b"onetwo"
        );
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_read(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..5)) {
            for encoding in ALL {
                for frames in [false, true] {
                    let body = compress(encoding, frames, &pieces);
                    prop_assert_eq!(read(body, encoding, frames).unwrap(), pieces.concat());
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            for encoding in ALL {
                for frames in [false, true] {
                    drop(read(body.clone(), encoding, frames));
                }
            }
        }
    }
}
