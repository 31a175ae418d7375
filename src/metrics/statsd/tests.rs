use proptest::prelude::*;

use super::*;

fn udp(host: &str, port: u16) -> Target {
    Target::Udp { host: host.to_owned(), port }
}

#[test]
fn a_prefix_is_ascii_in_single_dots() {
    for (text, clean) in [
        ("arctos", "arctos"),
        ("", ""),
        (".", ""),
        ("shop.web.", "shop.web"),
        (".shop..web", "shop.web"),
        (" shop web\n", "shop_web"),
        ("shop:1|c\nother", "shop_1_c_other"),
        ("žluť-2_x", "_lu_-2_x"),
    ] {
        assert_eq!(prefix(text), clean, "{text:?}");
    }
    let long = "n".repeat(90);
    assert_eq!(prefix(&long), long);
    assert_eq!(prefix(&"n".repeat(300)).len(), PREFIX_MAX_CHARS);
}

#[test]
fn a_zone_keeps_its_letters_and_loses_separators() {
    assert_eq!(zone("central-europe").as_deref(), Some("central-europe"));
    assert_eq!(zone(" Žižkov\n").as_deref(), Some("Žižkov"));
    assert_eq!(zone("a,b|c#d e\nf\u{2028}g\u{85}h").as_deref(), Some("a_b_c_d_e_f_g_h"));
    assert_eq!((zone(""), zone(" \n")), (None, None));
}

#[test]
fn tags_are_separated_by_commas_and_the_zone_is_taken_out() {
    let list = tags("app:my-app,zone:central-europe, canary ,url:http://x/");
    assert_eq!(list.zone.as_deref(), Some("central-europe"));
    assert_eq!(list.tags, ["app:my-app", "canary", "url:http://x/"]);
}

#[test]
fn tags_that_are_empty_or_given_twice_are_left_out() {
    assert_eq!(tags(""), TagList::default());
    assert_eq!(tags(" , ,:,").tags, [""; 0]);
    assert_eq!(tags("a:1,a:1,a:2").tags, ["a:1", "a:2"]);
    assert_eq!(tags(":x,y:, k : v ").tags, ["x", "y", "k:v"]);
    assert_eq!(tags("zone:,zone").zone, None);
    assert_eq!(tags("zone:a,Zone:b,zone:").zone.as_deref(), Some("b"));
}

#[test]
fn a_zone_behind_a_colon_is_taken_out_as_well() {
    let list = tags(" : zone:x,app:y");
    assert_eq!((list.zone.as_deref(), list.tags), (Some("x"), vec!["app:y".to_owned()]));
}

#[test]
fn a_tag_cannot_bring_a_line_of_its_own() {
    assert_eq!(tags("app:x\nevil:1|c|#a").tags, ["app:x_evil:1_c__a"]);
    assert_eq!(tags("a b#:1").tags, ["a_b_:1"]);
}

#[test]
fn a_long_tag_is_cut_between_characters() {
    let tag = tags(&format!("key:{}", "ž".repeat(300))).tags.remove(0);
    assert_eq!(tag.chars().count(), 200);
    assert!(tag.ends_with('ž'));
    assert_eq!(zone(&"ž".repeat(300)).unwrap().chars().count(), 195);
}

#[test]
fn the_external_environment_keeps_its_commas() {
    let text = "it-false,cn-web,pu-75a2b6d5-3949-4afb-ad0d-92ff0674e759";
    assert_eq!(external_env(text).as_deref(), Some(text));
    assert_eq!(external_env("a|#x\nb").as_deref(), Some("a__x_b"));
    assert_eq!(external_env(" "), None);
}

#[test]
fn tag_bytes_include_the_separators() {
    assert_eq!(tag_bytes(None, &[], None), 0);
    let spent = ",zone:eu,app:x|e:cn-web".len();
    assert_eq!(tag_bytes(Some("eu"), &["app:x".to_owned()], Some("cn-web")), spent);
}

#[test]
fn any_tag_makes_dogstatsd_the_default_format() {
    assert_eq!(format(false, None, &[]), Format::Plain);
    assert_eq!(format(true, None, &[]), Format::Dogstatsd);
    assert_eq!(format(false, Some("eu"), &[]), Format::Dogstatsd);
    assert_eq!(format(false, None, &["a".to_owned()]), Format::Dogstatsd);
}

