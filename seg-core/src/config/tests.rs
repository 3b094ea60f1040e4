//! The configuration as a whole: layers, refusals, inheritance, changes, the example.

use std::path::Path;
use std::time::Duration;

use super::*;

fn problems_of(text: &str) -> Vec<Problem> {
    from_text(text, None, Path::new("/etc/seg"), std::iter::empty()).1
}

fn loaded(text: &str, env: &[(&str, &str)]) -> Loaded {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (loaded, problems) = from_text(text, None, Path::new("/etc/seg"), env);
    assert_eq!(problems, Vec::new(), "{text}");
    loaded
}

fn config(text: &str) -> Config {
    loaded(text, &[]).config
}

/// The names of the keys that the warnings are about.
fn warned(loaded: &Loaded) -> Vec<&str> {
    loaded
        .warnings
        .iter()
        .filter_map(|warning| warning.key.as_deref())
        .collect()
}

/// What a reload reads anew is watched.
#[test]
fn the_files_that_keys_name_belong_to_the_configuration() {
    let keys = [
        ("email.server.ca.path", ""),
        ("email.server.ca.path", "ews."),
        ("identity.alias.path", ""),
        ("compliance.policies.path", ""),
        ("log.pseudonym.key.path", ""),
        ("admin.tokens.path", ""),
    ];
    for (key, before) in keys {
        let config = config(&format!("{before}{key}=named.file\n"));
        let named = Path::new("/etc/seg/named.file");
        let files = config.files();
        let found = files.iter().any(|file| file == named);
        assert!(found, "{before}{key}: {files:?}");
    }
    let callback = "ens.callback.interposition=true\nserver.public.url=https://mail.example\n\
        ens.callback.ca.path=ca.pem\n";
    let files = config(callback).files();
    assert!(
        files.contains(&PathBuf::from("/etc/seg/ca.pem")),
        "{files:?}"
    );
}

#[test]
fn nothing_given_is_the_defaults() {
    let config = load(None, std::iter::empty())
        .expect("the defaults hold")
        .config;
    assert_eq!(
        config.server.listen,
        ["0.0.0.0:8443".parse().expect("address")]
    );
    assert_eq!(config.server.tls.certificate, CertificateSource::SelfSigned);
    assert_eq!(config.server.drain, Duration::from_secs(30));
    assert_eq!(config.server.body_max, None);
    assert_eq!(config.eas.upstreams, []);
    assert_eq!(
        config.eas.health.path,
        "/Microsoft-Server-ActiveSync/healthcheck.htm"
    );
    assert_eq!(config.ews.health.path, "/EWS/healthcheck.htm");
    assert!(config.challenges.filter_eas && config.challenges.filter_ews);
    assert!(!config.ews_enabled);
    assert_eq!(config.compliance.unknown_device, DefaultVerdict::Block);
    assert_eq!(config.compliance.known_device, DefaultVerdict::Allow);
    let days = Some(seg_compliance::STALE_AFTER_DEFAULT);
    assert_eq!(config.compliance.stale_after, days);
    assert_eq!(config.compliance.stale, StaleAnswer::Block);
    assert_eq!(config.ews_refusal_server_version, "15.1.2507.6");
    assert!(config.data_dir.is_absolute());
    assert_eq!(config.admin.token_path, config.data_dir.join("admin.token"));
}

#[test]
fn environment_over_file_over_defaults() {
    let text = "server.drain.seconds=5\nadmin.listen=127.0.0.1:1\n";
    let config = loaded(text, &[("SEG_SERVER_DRAIN_SECONDS", "7"), ("PATH", "/bin")]).config;
    assert_eq!(config.server.drain, Duration::from_secs(7));
    assert_eq!(config.admin.listen.port(), 1);
    assert_eq!(config.server.header_max, 65536);
}

#[test]
fn environment_names_are_looked_up() {
    let text = "route.my-owa.upstream=https://owa.example\n";
    let env = [
        ("SEG_IGNORE_SSL_ERRORS_WITH_EXCHANGE", "true"),
        ("SEG_ROUTE_MY_OWA_PATH", "/owa"),
        ("SEG_ROUTE_OTHER_CLIENT_CERT_HEADER", "X-Client-Cert"),
        ("SEG_ROUTE_OTHER_UPSTREAM", "other.example"),
    ];
    let config = loaded(text, &env).config;
    assert!(config.eas.tls.ignore_errors && config.ews.tls.ignore_errors);
    assert_eq!(config.routes["my-owa"].path, "/owa");
    assert_eq!(
        config.routes["other"]
            .client_cert_header
            .as_ref()
            .map(|name| name.as_str()),
        Some("x-client-cert")
    );
    let alias = loaded("", &[("SEG_IGNORESSLERRORSWITHEXCH", "true")]).config;
    assert!(alias.eas.tls.ignore_errors);
}

