//! The 146 cases of h2spec 2.6, each as a case of our own: that tool is in no package index, so it cannot be had wherever
//! the tests run. `generic`, `http2` and `hpack` with a number are its names for them; the sections are those of today.

use super::*;
use crate::support::http2::frames::PREFACE;

const PRIORITY_OF_NOTHING: &[u8] = &[0, 0, 0, 0, 15];

fn priority(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, payload)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, [0, 0, 0, 8])
}

fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, parameters(values))
}

fn continuation(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(kind::CONTINUATION, flags, stream, bytes)
}

/// A GET whose header block these bytes follow.
fn with_bytes(bytes: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END, 1, [&block(FIELDS), bytes].concat())
}

/// A GET whose header block follows these bytes.
fn behind_bytes(bytes: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END, 1, [bytes, &block(FIELDS)].concat())
}

/// A GET in this many pieces.
fn pieces(count: usize) -> Vec<u8> {
    let block = block(FIELDS);
    let mut parts = block.chunks(block.len().div_ceil(count));
    let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 1, parts.next().unwrap());
    while let Some(part) = parts.next() {
        let flags = if parts.len() == 0 { flag::END_HEADERS } else { 0 };
        bytes.extend(continuation(1, flags, part));
    }
    bytes
}

/// The first piece of a GET: `CONTINUATION` must follow.
fn open() -> Vec<u8> {
    frame(kind::HEADERS, flag::END_STREAM, 1, block(FIELDS))
}

#[test]
fn generic_starts_streams_and_frames() {
    let goaway = frame(kind::GOAWAY, 0, 0, [0; 8]);
    check(vec![
        ("9113 3.4", "generic 1/1: the preface", vec![], Fine),
        (
            "9113 5.3",
            "generic 2/1: PRIORITY on an idle stream",
            all(&[&priority(1, PRIORITY_OF_NOTHING), &get(&[])]),
            Status(200),
        ),
        (
            "9113 5.1",
            "generic 2/2: WINDOW_UPDATE on a half-closed stream",
            all(&[&get(&[]), &window(1, 100)]),
            Status(200),
        ),
        (
            "9113 5.1",
            "generic 2/3: PRIORITY on a half-closed stream",
            all(&[&get(&[]), &priority(1, PRIORITY_OF_NOTHING)]),
            Status(200),
        ),
        ("9113 5.1", "generic 2/4: RST_STREAM on a half-closed stream", all(&[&get(&[]), &reset(1)]), Fine),
        (
            "9113 5.1",
            "generic 2/5: PRIORITY on a closed stream",
            all(&[&get(&[]), &reset(1), &priority(1, PRIORITY_OF_NOTHING)]),
            Fine,
        ),
        ("9113 6.1", "generic 3.1/1: DATA", all(&[&post(&[]), &data(flag::END_STREAM, "test")]), Status(200)),
        (
            "9113 6.1",
            "generic 3.1/2: several DATA",
            all(&[&post(&[]), &data(0, "test"), &data(flag::END_STREAM, "test")]),
            Status(200),
        ),
        (
            "9113 6.1",
            "generic 3.1/3: padded DATA",
            all(&[&post(&[]), &data(flag::END_STREAM | flag::PADDED, "\x06test\0\0\0\0\0\0")]),
            Status(200),
        ),
        ("9113 6.2", "generic 3.2/1: HEADERS", get(&[]), Status(200)),
        (
            "9113 6.2",
            "generic 3.2/2: padded HEADERS",
            frame(kind::HEADERS, END | flag::PADDED, 1, [&[6], &block(FIELDS)[..], &[0; 6]].concat()),
            Status(200),
        ),
        (
            "9113 6.2",
            "generic 3.2/3: HEADERS with a priority",
            frame(kind::HEADERS, END | flag::PRIORITY, 1, [PRIORITY_OF_NOTHING, &block(FIELDS)].concat()),
            Status(200),
        ),
        ("9113 6.3", "generic 3.3/1: weight 1", all(&[&get(&[]), &priority(1, &[0, 0, 0, 0, 0])]), Status(200)),
        ("9113 6.3", "generic 3.3/2: weight 256", all(&[&get(&[]), &priority(1, &[0, 0, 0, 0, 255])]), Status(200)),
        ("9113 6.3", "generic 3.3/3: a dependency", all(&[&priority(3, &[0, 0, 0, 1, 255]), &get(&[])]), Status(200)),
        (
            "9113 6.3",
            "generic 3.3/4: an exclusive one",
            all(&[&priority(3, &[0x80, 0, 0, 1, 255]), &get(&[])]),
            Status(200),
        ),
        (
            "9113 6.3",
            "generic 3.3/5: PRIORITY of a later stream",
            all(&[&priority(5, &[0x80, 0, 0, 3, 255]), &get(&[])]),
            Status(200),
        ),
        ("9113 6.4", "generic 3.4/1: RST_STREAM", all(&[&post(&[]), &reset(1)]), Fine),
        ("9113 6.5", "generic 3.5/1: SETTINGS", all(&[&settings(&[(3, 100)]), &get(&[])]), Status(200)),
        ("9113 6.7", "generic 3.7/1: PING", vec![], Fine),
        ("9113 6.8", "generic 3.8/1: GOAWAY", all(&[&get(&[]), &goaway]), Status(200)),
        ("9113 6.9", "generic 3.9/1: WINDOW_UPDATE of the connection", all(&[&window(0, 1), &get(&[])]), Status(200)),
        (
            "9113 6.9",
            "generic 3.9/2: WINDOW_UPDATE of a stream",
            all(&[&post(&[]), &window(1, 1), &data(flag::END_STREAM, "x")]),
            Status(200),
        ),
        ("9113 6.10", "generic 3.10/1: CONTINUATION", pieces(2), Status(200)),
        ("9113 6.10", "generic 3.10/2: several CONTINUATION", pieces(4), Status(200)),
    ]);
}

