//! Fast path and scanner accept the same heads, and cuts change nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

type Outcome = Result<Option<Head>, HeadError>;

/// Parses as the connection does: on the fast path, or with the scanner where that does not take the head.
fn whole(input: &[u8], limits: &Limits, header_map: HeaderMap) -> Outcome {
    in_pieces(input, &[], limits, header_map)
}

/// Parses with the scanner only.
fn scanned(input: &[u8], limits: &Limits, header_map: HeaderMap) -> Outcome {
    let checked = HeadScan::default().advance(input, limits, header_map)?;
    Ok(checked.map(|checked| {
        let mut head = Head::new();
        head.fill(input, &checked);
        head
    }))
}

/// Parses with the input growing to each of the cuts, then to its end.
fn in_pieces(input: &[u8], cuts: &[usize], limits: &Limits, header_map: HeaderMap) -> Outcome {
    let (mut head, mut scan) = (Head::new(), HeadScan::default());
    for &end in cuts.iter().chain([&input.len()]) {
        match head.parse(&input[..end], &mut scan, limits, header_map)? {
            Parsed::Complete => return Ok(Some(head)),
            Parsed::Incomplete => {}
        }
    }
    Ok(None)
}

/// Reuses the [`Head`], as a worker does.
fn assert_all_ways_agree(input: &[u8], cuts: &[usize], limits: &Limits, header_map: HeaderMap) {
    let expected = scanned(input, limits, header_map);
    let fast = Head::new().parse_whole(input, limits, header_map);
    if fast.is_some() {
        assert!(matches!(expected, Ok(Some(_))), "the fast path takes what the scanner refuses");
    }
    assert_eq!(whole(input, limits, header_map), expected, "whole");
    let every: Vec<usize> = (0..input.len()).collect();
    assert_eq!(in_pieces(input, &every, limits, header_map), expected, "byte by byte");
    assert_eq!(in_pieces(input, cuts, limits, header_map), expected, "cut at {cuts:?}");
}

const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\n\r\nGET /next",
    b"\r\nPOST //x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    b"\r\n\r\nPUT http://u.example/p?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    b"OPTIONS * HTTP/1.0\r\nConnection: Keep-Alive, close\r\nX_Y: z\r\nEmpty:\r\nW:\t \r\n\r\n",
    b"GET https://h HTTP/1.2\r\nHost: h\r\nCookie: a=b; c=d\r\nConnection: close\r\nDate: x \r\n\r\n",
    b"HEAD /\\ HTTP/1.1\r\nhost:a\r\nContent-Length: 5, 5\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.0\r\n\r\n",
];

/// Pieces of which heads consist, and some that break them.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"_",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"#",
    b"?",
    b"/",
    b"\\",
    b"@",
    b"*",
    b",",
    b"GET",
    b"CONNECT",
    b"OPTIONS",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b" HTTP/1.1\r\n",
    b"http://",
    b"Host: b\r\n",
    b"Host",
    b"5",
    b"a",
    b"Content-Length: 5\r\n",
    b"Content_Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 200\r\n",
    b"Expect: 100-continue,\r\n",
    b"Content-Type: a\r\n",
    b" folded\r\n",
    b"X : y\r\n",
    b"[::1]",
    b"%zz",
    b"\r\n\n",
];

/// The default limits, small ones, or ones that a line of the input, or all of it, just meets or just exceeds.
#[derive(Clone, Debug)]
enum LimitsOf {
    Default,
    Small { request_line_bytes: usize, header_count: usize, field_bytes: usize, head_bytes: usize },
    Close { line: Index, request_line: usize, field: usize, head: usize },
}

impl LimitsOf {
    fn input(self, input: &[u8]) -> Limits {
        let (request_line_bytes, header_count, header_field_bytes, head_bytes) = match self {
            Self::Default => return Limits::default(),
            Self::Small { request_line_bytes, header_count, field_bytes, head_bytes } => {
                (request_line_bytes, header_count, field_bytes, head_bytes)
            }
            Self::Close { line, request_line, field, head } => {
                let lines: Vec<_> = input.split(|&byte| byte == b'\r').collect();
                let first = lines.iter().find(|line| line.len() > 1).map_or(0, |line| line.len());
                let line = lines[line.index(lines.len())].len();
                // Each line except the first still starts with the LF of the previous one.
                (
                    (first + request_line).saturating_sub(3),
                    100,
                    (line + field).saturating_sub(3),
                    (input.len() + head).saturating_sub(3),
                )
            }
        };
        Limits {
            request_line_bytes,
            header_count,
            header_field_bytes,
            head_bytes,
            ..Limits::default()
        }
    }
}