#[test]
fn a_strange_variable_is_a_warning_and_those_of_kubernetes_are_not() {
    let loaded = loaded(
        "",
        &[
            ("SEG_SERVER_LISTENN", "x"),
            ("SEG_SERVICE_HOST", "10.0.0.1"),
            ("SEG_PORT_8443_TCP", "x"),
        ],
    );
    let strange: Vec<_> = loaded
        .warnings
        .iter()
        .filter(|warning| warning.key.is_none())
        .collect();
    assert_eq!(strange.len(), 1, "{strange:?}");
    assert!(
        strange[0].message.contains("SEG_SERVER_LISTEN"),
        "{strange:?}"
    );
}

#[test]
fn a_value_from_the_environment_is_refused_by_its_variable() {
    let env = [("SEG_SERVER_DRAIN_SECONDS".to_owned(), "soon".to_owned())];
    let problems = from_text("", None, Path::new("/"), env.into_iter()).1;
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "environment variable SEG_SERVER_DRAIN_SECONDS: server.drain.seconds: `soon` is not possible, \
         expected a whole number from 0 to 3600"
    );
}

#[test]
fn the_decision_service_is_not_for_names_of_a_directory() {
    let decision = "decision.listen=127.0.0.1:9080\n";
    let directory = "directory.url=ldaps://dc1.corp.example\ndirectory.base=DC=corp,DC=example\n";
    assert_eq!(problems_of(decision), Vec::new());
    assert_eq!(problems_of(directory), Vec::new());
    let problems = problems_of(&format!("{decision}{directory}"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().contains("asks no directory"));
}

#[test]
fn refusals_name_key_line_and_mend() {
    for (text, key, line, part) in [
        (
            "\nserver.lisen=0.0.0.0:1\n",
            "server.lisen",
            2,
            "the nearest known key is server.listen",
        ),
        ("server.listen=8443", "server.listen", 1, "0.0.0.0:8443"),
        (
            "server.listen=1.1.1.1:1,1.1.1.1:1",
            "server.listen",
            1,
            "twice",
        ),
        (
            "server.drain.seconds=1\nserver.drain.seconds=1",
            "server.drain.seconds",
            2,
            "first on line 1",
        ),
        (
            "server.drain.seconds=4000",
            "server.drain.seconds",
            1,
            "0 to 3600",
        ),
        (
            "server.drain.seconds=-1",
            "server.drain.seconds",
            1,
            "0 to 3600",
        ),
        (
            "enable.boxer.ens.ews.proxy=yes",
            "enable.boxer.ens.ews.proxy",
            1,
            "true or false",
        ),
        (
            "compliance.mode=enforced",
            "compliance.mode",
            1,
            "enforce, observe",
        ),
        (
            "email.server.host.and.port=https://a/owa",
            "email.server.host.and.port",
            1,
            "path",
        ),
        (
            "email.server.host.and.port=ftp://a",
            "email.server.host.and.port",
            1,
            "https://",
        ),
        (
            "email.server.host.and.port=https://a:0",
            "email.server.host.and.port",
            1,
            "https://",
        ),
        (
            "email.server.health.expect=ok",
            "email.server.health.expect",
            1,
            "any",
        ),
        (
            "email.server.health.path=health",
            "email.server.health.path",
            1,
            "starts with /",
        ),
        (
            "ews.email.server.timeout.connect.seconds=0",
            "ews.email.server.timeout.connect.seconds",
            1,
            "1 to 300",
        ),
        (
            "server.trusted.proxies=10.0.0.0/40",
            "server.trusted.proxies",
            1,
            "10.0.0.0/8",
        ),
        (
            "server.client.auth=required",
            "server.client.auth",
            1,
            "server.client.ca.path",
        ),
        (
            "server.tls.certificate.path=a",
            "server.tls.certificate.path",
            1,
            "private.key.path",
        ),
        (
            "server.tls.private.key.path=a",
            "server.tls.private.key.path",
            1,
            "certificate.path",
        ),
        (
            "server.tls.pkcs12.password=a",
            "server.tls.pkcs12.password",
            1,
            "needs server.tls.pkcs12.path",
        ),
        (
            "server.tls.cipher.suites=RC4",
            "server.tls.cipher.suites",
            1,
            "TLS_AES_128_GCM_SHA256",
        ),
        (
            "server.tls.min.version=1.3\nserver.tls.cipher.suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "server.tls.cipher.suites",
            2,
            "no suite",
        ),
        (
            "identity.domain.map=CORP",
            "identity.domain.map",
            1,
            "CORP=corp.example",
        ),
        (
            "identity.domain.map=A=a.example,a=b.example",
            "identity.domain.map",
            1,
            "twice",
        ),
        (
            "ews.refusal.server.version=15.1",
            "ews.refusal.server.version",
            1,
            "15.1.2507.6",
        ),
        (
            "outbound.proxy.url=nonsense",
            "outbound.proxy.url",
            1,
            "not shown",
        ),
        ("route.owa.path=/owa", "route.owa.upstream", 0, "missing"),
        (
            "route.OWA.path=/owa",
            "route.OWA.path",
            1,
            "route.<name>.path",
        ),
        (
            "ignore.ssl.errors.with.exchange=true\nignoreSslErrorsWithExch=true",
            "ignoreSslErrorsWithExch",
            2,
            "line 1",
        ),
        (
            "remove.unsupported.auth=false\nremove.unsupported.auth.for.eas=true",
            "remove.unsupported.auth.for.eas",
            2,
            "remove.unsupported.auth sets it to false",
        ),
    ] {
        let problems = problems_of(text);
        let found = problems
            .iter()
            .find(|problem| problem.key.as_deref() == Some(key));
        let found = found.unwrap_or_else(|| panic!("{text:?} gave {problems:?}"));
        assert_eq!(found.line().unwrap_or(0), line, "{text:?}");
        assert!(found.message.contains(part), "{text:?}: {}", found.message);
        assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
    }
}

#[test]
fn all_errors_at_once_in_the_order_of_the_file() {
    let error = ConfigError::new(
        Some("a.properties".into()),
        problems_of("serverlisten=1\n\\u00zz=1\nlog.level=loud\ncompliance.mode=x\n"),
    );
    assert_eq!(
        error.problems.iter().map(Problem::line).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3), Some(4)]
    );
    assert!(
        error
            .to_string()
            .starts_with("a.properties: line 1: serverlisten: unknown key"),
        "{error}"
    );
}

