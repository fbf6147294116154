//! The collector's door: any bytes as a request and as the snapshot in it, decoded and converted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use procscope_collector::ingest::decode;
use procscope_proto::v1::PushSnapshotsRequest;
use prost::Message as _;

/// When the snapshot is said to have come.
const RECEIVED_AT_MS: i64 = 4_000_000_000_000;

fuzz_target!(|input: &[u8]| {
    if let Ok(request) = PushSnapshotsRequest::decode(input) {
        _ = decode::snapshot(request, RECEIVED_AT_MS);
    }
    // With a checksum that fits, so that what lies behind it is reached.
    let request = PushSnapshotsRequest {
        agent_id: vec![1; 16],
        epoch: 1,
        seq: 1,
        snapshot_crc32c: crc32c::crc32c(input),
        snapshot: input.to_vec(),
        ..PushSnapshotsRequest::default()
    };
    let Ok(snapshot) = decode::snapshot(request, RECEIVED_AT_MS) else {
        return;
    };
    for name in snapshot
        .samples
        .iter()
        .map(|sample| &*sample.identity.name)
        .chain(snapshot.exits.iter().map(|exit| &*exit.identity.name))
        .chain([&*snapshot.host])
    {
        assert!(
            !name.chars().any(char::is_control),
            "what was let in can be shown: {name:?}"
        );
    }
});
