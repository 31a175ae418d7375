use super::*;
use crate::settings::{ForwardedHeaders, HeaderMap, Limits};

/// Reads these field lines as sent by a trusted proxy, where 10.0.0.0/8, ::1 and unix sockets are trusted.
fn read_by(
    proxies: &str,
    headers: ForwardedHeaders,
    fields: &[&str],
) -> Result<Option<Box<Forwarded>>, ForwardedError> {
    let bytes = format!("GET / HTTP/1.1\r\nHost: own:8000\r\n{}\r\n\r\n", fields.join("\r\n"));
    let bytes = bytes.replace("\r\n\r\n\r\n", "\r\n\r\n");
    let head = Head::of(bytes.as_bytes(), &Limits::DEFAULT, HeaderMap::Drop).unwrap().unwrap();
    let proxies = proxies.split(',').map(|peer| peer.parse().unwrap()).collect();
    read(&head, bytes.as_bytes(), &Forwarding { proxies, headers })
}

fn read_fields(fields: &[&str]) -> Result<Option<Box<Forwarded>>, ForwardedError> {
    read_by("10.0.0.0/8,::1,unix", ForwardedHeaders::ALL, fields)
}

/// What is stated, in the order client, scheme, host, port, prefix; `-` for what is not.
fn stated(fields: &[&str]) -> String {
    shown(read_fields(fields))
}

fn shown(outcome: Result<Option<Box<Forwarded>>, ForwardedError>) -> String {
    let Forwarded { client, scheme, host, port, prefix } = match outcome {
        Err(error) => return error.to_string(),
        Ok(None) => return "nothing".to_owned(),
        Ok(Some(stated)) => *stated,
    };
    let text = |bytes: Option<Box<[u8]>>| bytes.map(|it| String::from_utf8_lossy(&it).into_owned());
    let client = client.map(|ForwardedClient { ip, port }| match port {
        Some(port) => format!("{ip} {port}"),
        None => ip.to_string(),
    });
    let scheme = scheme.map(|scheme| format!("{scheme:?}").to_lowercase());
    let all = [client, scheme, text(host), port.map(|port| port.to_string()), text(prefix)];
    all.map(|part| part.unwrap_or_else(|| "-".to_owned())).join(", ")
}

/// The client that X-Forwarded-For of these values names.
fn client(values: &[&str]) -> String {
    let fields: Vec<_> = values.iter().map(|value| format!("X-Forwarded-For: {value}")).collect();
    let text = stated(&fields.iter().map(String::as_str).collect::<Vec<_>>());
    text.strip_suffix(", -, -, -, -").unwrap_or(&text).to_owned()
}

const BAD_FOR: &str = "X-Forwarded-For contains something that is not an address";
const BAD_FORWARDED: &str = "Forwarded is malformed";

#[test]
fn a_request_without_these_headers_states_nothing() {
    assert_eq!(stated(&[]), "nothing");
    assert_eq!(
        stated(&["X-Forwarded-For:", "Forwarded: ,", "X-Forwarded-Proto: ", "X-Real-IP: 1.2.3.4"]),
        "nothing"
    );
}

#[test]
fn the_rightmost_address_that_is_no_proxy_is_the_client() {
    assert_eq!(client(&["192.0.2.1"]), "192.0.2.1");
    assert_eq!(client(&["198.51.100.9, 192.0.2.1"]), "192.0.2.1");
    assert_eq!(client(&["198.51.100.9, 192.0.2.1, 10.0.0.2,10.0.0.3"]), "192.0.2.1");
    assert_eq!(client(&["198.51.100.9", "192.0.2.1", "10.0.0.2"]), "192.0.2.1");
    assert_eq!(client(&["198.51.100.9, 192.0.2.1", ",, 10.0.0.2 ,"]), "192.0.2.1");
}