#[test]
fn a_flood_of_errors_is_counted() {
    let text: String = (0..1000).map(|n| format!("unknown{n}=1\n")).collect();
    let error = ConfigError::new(None, problems_of(&text));
    assert_eq!(
        (error.problems.len(), error.omitted),
        (ConfigError::MAX, 1000 - ConfigError::MAX)
    );
}

#[test]
fn known_keys_of_seg_v2_are_warned_about_with_the_reason() {
    let loaded = loaded(
        "vac.seg.config.settings.refresh.interval.in.minutes=30\nwrapper.java.additional.9=x\n",
        &[],
    );
    let messages: Vec<_> = loaded
        .warnings
        .iter()
        .filter(|one| one.line().is_some())
        .map(|one| &one.message)
        .collect();
    assert_eq!(messages.len(), 2);
    assert!(
        messages
            .iter()
            .all(|message| message.starts_with("no effect here, because ")),
        "{messages:?}"
    );
}

#[test]
fn what_is_hardly_meant_is_warned_about() {
    for (text, keys) in [
        ("", &["email.server.host.and.port"][..]),
        (
            "email.server.host.and.port=http://mail.example",
            &["email.server.host.and.port"],
        ),
        (
            "email.server.host.and.port=http://127.0.0.1:1,http://[::1]:1,http://localhost,https://a",
            &[],
        ),
        (
            "email.server.host.and.port=a\news.email.server.host.and.port=http://b\nenable.boxer.ens.ews.proxy=true",
            &["ews.email.server.host.and.port"],
        ),
        (
            "email.server.host.and.port=a\nserver.trusted.proxies=10.0.0.0/8,::/0",
            &["server.trusted.proxies"],
        ),
        (
            "email.server.host.and.port=a\nserver.client.ca.path=x",
            &["server.client.ca.path"],
        ),
        (
            "email.server.host.and.port=a\nignore.ssl.errors.with.exchange=true\nenable.boxer.ens.ews.proxy=true",
            &["ignore.ssl.errors.with.exchange"],
        ),
    ] {
        assert_eq!(warned(&loaded(text, &[])), keys, "{text}");
    }
}

