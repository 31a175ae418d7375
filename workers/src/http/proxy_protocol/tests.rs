use proptest::prelude::*;

use super::*;

const AUTO: ProxyVersion = ProxyVersion::Auto;

/// A header of version 2 with this command, family and block.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE_V2, &[command, family], &length, block].concat()
}

fn inet(address: &str) -> SocketName {
    SocketName::Inet(address.parse().unwrap())
}

fn complete(input: &[u8]) -> (usize, Option<(SocketName, SocketName)>) {
    match parse(input, AUTO).unwrap() {
        ParsedProxy::Incomplete => panic!("incomplete"),
        ParsedProxy::Complete { len, addresses } => {
            (len, addresses.map(|ends| (ends.source, ends.destination)))
        }
    }
}

const V4_BLOCK: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0x01, 0xbb];

#[test]
fn a_line_names_both_ends() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\nGET / HTTP/1.1\r\n";
    let ends = (inet("192.0.2.1:4711"), inet("198.51.100.2:443"));
    assert_eq!(complete(line), (44, Some(ends)));
    let line = b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n";
    assert_eq!(complete(line), (36, Some((inet("[2001:db8::1]:65535"), inet("[::1]:0")))));
}

#[test]
fn an_unknown_line_says_nothing() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:: 1.2.3.4 what ever \x01\r\n"] {
        assert_eq!(complete(line.as_bytes()), (line.len(), None));
    }
}

#[test]
fn a_malformed_line_is_refused() {
    for rest in [
        "",
        "TCP4",
        "TCP4 1.2.3.4",
        "TCP4 1.2.3.4 1.2.3.4 1",
        "TCP4 1.2.3.4 1.2.3.4 1 2 3",
        "TCP4  1.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3.4 1.2.3.4 1 2 ",
        "TCP4 ::1 ::1 1 2",
        "TCP6 1.2.3.4 1.2.3.4 1 2",
        "TCP4 01.2.3.4 1.2.3.4 1 2",
        "TCP4 1.2.3.4 1.2.3.4 65536 2",
        "TCP4 1.2.3.4 1.2.3.4 +1 2",
        "TCP4 1.2.3.4 1.2.3.4 01 2",
        "TCP4 1.2.3.4 1.2.3.4 1 ",
        "tcp4 1.2.3.4 1.2.3.4 1 2",
        "UDP4 1.2.3.4 1.2.3.4 1 2",
        "UNKNOWNX",
        "TCP4 1.2.3 1.2.3.4 1 2",
        " TCP4 1.2.3.4 1.2.3.4 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 fe80::1%1 ::1 1 2",
    ] {
        let line = format!("PROXY {rest}\r\n");
        assert_eq!(parse(line.as_bytes(), AUTO), Err(ProxyError::BadLine), "{rest:?}");
    }
    assert_eq!(parse(b"PROXY UNKNOWN\n", AUTO), Err(ProxyError::BadLine));
    assert_eq!(parse(b"PROXY UNKNOWN\r\r\n", AUTO), Err(ProxyError::BadLine));
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16)).into_bytes();
    assert_eq!(complete(&line(107)), (107, None));
    assert_eq!(parse(&line(108), AUTO), Err(ProxyError::BadLine));
    assert_eq!(parse(&line(107)[..106], AUTO), Ok(ParsedProxy::Incomplete));
    assert_eq!(parse(&line(1000)[..107], AUTO), Err(ProxyError::BadLine));
}

#[test]
fn a_binary_header_names_both_ends() {
    let ends = Some((inet("192.0.2.1:4711"), inet("198.51.100.2:443")));
    assert_eq!(complete(&binary(0x21, 0x11, &V4_BLOCK)), (28, ends.clone()));
    let with_tlvs = [&V4_BLOCK[..], &[0x20, 0xff, 0xff, 1, 2, 3]].concat();
    let input = [binary(0x21, 0x11, &with_tlvs), b"GET /".to_vec()].concat();
    assert_eq!(complete(&input), (34, ends));
    let mut block = [0; 36];
    (block[15], block[31], block[33], block[35]) = (1, 2, 80, 81);
    assert_eq!(
        complete(&binary(0x21, 0x21, &block)),
        (52, Some((inet("[::1]:80"), inet("[::2]:81"))))
    );
}