#[test]
fn if_all_are_proxies_the_leftmost_one_is_the_client() {
    assert_eq!(client(&["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    assert_eq!(
        shown(read_by("*", ForwardedHeaders::ALL, &["X-Forwarded-For: 192.0.2.1, 192.0.2.2"])),
        "192.0.2.1, -, -, -, -"
    );
}

#[test]
fn addresses_are_read_in_every_notation_that_proxies_use() {
    assert_eq!(client(&["192.0.2.1:4711"]), "192.0.2.1 4711");
    assert_eq!(client(&["192.0.2.1:0"]), "192.0.2.1");
    assert_eq!(client(&["2001:db8::1"]), "2001:db8::1");
    assert_eq!(client(&["[2001:db8::1]"]), "2001:db8::1");
    assert_eq!(client(&["[2001:db8::1]:4711"]), "2001:db8::1 4711");
    assert_eq!(client(&["::ffff:10.0.0.1"]), "::ffff:10.0.0.1");
    assert_eq!(client(&["192.0.2.1, ::ffff:10.0.0.1"]), "192.0.2.1");
}

#[test]
fn a_hidden_client_is_represented_by_the_proxy_that_hides_it() {
    assert_eq!(client(&["192.0.2.1, unknown, 10.0.0.2"]), "10.0.0.2");
    assert_eq!(client(&["192.0.2.1, _secret"]), "nothing");
    assert_eq!(client(&["192.0.2.1, unix:, 10.0.0.2"]), "192.0.2.1");
    let fields = ["X-Forwarded-For: 192.0.2.1, unix:, 10.0.0.2"];
    assert_eq!(shown(read_by("10.0.0.2", ForwardedHeaders::ALL, &fields)), "10.0.0.2, -, -, -, -");
}

#[test]
fn a_malformed_entry_is_refused_if_the_walk_reaches_it() {
    for wrong in [
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:x",
        "01.2.3.4",
        "1.2.3.4:80:80",
        "[::1",
        "::1]",
        "[]",
        "[1.2.3.4]",
        "[::1]x",
        "fe80::1%eth0",
        "\"1.2.3.4\"",
        "1.2.3.4 5.6.7.8",
        "_",
        "_a b",
        "unix:/run/x",
        "for=1.2.3.4",
        "1.2.3.4;",
        "\u{e4}",
    ] {
        assert_eq!(client(&[wrong]), BAD_FOR, "{wrong:?}");
        assert_eq!(client(&[&format!("{wrong}, 10.0.0.1")]), BAD_FOR, "{wrong:?}");
        assert_eq!(client(&[&format!("{wrong}, 192.0.2.1")]), "192.0.2.1", "{wrong:?}");
    }
}

#[test]
fn scheme_host_port_and_prefix_are_read() {
    let fields = [
        "X-Forwarded-Proto: HTTPS",
        "X-Forwarded-Host: Shop.example:8443",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /shop/",
    ];
    assert_eq!(stated(&fields), "-, https, Shop.example:8443, 443, /shop");
    assert_eq!(stated(&["X-Forwarded-Prefix: /"]), "-, -, -, -, ");
}

#[test]
fn the_port_follows_from_scheme_and_host_if_it_is_not_stated() {
    assert_eq!(stated(&["X-Forwarded-Proto: https", "X-Forwarded-Host: a"]), "-, https, a, 443, -");
    assert_eq!(stated(&["X-Forwarded-Host: a:81"]), "-, -, a:81, 81, -");
    assert_eq!(stated(&["X-Forwarded-Host: [::1]:82"]), "-, -, [::1]:82, 82, -");
    assert_eq!(stated(&["X-Forwarded-Host: [::1]"]), "-, -, [::1], -, -");
    // The request's own Host is `own:8000`.
    assert_eq!(stated(&["X-Forwarded-Proto: http"]), "-, http, -, 8000, -");
}

#[test]
fn malformed_values_are_refused() {
    let wrong = [
        ("Proto", "ftp", "is neither http nor https"),
        ("Proto", "https:", "is neither http nor https"),
        ("Host", "a b", "is malformed"),
        ("Host", "http://a", "is malformed"),
        ("Host", "a:65536", "is malformed"),
        ("Port", "0", "is not a number from 1 to 65535"),
        ("Port", "65536", "is not a number from 1 to 65535"),
        ("Port", "+80", "is not a number from 1 to 65535"),
        ("Port", "000080", "is not a number from 1 to 65535"),
        ("Prefix", "shop", "is not a path"),
        ("Prefix", "//evil.example", "is not a path"),
        ("Prefix", "/a//", "is not a path"),
        ("Prefix", "/a/../b", "is not a path"),
        ("Prefix", "/a?b", "is not a path"),
        ("Prefix", "/a%2fb", "is not a path"),
        ("Prefix", "/\\evil", "is not a path"),
        ("Prefix", "/a b", "is not a path"),
    ];
    for (header, value, reason) in wrong {
        let field = format!("X-Forwarded-{header}: {value}");
        assert_eq!(stated(&[&field]), format!("X-Forwarded-{header} {reason}"), "{value:?}");
    }
}

#[test]
fn a_header_that_is_not_written_by_hop_may_not_have_different_values() {
    for (header, a, b) in
        [("Proto", "https", "http"), ("Host", "a", "b"), ("Port", "1", "2"), ("Prefix", "/a", "/b")]
    {
        let (one, two) =
            (format!("X-Forwarded-{header}: {a}"), format!("X-Forwarded-{header}: {b}"));
        let both = format!("{one}, {b}");
        let refused = format!("X-Forwarded-{header} has different values");
        assert_eq!(stated(&[&one, &two]), refused);
        assert_eq!(stated(&[&both]), refused);
        assert_eq!(stated(&[&one, &one]), stated(&[&one]));
    }
    assert_eq!(stated(&["X-Forwarded-Proto: https,HTTPS"]), "-, https, -, 8000, -");
}

#[test]
fn forwarded_is_read_from_the_right() {
    assert_eq!(stated(&["Forwarded: for=192.0.2.1"]), "192.0.2.1, -, -, -, -");
    let chain = "Forwarded: for=198.51.100.1;proto=http;host=evil, \
                 For=192.0.2.1; Proto=https;HOST=\"shop:8443\";by=\"_x\" , for=10.0.0.9;proto=http";
    assert_eq!(stated(&[chain]), "192.0.2.1, https, shop:8443, 8443, -");
    let lines = [
        "Forwarded: for=\"",
        "Forwarded: for=192.0.2.1;host=a",
        "Forwarded: for=10.0.0.9;proto=https;host=b",
    ];
    assert_eq!(stated(&lines), "192.0.2.1, https, a, 443, -");
}

#[test]
fn forwarded_addresses_with_a_port_or_of_ipv6_are_quoted() {
    assert_eq!(stated(&["Forwarded: for=\"[2001:db8::1]:4711\""]), "2001:db8::1 4711, -, -, -, -");
    assert_eq!(stated(&["Forwarded: for=\"192.0.2.1:4711\""]), "192.0.2.1 4711, -, -, -, -");
    assert_eq!(stated(&["Forwarded: for=\"192.0.2.1:_http\""]), "192.0.2.1, -, -, -, -");
    assert_eq!(stated(&["Forwarded: for=\"1\\92.0.2.\\1\""]), "192.0.2.1, -, -, -, -");
    for wrong in ["192.0.2.1:4711", "[::1]", "\"::1\"", "\"unix:\"", "\"\"", "\"192.0.2.1 \""] {
        assert_eq!(stated(&[&format!("Forwarded: for={wrong}")]), BAD_FORWARDED, "{wrong:?}");
    }
}

#[test]
fn an_element_without_a_known_sender_ends_the_walk() {
    let last = "for=198.51.100.1;proto=http;host=evil";
    assert_eq!(stated(&[&format!("Forwarded: {last}, proto=https")]), "-, https, -, 8000, -");
    assert_eq!(stated(&[&format!("Forwarded: {last}, for=_gate;host=a")]), "-, -, a, -, -");
    assert_eq!(
        stated(&[&format!("Forwarded: {last}, for=unknown, for=10.0.0.1")]),
        "10.0.0.1, -, -, -, -"
    );
}

#[test]
fn malformed_lines_of_forwarded_are_refused_if_the_walk_reaches_them() {
    for wrong in [
        "for",
        "for=",
        "=a",
        "for =a",
        "for= a",
        "for=a b",
        "for=\"a",
        "for=\"a\\",
        "for=\"a\"b",
        "for=1.2.3.4:5",
        "for=1.2.3.4;for=1.2.3.4",
        "for=1.2.3.4;For=5.6.7.8",
        "proto=https;proto=https",
        "host=a;host=a",
        "by=a;by=b",
        "for=1.2.3.4 proto=https",
        "a/b=c",
        "for=(a)",
        "proto=ftp",
        "proto=\"\"",
        "host=\"a b\"",
        "host=\"\"",
        "for=1.2.3.4;host=",
        "secret",
        "for=1.2.3.4;;x",
        "1.2.3.4",
    ] {
        assert_eq!(stated(&[&format!("Forwarded: {wrong}")]), BAD_FORWARDED, "{wrong:?}");
        let before = [format!("Forwarded: {wrong}"), "Forwarded: for=192.0.2.1".to_owned()];
        assert_eq!(stated(&[&before[0], &before[1]]), "192.0.2.1, -, -, -, -", "{wrong:?}");
    }
}

#[test]
fn unknown_parameters_and_empty_elements_are_ignored() {
    let line = "Forwarded: ,for=192.0.2.1;secret=\"a,b;c=\\\"\";x=y;; , ,";
    assert_eq!(stated(&[line]), "192.0.2.1, -, -, -, -");
}

#[test]
fn both_families_are_believed_if_they_agree() {
    let fields = [
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=\"192.0.2.1:7\";proto=https",
        "X-Forwarded-Host: a",
    ];
    assert_eq!(stated(&fields), "192.0.2.1 7, https, a, 443, -");
    let hosts = ["X-Forwarded-Host: A", "Forwarded: host=a", "X-Forwarded-Proto: http"];
    assert_eq!(stated(&hosts), "-, http, A, 80, -");
}

#[test]
fn families_that_contradict_each_other_are_refused() {
    for (forwarded, other, value) in [
        ("for=192.0.2.2", "For", "192.0.2.1"),
        ("for=\"192.0.2.1:1\"", "For", "192.0.2.1:2"),
        ("for=10.0.0.1", "For", "192.0.2.1, 10.0.0.1"),
        ("proto=http", "Proto", "https"),
        ("host=a", "Host", "b"),
        ("host=a", "Host", "a:80"),
    ] {
        let fields = [format!("Forwarded: {forwarded}"), format!("X-Forwarded-{other}: {value}")];
        let refused = format!("Forwarded and X-Forwarded-{other} contradict each other");
        assert_eq!(stated(&[&fields[0], &fields[1]]), refused, "{fields:?}");
    }
}

#[test]
fn a_client_that_one_family_hides_is_not_named_by_the_other() {
    let refused = "Forwarded and X-Forwarded-For contradict each other";
    for (list, forwarded) in [
        ("unknown", "for=192.0.2.66"),
        ("_hidden", "for=10.0.0.1"),
        ("192.0.2.66", "for=_hidden"),
        ("192.0.2.66", "for=unknown"),
        ("192.0.2.66, 10.0.0.1", "for=_hidden, for=10.0.0.1"),
    ] {
        let fields = [format!("X-Forwarded-For: {list}"), format!("Forwarded: {forwarded}")];
        assert_eq!(stated(&[&fields[0], &fields[1]]), refused, "{fields:?}");
    }
    let unix = ["X-Forwarded-For: unix:", "Forwarded: for=192.0.2.66"];
    assert_eq!(shown(read_by("10.0.0.1", ForwardedHeaders::ALL, &unix)), refused);
    for (list, forwarded, agreed) in [
        ("unknown", "for=_hidden;host=a", "-, -, a, -, -"),
        ("192.0.2.1", "host=a", "192.0.2.1, -, a, -, -"),
        ("unknown", "host=a", "-, -, a, -, -"),
        ("unknown, 10.0.0.1", "for=_hidden, for=10.0.0.1", "10.0.0.1, -, -, -, -"),
    ] {
        let fields = [format!("X-Forwarded-For: {list}"), format!("Forwarded: {forwarded}")];
        assert_eq!(stated(&[&fields[0], &fields[1]]), agreed, "{fields:?}");
    }
}

#[test]
fn a_header_that_the_proxies_do_not_set_is_ignored() {
    let only: ForwardedHeaders =
        [ForwardedHeader::XForwardedFor, ForwardedHeader::XForwardedProto].into_iter().collect();
    let fields = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Prefix: wrong",
        "Forwarded: for=192.0.2.66;host=\"",
    ];
    assert_eq!(shown(read_by("10.0.0.1", only, &fields)), "192.0.2.1, -, -, -, -");
}

#[test]
fn names_are_recognized_in_any_case_and_in_full() {
    for header in ForwardedHeader::ALL {
        let upper = header.lower().to_uppercase();
        assert_eq!(lines::header_of(upper.as_bytes()), Some(header));
        for at in 0..upper.len() {
            let mut other = upper.clone().into_bytes();
            other[at] = b'Z';
            assert_eq!(lines::header_of(&other), None);
        }
    }
    assert_eq!(lines::header_of(b""), None);
}