#[test]
fn twins_inherit_when_empty() {
    let config = config(
        "
        email.server.host.and.port=https://eas.example, https://eas2.example:8443
        email.server.timeout.response.seconds=11
        email.server.host.header=preserve
        email.server.client.certificate.path=c.pem
        email.server.client.private.key.path=k.pem
        ews.email.server.timeout.response.seconds=12
        ews.email.server.host.header=
        ews.ignore.ssl.errors.with.exchange=true
    ",
    );
    assert_eq!(config.ews.upstreams, config.eas.upstreams);
    assert_eq!(config.eas.upstreams.len(), 2);
    assert_eq!(config.eas.response_timeout, Duration::from_secs(11));
    assert_eq!(config.ews.response_timeout, Duration::from_secs(12));
    assert_eq!(config.ews.host_header, HostHeader::Preserve);
    assert_eq!(
        config.ews.tls.client_certificate,
        config.eas.tls.client_certificate
    );
    assert!(!config.eas.tls.ignore_errors && config.ews.tls.ignore_errors);
}

#[test]
fn an_empty_value_is_the_default() {
    let config = config("server.drain.seconds=\n");
    assert_eq!(config.server.drain, Duration::from_secs(30));
}

#[test]
fn one_key_sets_both_filters_and_the_higher_layer_wins() {
    let both = config("remove.unsupported.auth=false\n");
    assert!(!both.challenges.filter_eas && !both.challenges.filter_ews);
    let over = loaded(
        "remove.unsupported.auth.for.ews=false\n",
        &[("SEG_REMOVE_UNSUPPORTED_AUTH", "true")],
    )
    .config;
    assert!(over.challenges.filter_eas && over.challenges.filter_ews);
    let under = loaded(
        "remove.unsupported.auth=false\n",
        &[("SEG_REMOVE_UNSUPPORTED_AUTH_FOR_EAS", "true")],
    )
    .config;
    assert!(under.challenges.filter_eas && !under.challenges.filter_ews);
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let config = config("data.dir=store\ncompliance.policies.path=/abs/p.toml\n");
    assert_eq!(config.data_dir, Path::new("/etc/seg/store"));
    assert_eq!(
        config.admin.token_path,
        Path::new("/etc/seg/store/admin.token")
    );
    assert_eq!(config.compliance.policies_path, Path::new("/abs/p.toml"));
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "server.tls.pkcs12.path=a\nserver.tls.pkcs12.password=hunter2\noutbound.proxy.url=http://u:hunter2@p:1\n";
    let loaded = loaded(text, &[]);
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let refused = format!(
        "{:?}",
        problems_of("outbound.proxy.url=gopher://hunter2@p\n")
    );
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn changes_are_named_and_those_for_a_restart_too() {
    let old = config("server.listen=0.0.0.0:1\nemail.server.host.and.port=a\nroute.x.upstream=a\n");
    let new = config(
        "server.listen=0.0.0.0:2\nemail.server.host.and.port=b\nroute.x.upstream=b\nlog.level= info\n",
    );
    let changes = changed_keys(&old, &new);
    assert_eq!(
        changes.changed,
        [
            "server.listen",
            "email.server.host.and.port",
            "route.<name>.upstream"
        ]
    );
    assert_eq!(changes.restart_required, ["server.listen"]);
    assert_eq!(changed_keys(&old, &old), Changes::default());
    let same = changed_keys(
        &config(""),
        &config("log.level=\nserver.drain.seconds=30\n"),
    );
    assert_eq!(same, Changes::default(), "an empty value is the default");
    let parent = changed_keys(&config(""), &config("email.server.affinity=none\n"));
    assert_eq!(parent.changed, ["email.server.affinity"]);
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let missing = folder.path().join("missing.properties");
    let error = load(Some(&missing), std::iter::empty()).expect_err("missing");
    assert!(
        error.to_string().contains("missing.properties") && error.to_string().contains("--config"),
        "{error}"
    );
    let latin1 = folder.path().join("latin1.properties");
    std::fs::write(&latin1, b"# a\n# b\nlog.level=f\xfcr\n").expect("write");
    let error = load(Some(&latin1), std::iter::empty()).expect_err("not UTF-8");
    assert!(error.to_string().contains("line 3 is not UTF-8"), "{error}");
}

#[test]
fn every_default_is_possible_and_every_key_has_its_meaning() {
    for key in keys::all() {
        assert!(
            !key.meaning.is_empty() && !key.meaning.contains('\n'),
            "{}",
            key.name
        );
        assert_eq!(keys::find(key.name).map(|found| found.name), Some(key.name));
        for alias in key.aliases {
            assert_eq!(
                keys::find(alias).map(|found| found.name),
                Some(key.name),
                "{alias}"
            );
        }
        if let Some(parent) = key.inherits {
            assert!(
                keys::find(parent).is_some(),
                "{} inherits from nowhere",
                key.name
            );
        }
    }
    let mut variables: Vec<_> = keys::all().map(|key| keys::variable(key.name)).collect();
    let all = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(
        variables.len(),
        all,
        "two keys have the same environment variable"
    );
}

#[test]
fn the_example_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../application.properties.example");
    let text = std::fs::read_to_string(path).expect("application.properties.example");
    assert!(
        text == example(),
        "write it again: seg check --example > application.properties.example"
    );
    let from_example = config(&text);
    let changes = changed_keys(&config(""), &from_example);
    assert_eq!(changes.changed, Vec::<&str>::new());
    for key in keys::all() {
        assert!(
            text.lines()
                .any(|line| line == format!("{}={}", key.name, key.default)),
            "{}",
            key.name
        );
    }
}