#[test]
fn every_form_of_a_target_is_parsed() {
    for (text, target) in [
        ("localhost", udp("localhost", 8125)),
        ("Agent.example:9125", udp("agent.example", 9125)),
        ("10.0.0.1", udp("10.0.0.1", 8125)),
        ("10.0.0.1:1", udp("10.0.0.1", 1)),
        ("::1", udp("::1", 8125)),
        ("2001:db8::1", udp("2001:db8::1", 8125)),
        ("2001:db8::1:beef", udp("2001:db8::1:beef", 8125)),
        ("[::1]", udp("::1", 8125)),
        ("[::1]:9125", udp("::1", 9125)),
        ("[2001:db8::1:8125]", udp("2001:db8::1:8125", 8125)),
        ("[fe80::1%eth0]:9125", udp("fe80::1%eth0", 9125)),
        ("unix:///run/dsd.socket", Target::Unix("/run/dsd.socket".into())),
        ("unix:/run/dsd.socket", Target::Unix("/run/dsd.socket".into())),
    ] {
        assert_eq!(text.parse(), Ok(target.clone()), "{text}");
        assert_eq!(target.to_string().parse(), Ok(target), "{text}");
    }
}

#[test]
fn each_mistake_in_a_target_has_its_own_message() {
    let long = format!("unix:///{}", "x".repeat(107));
    for (text, error) in [
        ("", TargetError::Form),
        ("8125", TargetError::Form),
        (":8125", TargetError::Form),
        ("a b", TargetError::Form),
        ("[::1", TargetError::Form),
        ("[localhost]:1", TargetError::Form),
        ("fd://3", TargetError::Form),
        ("http://agent:8125", TargetError::Form),
        ("agent:", TargetError::Port),
        ("agent:0", TargetError::Port),
        ("agent:65536", TargetError::Port),
        ("agent:statsd", TargetError::Port),
        ("udp://agent", TargetError::Form),
        ("::1:8125", TargetError::Brackets),
        ("2001:db8::1:8125", TargetError::Brackets),
        ("1:2:3:4:5:6:7:8:8125", TargetError::Brackets),
        ("unix:", TargetError::Path),
        ("unix:@dsd", TargetError::Path),
        ("unix:run/dsd", TargetError::Path),
        ("unix://run/dsd", TargetError::Path),
        ("unix:///run/", TargetError::Path),
        (&long, TargetError::LongPath),
    ] {
        assert_eq!(text.parse::<Target>(), Err(error), "{text}");
    }
}

/// Whether a text contains no separator of a line.
fn is_inert(text: &str) -> bool {
    let separates = |letter: char| letter.is_control() || matches!(letter, '\n' | ',' | '|' | '#');
    !text.contains(separates)
}

proptest! {
    #[test]
    fn sanitized_text_never_contains_separators(text in any::<String>()) {
        let list = tags(&text);
        prop_assert!(is_inert(&prefix(&text)));
        prop_assert!(zone(&text).is_none_or(|zone| is_inert(&zone) && !zone.is_empty()));
        prop_assert!(list.zone.is_none_or(|zone| is_inert(&zone) && !zone.is_empty()));
        prop_assert!(list.tags.iter().all(|tag| is_inert(tag) && !tag.is_empty()));
        prop_assert!(external_env(&text).is_none_or(|text| is_inert(&text.replace(',', ""))));
    }

    #[test]
    fn sanitized_text_stays_the_same(text in "[ -~ž\n\t]{0,300}") {
        let list = tags(&text);
        prop_assert_eq!(prefix(&prefix(&text)), prefix(&text));
        prop_assert_eq!(&tags(&list.tags.join(",")).tags, &list.tags);
        if let Some(clean) = zone(&text) {
            prop_assert_eq!(zone(&clean), Some(clean));
        }
    }

    #[test]
    fn parsing_a_target_never_panics(text in any::<String>()) {
        let _ = text.parse::<Target>();
        let _ = format!("unix:{text}").parse::<Target>();
    }
}