#[test]
fn a_binary_header_can_name_unix_sockets() {
    let mut block = [0; 216];
    block[..4].copy_from_slice(b"/a/b");
    block[108..112].copy_from_slice(b"\0cde");
    let ends = (SocketName::Unix("/a/b".to_owned()), SocketName::Unix("@cde".to_owned()));
    assert_eq!(complete(&binary(0x21, 0x31, &block)), (232, Some(ends)));
    let unnamed = SocketName::Unix(String::new());
    assert_eq!(complete(&binary(0x21, 0x31, &[0; 216])), (232, Some((unnamed.clone(), unnamed))));
    let long = SocketName::Unix("x".repeat(108));
    assert_eq!(complete(&binary(0x21, 0x31, &[b'x'; 216])), (232, Some((long.clone(), long))));
}

#[test]
fn a_header_without_usable_addresses_keeps_those_of_the_connection() {
    for (command, family) in [
        (0x20, 0x00),
        (0x20, 0x11),
        (0x20, 0xf3),
        (0x21, 0x00),
        (0x21, 0x12),
        (0x21, 0x22),
        (0x21, 0x32),
        (0x21, 0x10),
        (0x21, 0x01),
    ] {
        assert_eq!(complete(&binary(command, family, &[])), (16, None), "{command:#x} {family:#x}");
        assert_eq!(
            complete(&binary(command, family, &[7; 9])),
            (25, None),
            "{command:#x} {family:#x}"
        );
    }
}

#[test]
fn a_malformed_binary_header_is_refused() {
    for (command, family) in [
        (0x22, 0x11),
        (0x2f, 0x11),
        (0x11, 0x11),
        (0x31, 0x11),
        (0x21, 0x41),
        (0x21, 0x13),
        (0x21, 0xf0),
    ] {
        let input = binary(command, family, &V4_BLOCK);
        assert_eq!(parse(&input, AUTO), Err(ProxyError::BadHeader), "{command:#x} {family:#x}");
    }
    for (family, bytes) in [(0x11, 11), (0x21, 35), (0x31, 215), (0x11, 0)] {
        assert_eq!(parse(&binary(0x21, family, &vec![0; bytes]), AUTO), Err(ProxyError::BadHeader));
    }
}

#[test]
fn a_binary_header_has_a_maximum_length() {
    let longest = MAX_BYTES - FIXED_BYTES;
    assert_eq!(complete(&binary(0x21, 0x11, &vec![0; longest])).0, MAX_BYTES);
    let input = binary(0x21, 0x11, &vec![0; longest + 1]);
    assert_eq!(parse(&input, AUTO), Err(ProxyError::TooLong));
    assert_eq!(parse(&input[..FIXED_BYTES], AUTO), Err(ProxyError::TooLong));
    assert_eq!(parse(&input[..FIXED_BYTES - 1], AUTO), Ok(ParsedProxy::Incomplete));
}

#[test]
fn anything_else_is_refused_at_the_first_byte_that_differs() {
    for input in [
        "G",
        "GET / HTTP/1.1",
        "POST",
        "PUT /",
        "PROXI",
        "PROXY\t",
        "proxy ",
        "\r\n\r\nX",
        "\n",
        "\x16\x03\x01",
    ] {
        assert_eq!(parse(input.as_bytes(), AUTO), Err(ProxyError::Missing), "{input:?}");
    }
}

#[test]
fn only_the_configured_version_is_accepted() {
    let (one, two) = (&b"PROXY UNKNOWN\r\n"[..], binary(0x20, 0, &[]));
    assert!(parse(one, ProxyVersion::V1).is_ok() && parse(&two, ProxyVersion::V2).is_ok());
    assert_eq!(parse(one, ProxyVersion::V2), Err(ProxyError::OtherVersion));
    assert_eq!(parse(&two, ProxyVersion::V1), Err(ProxyError::OtherVersion));
}

/// Headers of both versions, good and bad.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let line = "PROXY (TCP4|TCP6|UNKNOWN|X)( 1\\.2\\.3\\.4| ::1| 70000| 80|  ){0,5}\r?\n[a-z]{0,4}";
    let block = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        line.prop_map(String::into_bytes),
        (0x1f..0x23_u8, any::<u8>(), block)
            .prop_map(|(command, family, block)| binary(command, family, &block)),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_where_the_input_was_cut(input in headers()) {
        let whole = if input.is_empty() { Ok(ParsedProxy::Incomplete) } else { parse(&input, AUTO) };
        let mut first = Ok(ParsedProxy::Incomplete);
        for end in 1..=input.len() {
            first = parse(&input[..end], AUTO);
            if first != Ok(ParsedProxy::Incomplete) {
                break;
            }
        }
        prop_assert_eq!(&first, &whole);
        if let Ok(ParsedProxy::Complete { len, .. }) = whole {
            prop_assert!(len <= input.len());
        }
    }
}
