use super::*;

fn parse(text: &str) -> AccessFormat {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    text.parse::<AccessFormat>().unwrap_err().to_string()
}

fn pieces(text: &str) -> Vec<Piece> {
    let AccessFormat::Line(line) = parse(text) else { panic!("{text} is no line") };
    line.pieces
}

fn plain(atom: Atom) -> Piece {
    Piece::Atom { atom, layout: Layout::default() }
}

fn literal(text: &str) -> Piece {
    Piece::Literal(text.to_owned())
}

#[test]
fn names_stand_for_formats() {
    assert_eq!(parse("text"), AccessFormat::Text);
    assert_eq!(parse("json"), AccessFormat::Json);
    assert_eq!(parse("combined"), parse(COMBINED));
    assert_eq!(pieces("combined").len(), 18);
}

#[test]
fn a_line_is_text_and_atoms() {
    assert_eq!(
        pieces(r#"a %(h)s "%(U)s" 100%% %(arctos.route)s."#),
        [
            literal("a "),
            plain(Atom::Letter(Letter::Host)),
            literal(" \""),
            plain(Atom::Letter(Letter::Path)),
            literal("\" 100% "),
            plain(Atom::Route(0)),
            literal("."),
        ]
    );
}

#[test]
fn every_letter_of_gunicorn_is_an_atom() {
    for name in "h l u t r m U q H s B b f a T M D L p".split(' ') {
        assert_eq!(
            pieces(&format!("%({name})s")),
            [plain(Atom::Letter(Letter::of(name).unwrap()))]
        );
    }
}

#[test]
fn headers_and_variables_are_named_in_any_case_and_listed_once() {
    let AccessFormat::Line(line) =
        parse("%({X-Id}i)s %({Server}o)s %({ETag}o)s %({server}o)s %({REQUEST_METHOD}e)s")
    else {
        panic!("it is no line");
    };
    let is_atom = |piece: &&Piece| !matches!(piece, Piece::Literal(_));
    let atoms: Vec<_> = line.pieces.iter().filter(is_atom).cloned().collect();
    assert_eq!(
        atoms,
        [
            plain(Atom::RequestHeader("x-id".to_owned())),
            plain(Atom::ResponseHeader(0)),
            plain(Atom::ResponseHeader(1)),
            plain(Atom::ResponseHeader(0)),
            plain(Atom::Variable(0)),
        ]
    );
    assert_eq!(line.wanted.response_headers, ["server", "etag"]);
    assert_eq!(line.wanted.variables, ["request_method"]);
}

#[test]
fn nothing_is_kept_for_a_format_that_names_neither_response_headers_nor_variables() {
    for text in ["text", "json", "combined", "%({accept}i)s", "json:status,{accept}i"] {
        assert_eq!(parse(text).wanted(), None, "{text}");
    }
    assert!(parse("%({etag}o)s").wanted().is_some());
    assert!(parse("json:{wsgi.version}e").wanted().is_some());
}

#[test]
fn a_conversion_has_a_width_and_a_precision() {
    let layout = |text: &str| match pieces(text).as_slice() {
        [Piece::Atom { layout, .. }] => *layout,
        other => panic!("{text} is {other:?}"),
    };
    let plain = Layout::default();
    assert_eq!(layout("%(m)7s"), Layout { width: 7, ..plain });
    assert_eq!(layout("%(m)-7s"), Layout { width: 7, is_left: true, ..plain });
    assert_eq!(layout("%(a).30s"), Layout { precision: Some(30), ..plain });
    assert_eq!(layout("%(a)40.30s"), Layout { width: 40, precision: Some(30), ..plain });
    assert_eq!(layout("%(D)d"), plain);
    assert_eq!(layout("%(D)010d"), Layout { width: 10, has_zeros: true, ..plain });
    assert_eq!(layout("%(D)-010d"), Layout { width: 10, is_left: true, ..plain });
}

#[test]
fn an_object_has_selected_fields() {
    let AccessFormat::Object(object) =
        parse("json:time, status,code=status,{Accept-Language}i,id={x-id}o,{wsgi.version}e")
    else {
        panic!("it is no object");
    };
    let keys: Vec<_> = object.members.iter().map(|member| member.key.as_str()).collect();
    assert_eq!(keys, ["time", "status", "code", "accept_language", "id", "wsgi_version"]);
    assert_eq!(object.members[2].atom, Atom::Field(Field::Status));
    assert_eq!(object.members[3].atom, Atom::RequestHeader("accept-language".to_owned()));
    assert_eq!(object.wanted.response_headers, ["x-id"]);
}

#[test]
fn an_error_names_the_atom_its_place_and_what_is_accepted() {
    for (text, ends, expects) in [
        ("%(h)s %(x)s", "not \"%(x)s\" at character 7", "an atom of gunicorn (h, l, u"),
        ("%(h)s é%({a}x)s", "not \"%({a}x)s\" at character 8", "{header}i"),
        ("%(arctos.id)s", "not \"%(arctos.id)s\" at character 1", "request_id, reason"),
        ("%({}i)s", "not \"%({}i)s\" at character 1", "the name of a header"),
        ("%({a b}o)s", "not \"%({a b}o)s\" at character 1", "the name of a header"),
        ("%({}e)s", "not \"%({}e)s\" at character 1", "the name of a variable"),
        ("%(h)s %h", "not \"%h\" at character 7", "%(ATOM)s"),
        ("%(h)s %", "not \"%\" at character 7", "%(ATOM)s"),
        ("%(h)s %(u", "not \"%(u\" at character 7", "%(ATOM)s"),
        ("%(h)", "not \"%(h)\" at character 1", "%(ATOM)s"),
        ("%(h) ", "not \"%(h) \" at character 1", "%(ATOM)s"),
        ("%(h)r", "not \"%(h)r\" at character 1", "%(ATOM)s"),
        ("%(h)1001s", "not \"%(h)1001s\" at character 1", "%(ATOM)s"),
        ("%(h)--5s", "not \"%(h)--5s\" at character 1", "%(ATOM)s"),
        ("%(D).3d", "not \"%(D).3d\" at character 1", "%(ATOM)s"),
        ("%(s)d", "not \"%(s)d\" at character 1", "only B, T, M and D"),
        ("%(h)s\n", "not \"\\n\" at character 6", "one line"),
        ("json:", "not \"\" at character 6", "fields separated by commas"),
        ("json:status,,time", "not \"\" at character 13", "fields separated by commas"),
        ("json:status,code", "not \"code\" at character 13", "a field of arctos (time, "),
        ("json:status,%(h)s", "not \"%(h)s\" at character 13", "{header}i"),
        ("json:status,status", "not \"status\" at character 13", "each name once"),
        ("json:status,{Status}i", "not \"{Status}i\" at character 13", "NAME={Status}i"),
        (
            "json:time,time\n=\n{x}i",
            "not \"time\\n=\\n{x}i\" at character 11",
            "for time is NAME={x}i",
        ),
        ("json:a b=status", "not \"a b=status\" at character 6", "before the equals sign"),
    ] {
        let error = error(text);
        assert!(error.ends_with(ends), "{text}: {error}");
        assert!(error.contains(expects), "{text}: {error}");
    }
    for text in ["", "jsno", "%%", "Text"] {
        assert!(error(text).starts_with("text, json, json:FIELD"), "{text}");
    }
}

#[test]
fn a_format_says_which_fields_it_has() {
    for (text, has) in [
        ("text", false),
        ("json", true),
        ("combined", false),
        ("%(arctos.request_id)s", true),
        ("json:status", false),
        ("json:id=request_id", true),
    ] {
        assert_eq!(parse(text).has(Field::RequestId), has, "{text}");
    }
}

#[test]
fn each_field_has_a_name_of_its_own() {
    for (index, (field, name, _)) in Field::ALL.iter().enumerate() {
        assert_eq!((field.name(), Field::of(name)), (*name, Some(*field)));
        assert!(Field::ALL[..index].iter().all(|(_, other, _)| other != name), "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_format_or_an_error(text in ".{0,40}", tail in "[%(){}a-zA-Z0-9.=,-]{0,24}") {
        for text in [text.clone(), tail.clone(), format!("{text}%({tail}"), format!("json:{tail}")] {
            let _ = text.parse::<AccessFormat>().map_err(|error| error.to_string());
        }
    }
}