#[test]
fn generic_messages_and_compression() {
    let trailers = frame(kind::HEADERS, END, 1, block(&[("x-sum", "1")]));
    check(vec![
        ("9113 8.1", "generic 4/1: GET", get(&[]), Status(200)),
        ("9113 8.1", "generic 4/2: HEAD", with(":method", "HEAD", &[]), Status(200)),
        ("9113 8.1", "generic 4/3: POST", all(&[&post(&[]), &data(flag::END_STREAM, "test")]), Status(200)),
        (
            "9113 8.1",
            "generic 4/4: POST with trailers",
            all(&[&post(&[("trailer", "x-sum")]), &data(0, "test"), &trailers]),
            Status(200),
        ),
        ("7541 6.1", "generic 5/1: indexed", with_bytes(&[0x90]), Status(200)),
        ("7541 6.2.1", "generic 5/2: to be indexed, name indexed", with_bytes(b"\x7a\x01x"), Status(200)),
        ("7541 6.2.1", "generic 5/3: the same by Huffman", with_bytes(b"\x7a\x81\x1f"), Status(200)),
        ("7541 6.2.1", "generic 5/4: to be indexed, new name", with_bytes(b"\x40\x01x\x01y"), Status(200)),
        ("7541 6.2.1", "generic 5/5: the same by Huffman", with_bytes(b"\x40\x81\x1f\x81\x1f"), Status(200)),
        ("7541 6.2.2", "generic 5/6: not indexed, name indexed", with_bytes(b"\x0f\x2b\x01x"), Status(200)),
        ("7541 6.2.2", "generic 5/7: the same by Huffman", with_bytes(b"\x0f\x2b\x81\x1f"), Status(200)),
        ("7541 6.2.2", "generic 5/8: not indexed, new name", with_bytes(b"\x00\x01x\x01y"), Status(200)),
        ("7541 6.2.2", "generic 5/9: the same by Huffman", with_bytes(b"\x00\x81\x1f\x81\x1f"), Status(200)),
        ("7541 6.2.3", "generic 5/10: never indexed, name indexed", with_bytes(b"\x1f\x2b\x01x"), Status(200)),
        ("7541 6.2.3", "generic 5/11: the same by Huffman", with_bytes(b"\x1f\x2b\x81\x1f"), Status(200)),
        ("7541 6.2.3", "generic 5/12: never indexed, new name", with_bytes(b"\x10\x01x\x01y"), Status(200)),
        ("7541 6.2.3", "generic 5/13: the same by Huffman", with_bytes(b"\x10\x81\x1f\x81\x1f"), Status(200)),
        ("7541 6.3", "generic 5/14: a table size", behind_bytes(&[0x20]), Status(200)),
        ("7541 6.3", "generic 5/15: two table sizes", behind_bytes(&[0x20, 0x3f, 0xe1, 0x1f]), Status(200)),
    ]);
}