fn limits() -> impl Strategy<Value = LimitsOf> {
    let small = (0usize..50, 0usize..6, 0usize..40, 0usize..120).prop_map(
        |(request_line_bytes, header_count, field_bytes, head_bytes)| LimitsOf::Small {
            request_line_bytes,
            header_count,
            field_bytes,
            head_bytes,
        },
    );
    let close = (any::<Index>(), 0usize..5, 0usize..50, 0usize..50).prop_map(
        |(line, request_line, field, head)| LimitsOf::Close { line, request_line, field, head },
    );
    prop_oneof![Just(LimitsOf::Default), small, close]
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    prop_oneof![Just(HeaderMap::Drop), Just(HeaderMap::Refuse)]
}

/// One change of a head: a number of bytes at an index is replaced by a piece.
type Change = (Index, usize, &'static [u8]);

fn changed_head() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0usize..4, select(PIECES));
    (select(HEADS), vec(change, 0..4)).prop_map(|(head, changes): (_, Vec<Change>)| {
        let mut head = head.to_vec();
        for (index, count, piece) in changes {
            let at = index.index(head.len() + 1);
            let end = head.len().min(at + count);
            head.splice(at..end, piece.iter().copied());
        }
        head
    })
}

fn cuts(input: &[u8], indexes: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = indexes.iter().map(|index| index.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_head_gets_one_answer_however_it_comes(
        input in changed_head(), indexes in vec(any::<Index>(), 0..4),
        limits in limits(), header_map in header_map(),
    ) {
        let limits = limits.input(&input);
        assert_all_ways_agree(&input, &cuts(&input, &indexes), &limits, header_map);
    }

    #[test]
    fn pieces_of_heads_in_any_order_get_one_answer_however_they_come(
        pieces in vec(select(PIECES), 0..16), indexes in vec(any::<Index>(), 0..4),
        limits in limits(), header_map in header_map(),
    ) {
        let input = pieces.concat();
        let limits = limits.input(&input);
        assert_all_ways_agree(&input, &cuts(&input, &indexes), &limits, header_map);
    }

    #[test]
    fn arbitrary_bytes_get_one_answer_however_they_come(
        input in vec(any::<u8>(), 0..64), indexes in vec(any::<Index>(), 0..4),
    ) {
        let limits = Limits::default();
        assert_all_ways_agree(&input, &cuts(&input, &indexes), &limits, HeaderMap::Drop);
    }

    #[test]
    fn field_lines_with_any_bytes_get_one_answer_however_they_come(
        name in vec(any::<u8>(), 0..6), value in vec(any::<u8>(), 0..12), limits in limits(),
    ) {
        let input = [b"GET / HTTP/1.1\r\nHost: a\r\n", &name[..], b":", &value[..], b"\r\n\r\n"].concat();
        assert_all_ways_agree(&input, &[], &limits.input(&input), HeaderMap::Drop);
    }

    /// The fast path exists for speed only, and is useless if it sends common heads to the scanner.
    #[test]
    fn the_fast_path_takes_what_the_scanner_takes_except_rare_heads(
        input in changed_head(), limits in limits(), header_map in header_map(),
    ) {
        let limits = limits.input(&input);
        let fast = Head::new().parse_whole(&input, &limits, header_map).is_some();
        let good = matches!(scanned(&input, &limits, header_map), Ok(Some(_)));
        let is_rare = input.starts_with(b"\r\n") || {
            let line = input.split(|&byte| byte == b'\r').next().unwrap_or_default();
            !line.ends_with(b"HTTP/1.1") && !line.ends_with(b"HTTP/1.0")
        };
        prop_assert_eq!(fast, good && !is_rare);
    }
}

#[test]
fn every_listed_head_gets_one_answer_in_two_or_three_pieces() {
    let limits = Limits::default();
    for input in HEADS {
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let expected = scanned(input, &limits, HeaderMap::Drop);
                let cut = in_pieces(input, &[first, second], &limits, HeaderMap::Drop);
                assert_eq!(cut, expected, "{first} {second}");
            }
        }
    }
}
