//! Who decodes what comes over the wire: every procedure with the decoders of its arguments and of its reply, each of which
//! is in a fuzz target. A procedure that is not in the table fails the test.

use extent_server::fuzzing as extents;
use lock_rsm::fuzzing as rsm;
use rpc::fuzzing::Decoder;
use std::collections::BTreeSet;

/// Where procedures are declared.
const SOURCES: [(&str, &str); 5] = [
    ("rsm", include_str!("../../../lock_rsm/src/rsm/types.rs")),
    ("rsm", include_str!("../../../lock_rsm/src/rsm/state/machine.rs")),
    ("test port", include_str!("../../../lock_rsm/src/rsm/test_port/mod.rs")),
    ("locks", include_str!("../../../lock_rsm/src/locks/protocol.rs")),
    ("extents", include_str!("../../../extent_server/src/protocol.rs")),
];

/// Of whom, procedure, arguments, reply. `-`: nothing, or what another row decodes. Payloads without a decoder are bytes
/// that are handed on as they are.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("rsm", "INVOKE", "invoke", "invoked"),
    ("rsm", "MEMBERS", "-", "view"),
    ("rsm", "STATUS", "-", "status"),
    ("rsm", "ATTACH", "number", "-"),
    ("rsm", "MESSAGE", "envelope", "-"),
    ("rsm", "IDENTITY", "-", "identity"),
    ("rsm", "JOIN", "join", "joined"),
    ("rsm", "RETIRE", "retire", "retired"),
    ("rsm", "REGISTER_CLIENT", "-", "number"),
    ("test port", "NET_REPAIR", "order", "ordered"),
    ("test port", "BREAKPOINT", "order", "ordered"),
    ("test port", "HISTORY", "number", "history"),
    ("locks", "OPEN_SESSION", "open_session", "session_id"),
    ("locks", "ACQUIRE", "acquire", "standings"),
    ("locks", "RELEASE", "release", "standings"),
    ("locks", "STAT", "lock_id", "holders"),
    ("locks", "CLOSE_SESSION", "end_session", "ended"),
    ("locks", "ALLOCATE", "allocate", "allocated"),
    ("locks", "EXPIRE", "end_session", "ended"),
    ("locks", "KEEPALIVE", "keepalive", "alive"),
    ("locks", "SESSIONS", "session_id", "sessions"),
    ("locks", "STUCK", "-", "stuck"),
    ("locks", "REVOKE", "revoke", "-"),
    ("locks", "GRANT", "grant", "-"),
    ("locks", "FENCE", "fence", "-"),
    ("extents", "WRITE", "write", "written"),
    ("extents", "GET", "get", "got"),
    ("extents", "SCAN", "scan", "scanned"),
    ("extents", "READ", "read", "done"),
    ("extents", "COMMIT", "commit", "done"),
    ("extents", "STATFS", "-", "statfs"),
    ("extents", "FENCE", "fence", "done"),
    ("extents", "STATUS", "-", "status"),
];

/// The decoders that the targets have for each of them.
fn fuzzed(whose: &str) -> BTreeSet<&'static str> {
    let lists: &[&[Decoder]] = match whose {
        "rsm" | "test port" => &[rsm::REPLICAS],
        "locks" => &[rsm::LOCKS],
        _ => &[extents::HEADERS, extents::COMMITS],
    };
    lists.iter().flat_map(|list| list.iter()).map(|decoder| decoder.name).collect()
}

/// The procedures that a source declares: its constants in hexadecimal.
fn declared(source: &'static str) -> impl Iterator<Item = &'static str> {
    let constants = source.lines().filter_map(|line| line.trim_start().strip_prefix("pub const "));
    constants.filter_map(|line| {
        let (name, rest) = line.split_once(": ")?;
        (rest.starts_with("u32 = 0x") || rest.starts_with("Proc = 0x")).then_some(name)
    })
}

#[test]
fn every_procedure_is_fuzzed() {
    let told: BTreeSet<_> = TABLE.iter().map(|&(whose, name, ..)| (whose, name)).collect();
    assert_eq!(told.len(), TABLE.len(), "a procedure is in the table twice");
    let found = SOURCES.iter().flat_map(|&(whose, source)| declared(source).map(move |name| (whose, name)));
    assert_eq!(found.collect::<BTreeSet<_>>(), told, "left: in the sources; right: in this table");
    for (whose, name, arguments, reply) in TABLE {
        for decoder in [arguments, reply].into_iter().filter(|decoder| **decoder != "-") {
            assert!(fuzzed(whose).contains(decoder), "{whose} {name}: no target has the decoder {decoder:?}");
        }
    }
}