#[test]
fn a_seg_v2_file_is_carried_over() {
    let old = "enable.boxer.ens.ews.proxy = true\nlog_level=5\nmade.up=a b\n";
    let migrated = migrate(old);
    assert_eq!((migrated.kept, migrated.dropped), (1, 2));
    assert!(config(&migrated.text).ews_enabled, "{}", migrated.text);
    assert!(
        migrated.text.contains("\n#log_level=5\n") && migrated.text.contains("\n#made.up=a b\n"),
        "{}",
        migrated.text
    );
}

#[test]
fn a_hostile_file_is_refused_in_its_time() {
    let unknown: String = (0..100_000).map(|n| format!("k{n}\n")).collect();
    let error = ConfigError::new(None, problems_of(&unknown));
    assert_eq!(error.problems.len() + error.omitted, 100_000);
    let named = |problem: &Problem| keys::find(problem.message.rsplit(' ').next()?);
    assert!(
        error
            .problems
            .iter()
            .all(|problem| named(problem).is_some()),
        "{error}"
    );
    let folder = tempfile::tempdir().expect("folder");
    let large = folder.path().join("large.properties");
    std::fs::write(&large, vec![b'#'; 1024 * 1024 + 1]).expect("write");
    let error = load(Some(&large), std::iter::empty()).expect_err("too large");
    assert!(error.to_string().contains("no properties file"), "{error}");
}

proptest::proptest! {
    /// Whatever is written for whatever key: refused or taken, never a panic.
    #[test]
    fn no_value_panics(
        index in 0..200_usize,
        value in "[a-z0-9.:/,=@\\[\\]{}<>* -]{0,40}|(https?://)?[a-z0-9.\\[\\]:@-]{0,30}(:[0-9]{0,6})?/?"
    ) {
        let rows: Vec<_> = keys::all().collect();
        let key = rows[index % rows.len()].name;
        let text = format!("{key}={value}\nroute.a.upstream={value}\nroute.a.host={value}\n");
        let env = [(keys::variable(key), value.clone()), (value.clone(), value)];
        let (loaded, problems) = from_text(&text, None, Path::new("/"), env.into_iter());
        proptest::prop_assert!(problems.is_empty() || !ConfigError::new(None, problems).to_string().is_empty());
        proptest::prop_assert!(changed_keys(&loaded.config, &loaded.config).changed.is_empty());
    }
}

#[test]
fn the_answers_of_the_decision_service_can_be_told_apart_in_what_netscaler_reads() {
    for (text, key) in [
        (
            "decision.answer.json.allow={\"verdict\":\"allow!!\"}\n",
            "decision.answer.json.allow",
        ),
        (
            "decision.answer.text.allow=ja\u{df}\n",
            "decision.answer.text.allow",
        ),
        // Who looks for `allow` would find it in the no, and the other way round.
        (
            "decision.answer.text.deny=disALLOW\n",
            "decision.answer.text.deny",
        ),
        (
            "decision.answer.text.allow=deny not\n",
            "decision.answer.text.deny",
        ),
        (
            "decision.answer.json.deny={\"result\":\"allow\"}\n",
            "decision.answer.json.deny",
        ),
    ] {
        let problems = problems_of(text);
        let keys: Vec<_> = problems
            .iter()
            .filter_map(|problem| problem.key.as_deref())
            .collect();
        assert_eq!(keys, [key], "{text}: {problems:?}");
    }
    let text = "decision.answer.text.allow=OK\ndecision.answer.text.deny=NO\n\
        decision.answer.json.allow={\"verdict\": \"allow\"}\n";
    let answers = config(text).decision.answers;
    assert_eq!((&*answers.text_allow, &*answers.text_deny), ("OK", "NO"));
    assert_eq!(answers.json_allow.len(), 20);
}