#[test]
fn http2_3_start() {
    let api = Instance::named("a");
    let proxy = proxy(&api);
    let mut frames = Frames::raw(proxy.front);
    send(&mut frames, PREFACE);
    send(&mut frames, &settings(&[]));
    let first = frames.read().unwrap().unwrap();
    assert_eq!((first.kind, first.stream), (kind::SETTINGS, 0), "RFC 9113 3.4, http2 3.5/1: the first frame");

    let mut frames = Frames::raw(proxy.front);
    send(&mut frames, b"INVALID CONNECTION PREFACE\r\n\r\n");
    // On a plain listener it may be taken for HTTP/1.1.
    let ended = find(&mut frames, |_| false);
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "http2 3.5/2: {ended:?}");
}

#[test]
fn http2_4_frames() {
    let large = "x".repeat(1 << 14);
    let larger = "x".repeat((1 << 14) + 1);
    let large_headers = frame(kind::HEADERS, END, 1, block(&[FIELDS, &[("x", &larger)]].concat()));
    check(vec![
        ("9113 4.1", "http2 4.1/1: an unknown type", frame(0x16, 0, 0, [0; 8]), Fine),
        ("9113 4.1", "http2 4.1/2: undefined flags", frame(kind::PING, 0x16, 0, [0; 8]), Fine),
        ("9113 4.1", "http2 4.1/3: the reserved bit", frame(kind::PING, 0, 0x8000_0000, [0; 8]), Fine),
        ("9113 4.2", "http2 4.2/1: DATA of 2^14", all(&[&post(&[]), &data(flag::END_STREAM, &large)]), Status(200)),
        (
            "9113 4.2",
            "http2 4.2/2: DATA beyond the limit",
            all(&[&post(&[]), &data(flag::END_STREAM, &larger)]),
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        ("9113 4.2", "http2 4.2/3: HEADERS beyond the limit", large_headers, Connection(&[FRAME_SIZE_ERROR])),
        (
            "9113 4.3",
            "http2 4.3/1: a block that is none",
            frame(kind::HEADERS, END, 1, b"\x40\x01\x1e\x77\x1f\xff"),
            Connection(&[COMPRESSION_ERROR]),
        ),
        (
            "9113 4.3",
            "http2 4.3/2: PRIORITY within a block",
            all(&[&open(), &priority(1, PRIORITY_OF_NOTHING), &continuation(1, 4, b"")]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "9113 4.3",
            "http2 4.3/3: HEADERS within a block",
            all(&[&open(), &headers(3, END, &[])]),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn http2_5_streams() {
    const IDLE: Is = Connection(&[PROTOCOL_ERROR]);
    const CLOSED: Is = Stream(&[STREAM_CLOSED]);
    const NO_CONTINUATION: Is = Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let test = data(flag::END_STREAM, "test");
    let more = continuation(1, flag::END_HEADERS, &block(&[("x", "y")]));
    let gone = all(&[&post(&[]), &reset(1)]);
    let served = all(&[&get(&[]), &reset(1)]);
    let depends_on_itself =
        frame(kind::HEADERS, END | flag::PRIORITY, 1, [&[0, 0, 0, 1, 255], &block(FIELDS)[..]].concat());
    check(vec![
        ("9113 5.1", "http2 5.1/1: DATA, idle", test.clone(), Connection(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        ("9113 5.1", "http2 5.1/2: RST_STREAM, idle", reset(1), IDLE),
        ("9113 5.1", "http2 5.1/3: WINDOW_UPDATE, idle", window(1, 100), IDLE),
        ("9113 5.1", "http2 5.1/4: CONTINUATION, idle", more.clone(), IDLE),
        ("9113 5.1", "http2 5.1/5: DATA, half-closed", all(&[&get(&[]), &test]), CLOSED),
        ("9113 5.1", "http2 5.1/6: HEADERS, half-closed", all(&[&get(&[]), &get(&[])]), CLOSED),
        ("9113 5.1", "http2 5.1/7: CONTINUATION, half-closed", all(&[&get(&[]), &more]), NO_CONTINUATION),
        ("9113 5.1", "http2 5.1/8: DATA behind RST_STREAM", all(&[&gone, &test]), CLOSED),
        ("9113 5.1", "http2 5.1/9: HEADERS behind RST_STREAM", all(&[&gone, &get(&[])]), CLOSED),
        ("9113 5.1", "http2 5.1/10: CONTINUATION behind RST_STREAM", all(&[&gone, &more]), NO_CONTINUATION),
        ("9113 5.1", "http2 5.1/11: DATA, closed", all(&[&served, &test]), CLOSED),
        ("9113 5.1", "http2 5.1/12: HEADERS, closed", all(&[&served, &get(&[])]), CLOSED),
        ("9113 5.1", "http2 5.1/13: CONTINUATION, closed", all(&[&served, &more]), NO_CONTINUATION),
        ("9113 5.1.1", "http2 5.1.1/1: an even number", headers(2, END, &[]), IDLE),
        ("9113 5.1.1", "http2 5.1.1/2: a lower number", all(&[&headers(5, END, &[]), &headers(3, END, &[])]), IDLE),
        // Since RFC 9113 priorities mean nothing, so such a one may be ignored.
        ("9113 5.3", "http2 5.3.1/1: HEADERS that depend on themselves", depends_on_itself, Anything),
        ("9113 5.3", "http2 5.3.1/2: PRIORITY that depends on itself", priority(1, &[0, 0, 0, 1, 255]), Anything),
        ("9113 5.4.1", "http2 5.4.1/1: a connection error closes it", frame(kind::PING, 0, 3, [0; 8]), IDLE),
        ("9113 5.5", "http2 5.5/1: an unknown frame", all(&[&frame(0xff, 0, 1, b"x"), &get(&[])]), Status(200)),
        ("9113 5.5", "http2 5.5/2: an unknown frame within a block", all(&[&open(), &frame(0xff, 0, 0, b"x")]), IDLE),
    ]);
}

#[test]
fn http2_5_1_2_concurrency() {
    let api = Instance::named("a");
    let proxy = proxy(&api);
    let mut frames = Frames::connect_with(proxy.front, &[]);
    let settings = find(&mut frames, |frame| frame.kind == kind::SETTINGS && frame.flags == 0).unwrap().unwrap();
    let limit = settings.payload.chunks(6).find(|parameter| parameter[..2] == [0, 3]).expect("a limit of streams");
    let limit = u32::from_be_bytes(limit[2..].try_into().unwrap());
    let post = |stream| {
        frame(kind::HEADERS, flag::END_HEADERS, stream, block(&[&[(":method", "POST")], &FIELDS[1..]].concat()))
    };
    for index in 0..=limit {
        send(&mut frames, &post(2 * index + 1));
    }
    let error = find(&mut frames, |frame| matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY)).unwrap();
    let Some(error) = error else { return };
    let code = error.error();
    assert!([PROTOCOL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM].contains(&code), "http2 5.1.2/1: {code}");
}

#[test]
fn http2_6_data_to_push() {
    const PROTOCOL: Is = Connection(&[PROTOCOL_ERROR]);
    const SIZE: Is = Connection(&[FRAME_SIZE_ERROR]);
    let padded = all(&[&post(&[]), &data(flag::END_STREAM | flag::PADDED, "\x16test\0\0\0\0\0\0")]);
    let padded_headers = frame(kind::HEADERS, END | flag::PADDED, 1, [&[255], &block(FIELDS)[..]].concat());
    let setting = |name, value| settings(&[(name, value)]);
    check(vec![
        ("9113 6.1", "http2 6.1/1: DATA of stream 0", frame(kind::DATA, 1, 0, b"test"), PROTOCOL),
        (
            "9113 6.1",
            "http2 6.1/2: DATA, half-closed",
            all(&[&get(&[]), &data(flag::END_STREAM, "test")]),
            Stream(&[STREAM_CLOSED]),
        ),
        ("9113 6.1", "http2 6.1/3: too much padding", padded, PROTOCOL),
        (
            "9113 6.2",
            "http2 6.2/1: PRIORITY within a block",
            all(&[&open(), &priority(1, PRIORITY_OF_NOTHING)]),
            PROTOCOL,
        ),
        ("9113 6.2", "http2 6.2/2: HEADERS within a block", all(&[&open(), &headers(3, END, &[])]), PROTOCOL),
        ("9113 6.2", "http2 6.2/3: HEADERS of stream 0", headers(0, END, &[]), PROTOCOL),
        ("9113 6.2", "http2 6.2/4: too much padding", padded_headers, PROTOCOL),
        ("9113 6.3", "http2 6.3/1: PRIORITY of stream 0", priority(0, PRIORITY_OF_NOTHING), PROTOCOL),
        (
            "9113 6.3",
            "http2 6.3/2: PRIORITY of 4 bytes",
            all(&[&post(&[]), &priority(1, &[0; 4])]),
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        ("9113 6.4", "http2 6.4/1: RST_STREAM of stream 0", reset(0), PROTOCOL),
        ("9113 6.4", "http2 6.4/2: RST_STREAM, idle", reset(1), PROTOCOL),
        (
            "9113 6.4",
            "http2 6.4/3: RST_STREAM of 3 bytes",
            all(&[&post(&[]), &frame(kind::RST_STREAM, 0, 1, [0; 3])]),
            SIZE,
        ),
        (
            "9113 6.5",
            "http2 6.5/1: ACK with parameters",
            frame(kind::SETTINGS, flag::ACK, 0, parameters(&[(3, 1)])),
            SIZE,
        ),
        ("9113 6.5", "http2 6.5/2: SETTINGS of a stream", frame(kind::SETTINGS, 0, 1, parameters(&[(3, 1)])), PROTOCOL),
        ("9113 6.5", "http2 6.5/3: SETTINGS of 3 bytes", frame(kind::SETTINGS, 0, 0, [0; 3]), SIZE),
        ("9113 6.5.2", "http2 6.5.2/1: ENABLE_PUSH of 2", setting(2, 2), PROTOCOL),
        ("9113 6.5.2", "http2 6.5.2/2: a window of 2^31", setting(4, 1 << 31), Connection(&[FLOW_CONTROL_ERROR])),
        ("9113 6.5.2", "http2 6.5.2/3: MAX_FRAME_SIZE below 2^14", setting(5, (1 << 14) - 1), PROTOCOL),
        ("9113 6.5.2", "http2 6.5.2/4: MAX_FRAME_SIZE of 2^24", setting(5, 1 << 24), PROTOCOL),
        ("9113 6.5.2", "http2 6.5.2/5: an unknown setting", setting(0xff, 1), Fine),
        ("9113 6.5.3", "http2 6.5.3/2: SETTINGS", setting(2, 0), Fine),
        ("9113 6.7", "http2 6.7/1: PING", frame(kind::PING, 0, 0, b"h2spec--"), Fine),
        ("9113 6.7", "http2 6.7/2: the answer to a PING", frame(kind::PING, flag::ACK, 0, b"invalid!"), Fine),
        ("9113 6.7", "http2 6.7/3: PING of a stream", frame(kind::PING, 0, 1, [0; 8]), PROTOCOL),
        ("9113 6.7", "http2 6.7/4: PING of 6 bytes", frame(kind::PING, 0, 0, [0; 6]), SIZE),
        ("9113 6.8", "http2 6.8/1: GOAWAY of a stream", frame(kind::GOAWAY, 0, 1, [0; 8]), PROTOCOL),
        ("9113 6.9", "http2 6.9/1: an increment of 0", window(0, 0), PROTOCOL),
        (
            "9113 6.9",
            "http2 6.9/2: an increment of 0 of a stream",
            all(&[&post(&[]), &window(1, 0)]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("9113 6.9", "http2 6.9/3: WINDOW_UPDATE of 3 bytes", frame(kind::WINDOW_UPDATE, 0, 0, [0; 3]), SIZE),
        (
            "9113 6.9.1",
            "http2 6.9.1/2: a window above 2^31-1",
            all(&[&window(0, u32::MAX >> 1), &window(0, u32::MAX >> 1)]),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "9113 6.9.1",
            "http2 6.9.1/3: a stream's window above 2^31-1",
            all(&[&post(&[]), &window(1, u32::MAX >> 1), &window(1, u32::MAX >> 1)]),
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        (
            "9113 6.9.2",
            "http2 6.9.2/3: an initial window above 2^31-1",
            setting(4, 1 << 31),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        ("9113 6.10", "http2 6.10/1: several CONTINUATION", pieces(3), Status(200)),
        ("9113 6.10", "http2 6.10/2: DATA for a CONTINUATION", all(&[&open(), &data(flag::END_STREAM, "x")]), PROTOCOL),
        ("9113 6.10", "http2 6.10/3: CONTINUATION of stream 0", all(&[&open(), &continuation(0, 4, b"")]), PROTOCOL),
        (
            "9113 6.10",
            "http2 6.10/4: CONTINUATION behind END_HEADERS",
            all(&[&post(&[]), &continuation(1, 4, b"")]),
            PROTOCOL,
        ),
        (
            "9113 6.10",
            "http2 6.10/5: CONTINUATION behind the last one",
            all(&[&open(), &continuation(1, 4, b""), &continuation(1, 4, b"")]),
            PROTOCOL,
        ),
        (
            "9113 6.10",
            "http2 6.10/6: CONTINUATION behind DATA",
            all(&[&post(&[]), &data(0, "x"), &continuation(1, 4, b"")]),
            PROTOCOL,
        ),
    ]);
}

#[test]
fn http2_6_windows() {
    let api = Instance::named("abcdef");
    let proxy = proxy(&api);
    // Section, settings before the request, what follows it, and the first DATA of the answer.
    let cases: [(&str, Vec<u8>, Vec<u8>, usize); 4] = [
        ("http2 6.5.3/1: the last of several windows", settings(&[(4, 100), (4, 1)]), vec![], 1),
        ("http2 6.9.1/1: a window of 1", settings(&[(4, 1)]), vec![], 1),
        ("http2 6.9.2/1: a window that grows later", settings(&[(4, 0)]), settings(&[(4, 1)]), 1),
        (
            "http2 6.9.2/2: a window that was negative",
            settings(&[(4, 3)]),
            all(&[&settings(&[(4, 2)]), &window(1, 2)]),
            1,
        ),
    ];
    for (name, before, behind, length) in cases {
        let mut frames = connect(&proxy);
        send(&mut frames, &before);
        send(&mut frames, &get(&[]));
        let with_data = |frame: &Frame| frame.kind == kind::DATA;
        if name.contains("negative") {
            // Three bytes come; then the window is one byte less than none, and two more make it one.
            assert_eq!(find(&mut frames, with_data).unwrap().unwrap().payload.len(), 3, "{name}");
        }
        send(&mut frames, &behind);
        assert_eq!(find(&mut frames, with_data).unwrap().unwrap().payload.len(), length, "RFC 9113 6.9: {name}");
    }
}

#[test]
fn http2_7_and_8_errors_and_messages() {
    const CONNECTION_FIELD: &[(&str, &str)] = &[("connection", "keep-alive")];
    let unknown_goaway = frame(kind::GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xff]);
    let unknown_reset = frame(kind::RST_STREAM, 0, 1, [0, 0, 0, 0xff]);
    let pseudo_trailers = frame(kind::HEADERS, END, 1, block(&[(":method", "200")]));
    let late_pseudo = frame(kind::HEADERS, END, 1, block(&[&FIELDS[..3], &[("x", "1"), (":authority", "a")]].concat()));
    let again = |name: &'static str, value: &'static str| get(&[(name, value)]);
    let push = frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, [&[0, 0, 0, 3], &block(FIELDS)[..]].concat());
    check(vec![
        ("9113 7", "http2 7/1: GOAWAY with an unknown code", all(&[&get(&[]), &unknown_goaway]), Anything),
        ("9113 7", "http2 7/2: RST_STREAM with an unknown code", all(&[&post(&[]), &unknown_reset]), Fine),
        ("9113 8.1", "http2 8.1/1: a second HEADERS that does not end", all(&[&post(&[]), &post(&[])]), Malformed),
        ("9113 8.2.1", "http2 8.1.2/1: an upper-case name", get(&[("X-TEST", "ok")]), Malformed),
        ("9113 8.3", "http2 8.1.2.1/1: an unknown pseudo-header", get(&[(":test", "ok")]), Malformed),
        ("9113 8.3", "http2 8.1.2.1/2: one of responses", get(&[(":status", "200")]), Malformed),
        // The `h2` crate takes it off.
        ("9113 8.3", "http2 8.1.2.1/3: one in trailers", all(&[&post(&[]), &data(0, "x"), &pseudo_trailers]), Anything),
        ("9113 8.3", "http2 8.1.2.1/4: one behind a field", late_pseudo, Malformed),
        ("9113 8.2.2", "http2 8.1.2.2/1: a field of one connection", get(CONNECTION_FIELD), Malformed),
        ("9113 8.2.2", "http2 8.1.2.2/2: TE without trailers", get(&[("te", "trailers, deflate")]), Malformed),
        (
            "9113 8.3.1",
            "http2 8.1.2.3/1: an empty path",
            frame(kind::HEADERS, END, 1, block(&[FIELDS[0], FIELDS[1], (":path", ""), FIELDS[3]])),
            Malformed,
        ),
        ("9113 8.3.1", "http2 8.1.2.3/2: no method", with(":method", "", &[]), Malformed),
        ("9113 8.3.1", "http2 8.1.2.3/3: no scheme", with(":scheme", "", &[]), Malformed),
        ("9113 8.3.1", "http2 8.1.2.3/4: no path", with(":path", "", &[]), Malformed),
        ("9113 8.3.1", "http2 8.1.2.3/5: two methods", again(":method", "GET"), Malformed),
        ("9113 8.3.1", "http2 8.1.2.3/6: two schemes", again(":scheme", "http"), Malformed),
        ("9113 8.3.1", "http2 8.1.2.3/7: two paths", again(":path", "/"), Malformed),
        (
            "9113 8.1.1",
            "http2 8.1.2.6/1: a length that DATA contradicts",
            all(&[&post(&[("content-length", "1")]), &data(1, "test")]),
            Malformed,
        ),
        (
            "9113 8.1.1",
            "http2 8.1.2.6/2: a length that several DATA contradict",
            all(&[&post(&[("content-length", "1")]), &data(0, "test"), &data(1, "test")]),
            Malformed,
        ),
        ("9113 8.4", "http2 8.2/1: PUSH_PROMISE", all(&[&post(&[]), &push]), Connection(&[PROTOCOL_ERROR])),
    ]);
}

#[test]
fn hpack() {
    const COMPRESSION: Is = Connection(&[COMPRESSION_ERROR]);
    let too_large = behind_bytes(&[0x3f, 0xe1, 0xff, 0x03]);
    check(vec![
        ("7541 2.3.3", "hpack 2.3.3/1: an index beyond the tables", with_bytes(&[0xc6]), COMPRESSION),
        ("7541 2.3.3", "hpack 2.3.3/2: a name beyond the tables", with_bytes(b"\x7f\x07\x01x"), COMPRESSION),
        ("7541 4.2", "hpack 4.2/1: a table size at the end", with_bytes(&[0x21]), COMPRESSION),
        ("7541 5.2", "hpack 5.2/1: padding of more than 7 bits", with_bytes(b"\x00\x01x\x82\x1f\xff"), COMPRESSION),
        ("7541 5.2", "hpack 5.2/2: padding of zeros", with_bytes(b"\x00\x01x\x81\x18"), COMPRESSION),
        (
            "7541 5.2",
            "hpack 5.2/3: the end of a string in it",
            with_bytes(b"\x00\x01x\x84\xff\xff\xff\xff"),
            COMPRESSION,
        ),
        ("7541 6.1", "hpack 6.1/1: index 0", with_bytes(&[0x80]), COMPRESSION),
        ("7541 6.3", "hpack 6.3/1: a table size above the limit", too_large, COMPRESSION),
    ]);
}
