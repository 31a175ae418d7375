use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::super::{Config, Effective, Source};
use super::*;
use crate::metrics::statsd::{INTERVAL as DEFAULT_INTERVAL, PORT};

const HOST: (Setting, &str) = (Setting::StatsdHost, "agent");
const AUTO: (Setting, &str) = (Setting::Statsd, "auto");
const PLAIN: (Setting, &str) = (Setting::StatsdFormat, "plain");

fn resolved(
    options: &[(Setting, &str)],
    variables: &[(&str, &str)],
) -> Result<(Config, Vec<Effective>), ConfigError> {
    let application = [(Setting::Application, vec!["shop:app".into()])];
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let environment = variables.iter().copied().collect();
    let source = Source::of_command_line(application.into_iter().chain(given), environment)?;
    let resolved = source.resolve()?;
    Ok((resolved.config.unwrap(), resolved.effective))
}

fn config(options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Config {
    resolved(options, variables).unwrap().0
}

fn statsd(options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Statsd {
    config(options, variables).statsd.unwrap()
}

/// The printed value and origin of a setting.
fn shown(
    setting: Setting,
    options: &[(Setting, &str)],
    variables: &[(&str, &str)],
) -> (String, String) {
    let effective = resolved(options, variables).unwrap().1;
    let line = effective.into_iter().find(|line| line.setting == setting).unwrap();
    (line.value, line.origin.to_string())
}

fn refusal(options: &[(Setting, &str)], variables: &[(&str, &str)]) -> String {
    let error = resolved(options, variables).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

fn udp(host: &str, port: u16) -> Target {
    Target::Udp { host: host.to_owned(), port }
}

#[test]
fn nothing_is_sent_unless_a_host_is_given() {
    let config = config(&[], &[]);
    assert_eq!((config.statsd, config.zone), (None, None));
}

#[test]
fn a_host_is_enough_to_send_metrics() {
    let expected = Statsd {
        target: udp("agent", PORT),
        prefix: "arctos".to_owned(),
        interval: DEFAULT_INTERVAL,
        format: Format::Dogstatsd,
        worker_tag: true,
        zone: None,
        tags: vec![],
        external_env: None,
    };
    assert_eq!(statsd(&[HOST], &[]), expected);
    assert_eq!(statsd(&[], &[("ARCTOS_STATSD_HOST", "agent")]), expected);
}

#[test]
fn every_option_of_metrics_is_applied() {
    let options = [
        (Setting::StatsdHost, "unix:///run/dsd.socket"),
        (Setting::StatsdPrefix, "shop.web."),
        (Setting::StatsdInterval, "0.5"),
        (Setting::StatsdFormat, "dogstatsd"),
        (Setting::StatsdWorkerTag, "off"),
        (Setting::DogstatsdTags, "app:shop,canary"),
        (Setting::Zone, "eu"),
    ];
    let expected = Statsd {
        target: Target::Unix("/run/dsd.socket".into()),
        prefix: "shop.web".to_owned(),
        interval: Duration::from_millis(500),
        format: Format::Dogstatsd,
        worker_tag: false,
        zone: Some("eu".to_owned()),
        tags: vec!["app:shop".to_owned(), "canary".to_owned()],
        external_env: None,
    };
    assert_eq!(statsd(&options, &[]), expected);
    assert_eq!(config(&options, &[]).zone.as_deref(), Some("eu"));
}

#[test]
fn off_sends_nothing_and_keeps_the_zone() {
    let options = [HOST, (Setting::Statsd, "off"), (Setting::Zone, "eu")];
    let config = config(&options, &[("DD_AGENT_HOST", "dd")]);
    assert_eq!((config.statsd, config.zone.as_deref()), (None, Some("eu")));
}

#[test]
fn tags_with_only_a_zone_count_as_given() {
    let options = [(Setting::DogstatsdTags, "zone:eu")];
    let expected = (String::new(), "command line".to_owned());
    assert_eq!(shown(Setting::DogstatsdTags, &options, &[]), expected);
}

#[test]
fn a_prefix_may_be_empty_and_loses_its_last_dot() {
    let prefix = |text: &str| statsd(&[HOST, (Setting::StatsdPrefix, text)], &[]).prefix;
    assert_eq!(
        (prefix(""), prefix("."), prefix("shop.")),
        (<_>::default(), <_>::default(), "shop".into())
    );
    let variable = statsd(&[HOST], &[("ARCTOS_STATSD_PREFIX", ".")]).prefix;
    assert_eq!(variable, "");
    assert_eq!(prefix(&"n".repeat(90)), "n".repeat(90));
    let long = "n".repeat(201);
    let expected =
        format!("--statsd-prefix '{long}': expected text in UTF-8 of at most 200 characters");
    assert_eq!(refusal(&[(Setting::StatsdPrefix, &long)], &[]), expected);
}

#[test]
fn wrong_values_are_refused_with_option_value_and_form() {
    for (setting, value, message) in [
        (Setting::Statsd, "yes", "--statsd 'yes': expected on, off or auto"),
        (
            Setting::StatsdHost,
            "8125",
            "--statsd-host '8125': expected HOST, HOST:PORT, [IPv6]:PORT or unix:///path, such as \
             127.0.0.1:8125",
        ),
        (
            Setting::StatsdHost,
            "agent:0",
            "--statsd-host 'agent:0': expected a port from 1 to 65535 after the last colon, such as \
             127.0.0.1:8125",
        ),
        (
            Setting::StatsdHost,
            "::1:8125",
            "--statsd-host '::1:8125': expected brackets around an IPv6 address, such as [::1]:8125",
        ),
        (
            Setting::StatsdHost,
            "unix:dsd.socket",
            "--statsd-host 'unix:dsd.socket': expected an absolute path after unix:, such as \
             unix:///run/datadog/dsd.socket",
        ),
        (
            Setting::StatsdInterval,
            "50ms",
            "--statsd-interval '50ms': expected a time from 100ms to 1h, in seconds or with a unit: \
             30, 0.5, 500ms, 30s, 2m",
        ),
        (
            Setting::StatsdFormat,
            "datadog",
            "--statsd-format 'datadog': expected dogstatsd, plain or auto",
        ),
        (Setting::StatsdWorkerTag, "2", "--statsd-worker-tag '2': expected on or off"),
        (
            Setting::DogstatsdTags,
            "app:x,Worker:7",
            "--dogstatsd-tags 'app:x,Worker:7': expected tags without the key worker, which \
             --statsd-worker-tag on adds",
        ),
    ] {
        assert_eq!(refusal(&[(setting, value)], &[]), message);
    }
    let message = "ARCTOS_STATSD_HOST=':1': expected HOST, HOST:PORT, [IPv6]:PORT or unix:///path, \
                   such as 127.0.0.1:8125";
    assert_eq!(refusal(&[], &[("ARCTOS_STATSD_HOST", ":1")]), message);
}

#[test]
fn a_tag_with_the_key_worker_is_accepted_if_none_is_added() {
    let options = [HOST, (Setting::DogstatsdTags, "worker:7"), (Setting::StatsdWorkerTag, "off")];
    assert_eq!(statsd(&options, &[]).tags, ["worker:7"]);
}

#[test]
fn a_zone_among_the_tags_is_the_zone_unless_one_is_given() {
    let tags = (Setting::DogstatsdTags, "app:my-app,zone:central-europe");
    let (config, effective) = resolved(&[HOST, tags], &[]).unwrap();
    assert_eq!(config.zone.as_deref(), Some("central-europe"));
    assert_eq!(config.statsd.unwrap().tags, ["app:my-app"]);
    let line = effective.iter().find(|line| line.setting == Setting::Zone).unwrap();
    assert_eq!((line.value.as_str(), &line.origin), ("central-europe", &Origin::CommandLine));
    let zone = |zone| statsd(&[HOST, tags, (Setting::Zone, zone)], &[]).zone;
    assert_eq!((zone("eu").as_deref(), zone("")), (Some("eu"), None));
    assert_eq!(statsd(&[HOST, tags], &[("ARCTOS_ZONE", "us")]).zone.as_deref(), Some("us"));
}

#[test]
fn without_anything_to_tag_auto_is_plain() {
    let off = (Setting::StatsdWorkerTag, "off");
    assert_eq!(statsd(&[HOST, off], &[]).format, Format::Plain);
    assert_eq!(statsd(&[HOST, off, (Setting::Zone, "eu")], &[]).format, Format::Dogstatsd);
    let tags = (Setting::DogstatsdTags, "app:x");
    assert_eq!(statsd(&[HOST, off, tags], &[]).format, Format::Dogstatsd);
    let agent = [("DD_AGENT_HOST", "dd")];
    assert_eq!(statsd(&[AUTO, off], &agent).format, Format::Dogstatsd, "Datadog's agent");
    assert_eq!(statsd(&[AUTO, off, HOST], &agent).format, Format::Plain, "not this one");
    let container = [("DD_EXTERNAL_ENV", "cn-web")];
    assert_eq!(statsd(&[AUTO, off, HOST], &container).format, Format::Dogstatsd, "the field |e:");
    let shown = |options: &[_]| shown(Setting::StatsdFormat, options, &[]).0;
    assert_eq!((shown(&[off]), shown(&[])), ("auto (plain)".into(), "auto (dogstatsd)".into()));
}

#[test]
fn plain_has_no_tags() {
    let plain = statsd(&[HOST, PLAIN], &[]);
    assert_eq!((plain.format, plain.worker_tag), (Format::Plain, false));
    let tag = shown(Setting::StatsdWorkerTag, &[PLAIN], &[]);
    assert_eq!(tag, ("off".to_owned(), "because of --statsd-format".to_owned()));
}

#[test]
fn tags_that_were_asked_for_are_not_lost_in_plain() {
    for (setting, value, flag) in [
        (Setting::DogstatsdTags, "app:x", "--dogstatsd-tags"),
        (Setting::DogstatsdTags, "zone:eu", "--dogstatsd-tags"),
        (Setting::Zone, "eu", "--zone"),
        (Setting::StatsdWorkerTag, "on", "--statsd-worker-tag"),
    ] {
        let message =
            format!("--statsd-format 'plain': expected dogstatsd or auto: {flag} adds tags");
        assert_eq!(refusal(&[HOST, PLAIN, (setting, value)], &[]), message);
    }
    let message = "ARCTOS_STATSD_FORMAT='PLAIN': expected dogstatsd or auto: --zone adds tags";
    let variables = [("ARCTOS_STATSD_FORMAT", "PLAIN"), ("ARCTOS_ZONE", "eu")];
    assert_eq!(refusal(&[], &variables), message);
    for (setting, value) in
        [(Setting::DogstatsdTags, ""), (Setting::Zone, ""), (Setting::StatsdWorkerTag, "off")]
    {
        assert_eq!(statsd(&[HOST, PLAIN, (setting, value)], &[]).format, Format::Plain);
    }
}

#[test]
fn plain_accepts_a_zone_if_there_is_an_admin_socket() {
    for zone in [(Setting::Zone, "eu"), (Setting::DogstatsdTags, "zone:eu")] {
        let config = config(&[HOST, PLAIN, zone, (Setting::AdminBind, "9000")], &[]);
        assert_eq!(config.zone.as_deref(), Some("eu"));
        assert_eq!(config.statsd.unwrap().zone, None);
    }
}

#[test]
fn auto_finds_the_agent_of_the_environment() {
    let url = "DD_DOGSTATSD_URL";
    for (variables, target, origin) in [
        (&[(url, "udp://dd:9125")][..], udp("dd", 9125), url),
        (&[(url, "udp://dd")], udp("dd", 8125), url),
        (&[(url, "udp://[::1]:9125")], udp("::1", 9125), url),
        (&[(url, "unix:///run/dsd.socket")], Target::Unix("/run/dsd.socket".into()), url),
        (&[(url, "udp://dd:1"), ("DD_AGENT_HOST", "other")], udp("dd", 1), url),
        (&[("DD_AGENT_HOST", "10.0.0.1")], udp("10.0.0.1", 8125), "DD_AGENT_HOST"),
        (&[("DD_AGENT_HOST", "2001:db8::1:2")], udp("2001:db8::1:2", 8125), "DD_AGENT_HOST"),
        (
            &[("DD_AGENT_HOST", "dd"), ("DD_DOGSTATSD_PORT", "9125")],
            udp("dd", 9125),
            "DD_AGENT_HOST, DD_DOGSTATSD_PORT",
        ),
        (&[("DD_DOGSTATSD_PORT", "9125")], udp("127.0.0.1", 9125), "DD_DOGSTATSD_PORT"),
    ] {
        assert_eq!(statsd(&[AUTO], variables).target, target, "{variables:?}");
        let expected = (target.to_string(), format!("environment {origin}"));
        assert_eq!(shown(Setting::StatsdHost, &[AUTO], variables), expected);
        for sending in ["on", "off"] {
            assert_eq!(config(&[(Setting::Statsd, sending)], variables).statsd, None);
        }
        assert_eq!(statsd(&[AUTO, HOST], variables).target, udp("agent", 8125), "given wins");
    }
    assert_eq!(config(&[AUTO], &[]).statsd, None);
    assert_eq!(config(&[AUTO], &[("DD_AGENT_HOST", ""), ("DD_ENV", "x")]).statsd, None);
}

#[test]
fn a_wrong_address_of_an_agent_is_refused_with_its_variable() {
    let url = "expected udp://HOST:PORT or unix:///path, such as udp://127.0.0.1:8125";
    let host =
        "expected the host name or address of the agent; its port is set in DD_DOGSTATSD_PORT";
    let port = "expected a whole number from 1 to 65535";
    for (variable, value, expected) in [
        ("DD_DOGSTATSD_URL", "http://dd:8125", url),
        ("DD_DOGSTATSD_URL", "unixstream:///run/dsd.socket", url),
        ("DD_DOGSTATSD_URL", "udp://unix:/run/x", url),
        ("DD_DOGSTATSD_URL", "udp://", url),
        ("DD_DOGSTATSD_URL", "dd:8125", url),
        ("DD_DOGSTATSD_URL", "unix://run/x", url),
        ("DD_AGENT_HOST", "dd:8125", host),
        ("DD_AGENT_HOST", "http://dd", host),
        ("DD_AGENT_HOST", "unix:///run/x", host),
        ("DD_DOGSTATSD_PORT", "0", port),
        ("DD_DOGSTATSD_PORT", "udp", port),
    ] {
        let message = format!("{variable}='{value}': {expected}");
        assert_eq!(refusal(&[AUTO], &[(variable, value)]), message);
        assert_eq!(config(&[], &[(variable, value)]).statsd, None, "nobody asked");
        assert_eq!(statsd(&[AUTO, HOST], &[(variable, value)]).target, udp("agent", 8125));
    }
    let strange = OsString::from_vec(vec![b'x', 0xff]);
    let source = Source::of_command_line(
        [(Setting::Statsd, vec!["auto".into()])],
        [(OsString::from("DD_ENV"), strange)].into_iter().collect(),
    );
    let error = source.unwrap().resolve().unwrap_err().to_string();
    assert_eq!(error, "DD_ENV='x\u{fffd}': expected text in UTF-8");
}

const TAGGED: [(&str, &str); 6] = [
    ("DD_ENV", "prod"),
    ("DD_SERVICE", "shop"),
    ("DD_VERSION", "1.2"),
    ("DD_ENTITY_ID", "pod-1"),
    ("DD_TAGS", "team:web zone:eu env:other"),
    ("DD_EXTERNAL_ENV", "it-false,cn-web"),
];

#[test]
fn auto_adds_the_tags_of_the_environment_for_any_target() {
    for host in [HOST, (Setting::StatsdHost, "unix:///run/dsd.socket")] {
        let statsd = statsd(&[AUTO, host], &TAGGED);
        let tags = ["env:prod", "service:shop", "version:1.2", "dd.internal.entity_id:pod-1"];
        assert_eq!(statsd.tags[..4], tags);
        assert_eq!(statsd.tags[4..], ["team:web"]);
        assert_eq!(statsd.zone.as_deref(), Some("eu"));
        assert_eq!(statsd.external_env.as_deref(), Some("it-false,cn-web"));
    }
    for sending in ["on", "off"] {
        let config = config(&[HOST, (Setting::Statsd, sending)], &TAGGED);
        assert_eq!(config.zone, None);
        let tags = config.statsd.map(|statsd| (statsd.tags, statsd.external_env));
        assert!(tags.is_none_or(|tags| tags == (vec![], None)), "{sending}");
    }
}

#[test]
fn tags_of_the_environment_are_separated_by_commas_or_by_spaces() {
    let tags = |text| statsd(&[AUTO, HOST], &[("DD_TAGS", text)]).tags;
    assert_eq!(tags("a:1 b:2  c"), ["a:1", "b:2", "c"]);
    assert_eq!(tags("a:1, b:2,c"), ["a:1", "b:2", "c"]);
    assert_eq!(tags("a:1 2,b:2"), ["a:1_2", "b:2"]);
    assert_eq!(tags("a:1,a:2"), ["a:1", "a:2"]);
}

#[test]
fn a_given_tag_overrides_one_of_the_environment() {
    let options = [AUTO, HOST, (Setting::DogstatsdTags, "Env:mine,zone:us,app:x")];
    let with = |more: &[(Setting, &str)]| statsd(&[&options, more].concat(), &TAGGED);
    let tags = ["Env:mine", "app:x", "service:shop", "version:1.2"];
    assert_eq!(with(&[]).tags[..4], tags);
    assert_eq!(with(&[]).zone.as_deref(), Some("us"));
    assert_eq!(with(&[(Setting::Zone, "asia")]).zone.as_deref(), Some("asia"));
    let (value, origin) = shown(Setting::DogstatsdTags, &options, &TAGGED);
    assert_eq!(
        value,
        "Env:mine,app:x,service:shop,version:1.2,dd.internal.entity_id:pod-1,team:web"
    );
    let variables = ["DD_SERVICE", "DD_VERSION", "DD_ENTITY_ID", "DD_TAGS"];
    let variables = variables.map(|name| format!("environment {name}")).join(", ");
    assert_eq!(origin, format!("command line, {variables}"));
    assert_eq!(statsd(&[AUTO, HOST], &[("DD_TAGS", "worker:9,a:1")]).tags, ["a:1"]);
}

#[test]
fn tags_of_the_environment_are_dropped_in_plain() {
    let plain = statsd(&[AUTO, HOST, PLAIN], &TAGGED);
    assert_eq!((plain.tags, plain.zone, plain.external_env), (vec![], None, None));
    let (value, origin) = shown(Setting::DogstatsdTags, &[AUTO, HOST, PLAIN], &TAGGED);
    assert_eq!((value, origin), (String::new(), "because of --statsd-format".to_owned()));
}

#[test]
fn tags_leave_room_for_the_rest_of_a_line() {
    let tags: Vec<_> = (0..10).map(|number| format!("{number}:{}", "x".repeat(97))).collect();
    let fits = tags.join(",");
    assert_eq!(statsd(&[HOST, (Setting::DogstatsdTags, &fits)], &[]).tags.len(), 10);
    let message = "--dogstatsd-tags: expected at most 1000 bytes of tags per line, including those of \
                   --zone and DD_*, but there are 1001 (command line)";
    let options = [HOST, (Setting::DogstatsdTags, &format!("{fits}y")[..])];
    assert_eq!(refusal(&options, &[]), message);
    let zone = (Setting::Zone, "eu");
    assert!(refusal(&[HOST, (Setting::DogstatsdTags, &fits), zone], &[]).contains("are 1008 "));
    let environment = [("DD_TAGS", &fits[..]), ("DD_ENV", "x")];
    assert!(refusal(&[AUTO], &environment).ends_with("(environment DD_ENV, environment DD_TAGS)"),);
}

#[test]
fn hostile_values_are_shown_as_they_are_sent() {
    let options = [
        HOST,
        (Setting::StatsdPrefix, "shop\nweb:1|c"),
        (Setting::DogstatsdTags, "app:a\nb|c#d,město:Žižkov"),
        (Setting::Zone, "a,b\nc:1|c"),
    ];
    let statsd = statsd(&options, &[]);
    assert_eq!(statsd.prefix, "shop_web_1_c");
    assert_eq!(statsd.tags, ["app:a_b_c_d", "město:Žižkov"]);
    assert_eq!(statsd.zone.as_deref(), Some("a_b_c:1_c"));
    let shown = |setting| shown(setting, &options, &[]).0;
    assert_eq!(shown(Setting::StatsdPrefix), "shop_web_1_c");
    assert_eq!(shown(Setting::DogstatsdTags), "app:a_b_c_d,město:Žižkov");
    assert_eq!(shown(Setting::Zone), "a_b_c:1_c");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_value_can_break_a_line(text in "\\PC{0,20}[\\x00-\\x7f]{0,20}") {
        let options =
            [AUTO, HOST, (Setting::StatsdPrefix, &text[..]), (Setting::Zone, &text)];
        let names = ["DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_TAGS", "DD_ENTITY_ID"];
        let variables = names.map(|name| (name, text.as_str()));
        let statsd = statsd(&options, &variables);
        let separates = |letter: char| letter.is_control() || matches!(letter, ',' | '|' | '#');
        let values = statsd.tags.iter().chain(&statsd.zone).chain([&statsd.prefix]);
        for value in values {
            prop_assert!(!value.contains(separates), "{value:?}");
        }
    }
}
