use super::*;

fn drafted(lines: &[(&str, &str)]) -> Draft {
    let lines = lines.iter().map(|(name, value)| PeerLine::text(name, *value)).collect();
    draft(&GunicornInput { lines, ..GunicornInput::default() })
}

fn values(draft: &Draft, setting: Setting) -> Vec<&str> {
    let planned = &draft.planned[&setting];
    planned.values.iter().map(String::as_str).collect()
}

#[test]
fn a_unix_socket_that_everybody_could_use_is_a_difference() {
    let is_noted = |lines: &[(&str, &str)]| {
        drafted(lines).defaults.iter().any(|note| note.text.contains("0660"))
    };
    assert!(is_noted(&[("bind", "unix:/run/shop.sock")]));
    assert!(is_noted(&[("bind", "unix:/run/shop.sock"), ("umask", "0")]));
    assert!(!is_noted(&[("bind", "unix:/run/shop.sock"), ("umask", "0o27")]));
    assert!(!is_noted(&[("bind", "0.0.0.0:80")]));
}

#[test]
fn addresses_get_the_notation_of_arctos() {
    for (gunicorn, arctos) in [
        ("127.0.0.1", "127.0.0.1:8000"),
        (":8080", "0.0.0.0:8080"),
        ("", "0.0.0.0:8000"),
        ("[::1]", "[::1]:8000"),
        ("[::]:80", "[::]:80"),
        ("unix:/run/shop.sock", "unix:/run/shop.sock"),
        ("unix:///run/shop.sock", "unix:/run/shop.sock"),
        ("unix://shop.sock", "unix:shop.sock"),
        ("tcp://10.0.0.1:80", "10.0.0.1:80"),
        ("fd://3", "fd://3"),
    ] {
        assert_eq!(address(gunicorn), arctos);
    }
}

#[test]
fn a_variable_keeps_its_lines() {
    let list = PeerValue::List(vec!["KEY=-----BEGIN\nabc\n".to_owned(), "A=1".to_owned()]);
    let lines = vec![PeerLine::new("raw_env", list)];
    let draft = draft(&GunicornInput { lines, ..GunicornInput::default() });
    assert_eq!(values(&draft, Setting::Env), ["KEY=-----BEGIN\nabc\n", "A=1"]);
}

#[test]
fn the_application_of_a_module_is_named() {
    for (gunicorn, arctos) in [
        ("shop.wsgi", "shop.wsgi:application"),
        ("shop:app", "shop:app"),
        ("shop:create_app()", "shop:create_app()"),
    ] {
        assert_eq!(values(&drafted(&[("wsgi_app", gunicorn)]), Setting::Application), [arctos]);
    }
}

#[test]
fn a_port_of_the_environment_needs_no_address() {
    let draft = drafted(&[("bind", "0.0.0.0:$PORT"), ("workers", "$WEB_CONCURRENCY")]);
    assert!(!draft.has(Setting::Bind) && !draft.has(Setting::Workers));
    assert_eq!(draft.unneeded.len(), 2);
    assert!(drafted(&[("bind", "$HOST:80")]).planned[&Setting::Bind].is_proposal);
}

#[test]
fn threads_become_workers_unless_there_are_too_many() {
    let few = drafted(&[("workers", "3"), ("threads", "4"), ("worker_class", "gthread")]);
    assert_eq!(values(&few, Setting::Workers), ["12"]);
    assert!(few.planned[&Setting::Workers].comments[0].contains("3 * 4 = 12"));
    assert_eq!(few.missing.len(), 2);
    let many = drafted(&[("workers", "9"), ("threads", "100")]);
    assert_eq!(values(&many, Setting::Workers), ["9"]);
}

#[test]
fn the_mask_is_octal_from_a_file_and_from_a_command_line() {
    for (gunicorn, arctos) in [("18", "0022"), ("0o22", "0022"), ("022", "0022"), ("0", "0000")] {
        assert_eq!(values(&drafted(&[("umask", gunicorn)]), Setting::Umask), [arctos]);
    }
}

#[test]
fn proxies_on_this_machine_stay_trusted() {
    let local = drafted(&[("bind", "unix:/run/shop.sock")]);
    assert_eq!(values(&local, Setting::ForwardedAllowIps), ["127.0.0.1", "::1", "unix"]);
    assert_eq!(values(&local, Setting::ForwardedHeaders), ["x-forwarded-proto"]);
    let everywhere = drafted(&[("bind", "0.0.0.0:80")]);
    assert!(!everywhere.has(Setting::ForwardedAllowIps));
    assert!(everywhere.defaults.iter().any(|note| note.what == "forwarded_allow_ips"));
    let named = drafted(&[("bind", "0.0.0.0:80"), ("forwarded_allow_ips", "10.0.0.1, *")]);
    assert_eq!(values(&named, Setting::ForwardedAllowIps), ["10.0.0.1", "*"]);
    let nobody = drafted(&[("forwarded_allow_ips", "")]);
    assert!(!nobody.has(Setting::ForwardedAllowIps));
}

#[test]
fn the_proxy_protocol_names_its_senders() {
    let draft = drafted(&[("proxy_protocol", "v2")]);
    assert_eq!(values(&draft, Setting::ProxyProtocol), ["v2"]);
    assert_eq!(values(&draft, Setting::ProxyAllowFrom), ["127.0.0.1", "::1"]);
    assert!(!drafted(&[("proxy_protocol", "off")]).has(Setting::ProxyProtocol));
}

#[test]
fn a_hook_is_set_if_arctos_can_call_it() {
    let hook = |module: Option<&str>, takes_one| {
        let module = module.map(str::to_owned);
        let function = PeerFunction { module, name: "start".to_owned(), takes_one };
        let lines = vec![PeerLine::new("post_fork", PeerValue::Function(function))];
        draft(&GunicornInput {
            lines,
            file: "gunicorn.conf.py".to_owned(),
            ..GunicornInput::default()
        })
    };
    let set = hook(Some("shop.hooks"), true);
    assert_eq!(values(&set, Setting::PostFork), ["shop.hooks:start"]);
    assert!(!set.planned[&Setting::PostFork].is_proposal);
    for proposed in [hook(Some("shop.hooks"), false), hook(None, true)] {
        assert!(proposed.planned[&Setting::PostFork].is_proposal);
    }
}

#[test]
fn a_misspelled_setting_is_said() {
    let draft = drafted(&[("max_request", "5")]);
    assert!(draft.unknown[0].text.ends_with("did you mean max_requests?"), "{:?}", draft.unknown);
}

#[test]
fn defaults_that_differ_are_said_unless_they_are_set() {
    let names =
        |draft: &Draft| draft.defaults.iter().map(|note| note.what.clone()).collect::<Vec<_>>();
    assert_eq!(names(&drafted(&[])), ["workers", "keepalive", "graceful_timeout"]);
    let set =
        [("workers", "2"), ("keepalive", "5"), ("graceful_timeout", "10"), ("max_requests", "9")];
    assert_eq!(names(&drafted(&set)), ["max_requests_jitter"]);
    let threaded = drafted(&[("worker_class", "gevent")]);
    assert!(names(&threaded).contains(&"timeout".to_owned()));
}
