//! Bodies and answers in every encoding, and in native frames.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at once"
)]

mod support;

use std::io::{Read as _, Write as _};

use support::{Engine, lines};

#[test]
fn answers_are_compressed_as_asked() {
    let engine = Engine::start();
    let expected = lines(200_000);
    let select = "SELECT number FROM numbers(200000)";
    for (encoding, decoder) in [
        ("gzip", "gzip"),
        ("deflate", "zlib"),
        ("zstd", "zstd"),
        ("lz4", "lz4"),
    ] {
        let answer = engine.curl(
            "",
            &[
                "-H",
                &format!("Accept-Encoding: {encoding}"),
                "--data-binary",
                select,
            ],
            b"",
        );
        assert_eq!(answer.header("content-encoding"), Some(encoding));
        let mut plain = String::new();
        let body = answer.body.as_slice();
        let read = match decoder {
            "gzip" => flate2::read::GzDecoder::new(body).read_to_string(&mut plain),
            "zlib" => flate2::read::ZlibDecoder::new(body).read_to_string(&mut plain),
            "zstd" => zstd::Decoder::new(body).unwrap().read_to_string(&mut plain),
            _ => lz4_flex::frame::FrameDecoder::new(body).read_to_string(&mut plain),
        };
        read.unwrap();
        assert!(
            plain == expected && answer.body.len() < expected.len(),
            "{encoding}"
        );
    }
    let answer = engine.curl("compress=1", &["--data-binary", select], b"");
    let mut plain = String::new();
    procscope_engine::frames::FrameReader::new(answer.body.as_slice())
        .read_to_string(&mut plain)
        .unwrap();
    assert!(plain == expected);
}

#[test]
fn bodies_are_read_in_every_encoding() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    let plain = lines(100_000);
    let plain = plain.as_bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(plain).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(plain).unwrap();
    let mut frames = Vec::new();
    procscope_engine::frames::write_frames(plain, &mut frames).unwrap();
    let bodies = [
        ("identity", "", plain.to_vec()),
        ("gzip", "", gzip.finish().unwrap()),
        ("deflate", "", deflate.finish().unwrap()),
        ("zstd", "", zstd::bulk::compress(plain, 1).unwrap()),
        ("lz4", "", lz4.finish().unwrap()),
        ("identity", "&decompress=1", frames.clone()),
    ];
    for (encoding, parameters, body) in &bodies {
        let header = format!("Content-Encoding: {encoding}");
        let arguments = [
            "-H",
            &header,
            "-H",
            "Transfer-Encoding: chunked",
            "--data-binary",
            "@-",
        ];
        let answer = engine.curl(
            &format!("query=INSERT+INTO+t+FORMAT+TSV{parameters}"),
            &arguments,
            body,
        );
        assert_eq!(answer.status, 200, "{encoding}{parameters}: {}", answer.text());
        assert!(
            answer
                .header("x-clickhouse-summary")
                .unwrap()
                .contains("\"written_rows\":\"100000\"")
        );
    }
    assert_eq!(
        engine.sql("SELECT count() FROM t"),
        format!("{}\n", bodies.len() * 100_000)
    );
    // A statement can be compressed, too.
    let answer = engine.curl(
        "",
        &["-H", "Content-Encoding: zstd", "--data-binary", "@-"],
        &zstd::bulk::compress(b"SELECT 5", 1).unwrap(),
    );
    assert_eq!(answer.text(), "5\n");
    // Broken frames insert nothing.
    let last = frames.len() - 1;
    frames[last] ^= 1;
    let answer = engine.curl(
        "query=INSERT+INTO+t+FORMAT+TSV&decompress=1",
        &["--data-binary", "@-"],
        &frames,
    );
    assert_eq!(
        (answer.status, answer.header("x-clickhouse-exception-code")),
        (500, Some("40")),
        "{}",
        answer.text()
    );
    let answer = engine.curl(
        "",
        &["-H", "Content-Encoding: br", "--data-binary", "SELECT 1"],
        b"",
    );
    assert_eq!(answer.header("x-clickhouse-exception-code"), Some("89"));
    assert_eq!(
        engine.sql("SELECT count() FROM t"),
        format!("{}\n", bodies.len() * 100_000)
    );
}
