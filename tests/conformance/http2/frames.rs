//! Frames beyond the public list: sizes, streams, windows, the end.

use super::*;

#[test]
fn frames_of_the_wrong_shape_end_the_connection() {
    const SIZE: Is = Connection(&[FRAME_SIZE_ERROR]);
    const PROTOCOL: Is = Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]);
    let after_post = |bytes: Vec<u8>| all(&[&post(&[]), &bytes]);
    check(vec![
        (
            "9113 6.1",
            "padded DATA without a length of padding",
            after_post(frame(kind::DATA, flag::PADDED, 1, [])),
            PROTOCOL,
        ),
        (
            "9113 6.1",
            "DATA of padding alone",
            after_post(frame(kind::DATA, flag::PADDED | 1, 1, [3, 0, 0, 0])),
            Status(200),
        ),
        (
            "9113 6.1",
            "padding as long as the frame",
            after_post(frame(kind::DATA, flag::PADDED, 1, [4, 0, 0, 0])),
            PROTOCOL,
        ),
        ("9113 6.2", "empty HEADERS with padding", frame(kind::HEADERS, END | flag::PADDED, 1, []), PROTOCOL),
        ("9113 6.2", "HEADERS with half a priority", frame(kind::HEADERS, END | flag::PRIORITY, 1, [0; 3]), PROTOCOL),
        (
            "9113 6.3",
            "PRIORITY of 6 bytes",
            after_post(frame(kind::PRIORITY, 0, 1, [0; 6])),
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        ("9113 6.4", "RST_STREAM of 5 bytes", after_post(frame(kind::RST_STREAM, 0, 1, [0; 5])), SIZE),
        ("9113 6.4", "an empty RST_STREAM", after_post(frame(kind::RST_STREAM, 0, 1, [])), SIZE),
        ("9113 6.5", "SETTINGS of 7 bytes", frame(kind::SETTINGS, 0, 0, [0; 7]), SIZE),
        ("9113 6.5", "ACK of one byte", frame(kind::SETTINGS, flag::ACK, 0, [0]), SIZE),
        ("9113 6.7", "PING of 7 bytes", frame(kind::PING, 0, 0, [0; 7]), SIZE),
        ("9113 6.7", "PING of 9 bytes", frame(kind::PING, 0, 0, [0; 9]), SIZE),
        ("9113 6.7", "an empty PING", frame(kind::PING, 0, 0, []), SIZE),
        ("9113 6.8", "GOAWAY of 7 bytes", frame(kind::GOAWAY, 0, 0, [0; 7]), SIZE),
        ("9113 6.9", "WINDOW_UPDATE of 5 bytes", frame(kind::WINDOW_UPDATE, 0, 0, [0; 5]), SIZE),
        ("9113 6.9", "an empty WINDOW_UPDATE", frame(kind::WINDOW_UPDATE, 0, 0, []), SIZE),
        ("9113 6.9", "the reserved bit of an increment", frame(kind::WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]), Fine),
        ("9113 6.10", "CONTINUATION first of all", frame(kind::CONTINUATION, 4, 1, []), PROTOCOL),
        (
            "9113 6.10",
            "PING within a block",
            all(&[&frame(kind::HEADERS, 1, 1, block(FIELDS)), &frame(kind::PING, 0, 0, [0; 8])]),
            PROTOCOL,
        ),
        (
            "9113 6.10",
            "SETTINGS within a block",
            all(&[&frame(kind::HEADERS, 1, 1, block(FIELDS)), &frame(kind::SETTINGS, 0, 0, [])]),
            PROTOCOL,
        ),
        (
            "9113 6.10",
            "CONTINUATION of another stream",
            all(&[&frame(kind::HEADERS, 1, 1, block(FIELDS)), &frame(kind::CONTINUATION, 4, 3, [])]),
            PROTOCOL,
        ),
        ("9113 8.4", "PUSH_PROMISE of a client", frame(kind::PUSH_PROMISE, 4, 1, [0, 0, 0, 2]), PROTOCOL),
        (
            "9113 5.5",
            "unknown frames of any stream",
            all(&[&frame(0x20, 0xff, 7, b"abc"), &frame(0xfe, 0, 0, [])]),
            Fine,
        ),
    ]);
}

#[test]
fn settings_and_windows_keep_their_bounds() {
    const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];
    let setting = |name, value| frame(kind::SETTINGS, 0, 0, parameters(&[(name, value)]));
    let window = |stream, increment: u32| frame(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes());
    let maximum = u32::MAX >> 1;
    check(vec![
        ("9113 6.5.2", "ENABLE_PUSH of 2^32-1", setting(2, u32::MAX), Connection(&[PROTOCOL_ERROR])),
        ("9113 6.5.2", "MAX_FRAME_SIZE of 0", setting(5, 0), Connection(&[PROTOCOL_ERROR])),
        ("9113 6.5.2", "MAX_FRAME_SIZE of 2^24-1", setting(5, (1 << 24) - 1), Fine),
        ("9113 6.5.2", "a window of 2^32-1", setting(4, u32::MAX), Connection(FLOW)),
        ("9113 6.5.2", "the largest window", setting(4, maximum), Fine),
        ("9113 6.5.2", "no streams from the server", setting(3, 0), Fine),
        ("9113 6.5.2", "a list of 0 bytes", setting(6, 0), Fine),
        ("9113 6.5", "no parameters", frame(kind::SETTINGS, 0, 0, []), Fine),
        ("9113 6.5.3", "one parameter twice", frame(kind::SETTINGS, 0, 0, parameters(&[(4, 10), (4, 65535)])), Fine),
        ("8441 3", "ENABLE_CONNECT_PROTOCOL of 2", setting(8, 2), Anything),
        (
            "9113 6.9.1",
            "the connection's window by one too large",
            all(&[&window(0, maximum - 65535), &window(0, 1)]),
            Connection(FLOW),
        ),
        ("9113 6.9.1", "the connection's window as large as can be", window(0, maximum - 65535), Fine),
        (
            "9113 6.9.1",
            "a stream's window by one too large",
            all(&[&post(&[]), &window(1, maximum - 65535), &window(1, 1)]),
            Stream(FLOW),
        ),
        (
            "9113 6.9.2",
            "an initial window that makes a stream's too large",
            all(&[&post(&[]), &window(1, 1), &setting(4, maximum)]),
            Stream(FLOW),
        ),
    ]);
}

#[test]
fn streams_keep_their_order() {
    let reset = |stream| frame(kind::RST_STREAM, 0, stream, [0, 0, 0, 8]);
    check(vec![
        (
            "9113 5.1.1",
            "a number twice",
            all(&[&headers(3, END, &[]), &headers(3, END, &[])]),
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        (
            "9113 5.1.1",
            "a lower number behind a reset",
            all(&[&headers(5, 4, &[]), &reset(5), &headers(3, END, &[])]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("9113 5.1.1", "numbers left out", all(&[&headers(1, END, &[]), &headers(99, END, &[])]), Status(200)),
        ("9113 5.1.1", "the highest number", all(&[&get(&[]), &headers(0x7fff_ffff, END, &[])]), Status(200)),
        (
            "9113 5.1",
            "DATA of a stream that a higher one skipped",
            all(&[&headers(5, END, &[]), &frame(kind::DATA, 1, 1, b"x")]),
            Stream(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        ("9113 5.1", "RST_STREAM of an even stream", reset(2), Connection(&[PROTOCOL_ERROR])),
        (
            "9113 5.1",
            "WINDOW_UPDATE behind RST_STREAM",
            all(&[&headers(1, 4, &[]), &reset(1), &frame(kind::WINDOW_UPDATE, 0, 1, [0, 0, 0, 1])]),
            Fine,
        ),
        ("9113 5.1", "RST_STREAM twice", all(&[&headers(1, 4, &[]), &reset(1), &reset(1)]), Fine),
        ("9113 8.1", "an empty DATA ends", all(&[&post(&[]), &data(1, "")]), Status(200)),
        (
            "9113 8.1",
            "DATA before HEADERS",
            all(&[&data(1, "x"), &get(&[])]),
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
    ]);
}

#[test]
fn answers_of_many_streams_keep_apart() {
    let api = Instance::named("a").serving(|exchange| {
        let path = exchange.head.word(1).to_owned();
        exchange.respond(200, "", path.as_bytes())
    });
    let proxy = proxy(&api);
    let mut frames = connect(&proxy);
    let path = |stream: u32| format!("/{stream}");
    for stream in (1..100).step_by(2) {
        let path = path(stream);
        let fields = [FIELDS[0], FIELDS[1], (":path", path.as_str()), FIELDS[3]];
        send(&mut frames, &frame(kind::HEADERS, END, stream, block(&fields)));
    }
    let mut bodies = std::collections::BTreeMap::<u32, Vec<u8>>::new();
    let mut ended = 0;
    while ended < 50 {
        let frame = frames.read().unwrap().expect("an answer");
        if frame.kind == kind::DATA {
            bodies.entry(frame.stream).or_default().extend(frame.payload);
        }
        if matches!(frame.kind, kind::DATA | kind::HEADERS) {
            ended += u32::from(frame.flags & flag::END_STREAM);
        }
    }
    for (stream, body) in bodies {
        assert_eq!(String::from_utf8_lossy(&body), path(stream), "RFC 9113 5");
    }
}
