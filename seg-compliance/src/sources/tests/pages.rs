//! Pages, links and changes: everything, or nothing.

use super::*;

/// A source of JSON whose pages follow each other by links.
fn linked(server: &StandIn) -> Definition {
    let text = format!(
        "{GENERIC}url=\"{}\"\nnext=\"$.next\"\ntries=1\n",
        server.url
    );
    definition(&text)
}

/// A source of JSON whose pages have numbers.
fn numbered(server: &StandIn, more: &str) -> Definition {
    let text = format!(
        "{GENERIC}url=\"{}\"\npages={{size=2}}\ntries=1\n{more}",
        server.url
    );
    definition(&text)
}

fn page(first: usize, count: usize) -> Vec<Value> {
    let device = |number| json!({"eas": format!("G{number}")});
    (first..first + count).map(device).collect()
}

#[test]
fn links_are_followed_relative_ones_too() {
    let server = StandIn::serving(|number, _| match number {
        0 => ok(&json!({"list": page(0, 2), "next": "/devices?after=2"})),
        1 => ok(&json!({"list": page(2, 2), "next": "/devices?after=4"})),
        _ => ok(&json!({"list": page(4, 1), "next": null})),
    });
    let (pulled, records) = pulled(&linked(&server), &nowhere()).unwrap();
    assert_eq!((pulled.items, records.len()), (5, 5));
    let seen = server.seen();
    assert!(seen[1].starts_with("GET /devices?after=2 "), "{seen:?}");
    assert!(seen[2].starts_with("GET /devices?after=4 "), "{seen:?}");
}

#[test]
fn pages_without_a_number_of_devices_are_read_until_one_is_empty() {
    // The system cuts pages shorter than they were asked for.
    let server = StandIn::serving(|number, _| match number {
        0..3 => ok(&json!({"list": page(number, 1)})),
        _ => ok(&json!({"list": []})),
    });
    let (pulled, records) = pulled(&numbered(&server, ""), &nowhere()).unwrap();
    assert_eq!((pulled.items, records.len()), (3, 3));
    let seen = server.seen();
    assert!(
        seen[3].starts_with("GET /devices?page=4&size=2 "),
        "{seen:?}"
    );
}

#[test]
fn a_source_that_would_be_read_for_ever_is_an_error() {
    let in_a_circle = StandIn::serving(|number, _| {
        let next = if number % 2 == 0 {
            "/devices?b"
        } else {
            "/devices"
        };
        ok(&json!({"list": page(number, 1), "next": next}))
    });
    let error = pulled(&linked(&in_a_circle), &nowhere())
        .unwrap_err()
        .to_string();
    assert!(error.contains("as a next page again"), "{error}");
    assert_eq!(in_a_circle.seen().len(), 2);

    let always_the_first = StandIn::serving(|_, _| ok(&json!({"list": page(0, 2), "all": 9})));
    for total in ["", "total=\"$.all\"\n"] {
        let source = numbered(&always_the_first, total);
        let error = pulled(&source, &nowhere()).unwrap_err().to_string();
        assert!(error.contains("parameter \"page\""), "{error}");
    }
    assert_eq!(always_the_first.seen().len(), 4);
}

/// Whatever becomes of the third page, nothing of the first two is told.
#[test]
fn what_breaks_off_on_its_third_page_is_an_error() {
    let html = "<html><body>Maintenance</body></html>";
    let thirds = [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"list\":[".to_owned(),
            "breaks off",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-le".to_owned(), "/devices"),
        (String::new(), "/devices"),
        (
            answer("200 OK", "content-type: text/html\r\n", html),
            "no JSON but text/html",
        ),
        (
            answer("200 OK", "", "{\"list\":[{\"eas\":\"G5\"}"),
            "EOF while parsing",
        ),
        (
            answer("200 OK", "", "{\"error\":\"busy\"}"),
            "not where `items` says",
        ),
        (
            answer("200 OK", "", "{\"list\":null}"),
            "not where `items` says",
        ),
        (
            answer("200 OK", "", "{\"list\":{}}"),
            "not where `items` says",
        ),
        (
            answer("200 OK", "", "{\"list\":[],\"all\":6}"),
            "has 6 devices, and gave 4",
        ),
        (
            answer("204 No Content", "", ""),
            "has 6 devices, and gave 4",
        ),
        (answer("500 Internal Server Error", "", ""), "answers 500"),
        (answer("403 Forbidden", "", ""), "answers 403"),
    ];
    for (third, why) in thirds {
        let last = third.clone();
        let server = StandIn::serving(move |number, _| match number {
            0 | 1 => ok(&json!({"list": page(2 * number, 2), "all": 6})),
            _ => last.clone(),
        });
        let source = numbered(&server, "total=\"$.all\"\n");
        let error = pulled(&source, &nowhere()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}\n{third}");
        assert_eq!(server.seen().len(), 3, "{third}");
    }
}

#[test]
fn a_token_that_runs_out_between_two_pages_is_renewed() {
    let device = |number: usize| {
        json!({"mobileDeviceId": number.to_string(), "deviceType": "iOS",
            "general": {"managed": true, "exchangeDeviceId": format!("J{number}")}})
    };
    let logins = Mutex::new(0);
    let jamf = StandIn::serving(move |_, head| {
        let mut logins = logins.lock().unwrap();
        if head.starts_with("POST /api/oauth/token") {
            *logins += 1;
            return ok(&json!({"access_token": format!("TOKEN{logins}"), "expires_in": 60}));
        }
        let (page, token) = match head {
            _ if head.contains("&page=0&page-size=1 ") => (0, "TOKEN1"),
            _ if head.contains("&page=1&page-size=1 ") => (1, "TOKEN2"),
            _ => (2, "TOKEN2"),
        };
        if !head.contains(&format!("Bearer {token}")) {
            return answer("401 Unauthorized", "", "");
        }
        ok(&json!({"totalCount": 3, "results": [device(page)]}))
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "[[source]]\nname=\"jamf\"\ntype=\"jamf\"\nurl=\"{}\"\nclient_id=\"app\"\nclient_secret=\"{}\"\n\
         requests_per_second=1000\npages={{size=1}}\ntries=1\n",
        jamf.url,
        secret(&folder, "jamf"),
    ));
    let (_, records) = pulled(&source, &nowhere()).unwrap();
    let ids: Vec<&Value> = records.iter().map(|record| &record["device_id"]).collect();
    assert_eq!(ids, ["J0", "J1", "J2"]);
    let seen = jamf.seen();
    let lines: Vec<&str> = seen
        .iter()
        .map(|head| head.split(['?', ' ']).next().unwrap())
        .collect();
    assert_eq!(
        lines,
        ["POST", "GET", "GET", "POST", "GET", "GET"],
        "{seen:?}"
    );
    // The page that was refused is asked for again, and none is left out.
    assert!(
        seen[2].contains("&page=1&") && seen[4].contains("&page=1&"),
        "{seen:?}"
    );
}

#[test]
fn a_login_that_is_never_taken_is_not_tried_for_ever() {
    let server = StandIn::serving(|_, head| {
        if head.starts_with("POST /token") {
            return ok(&json!({"access_token": "T"}));
        }
        answer("401 Unauthorized", "", "")
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "{GENERIC}url=\"{0}\"\ntoken_url=\"{0}/token\"\nclient_id=\"app\"\nclient_secret=\"{1}\"\n",
        server.url,
        secret(&folder, "client"),
    ));
    let error = pulled(&source, &nowhere()).unwrap_err().to_string();
    assert!(error.contains("refuses the login"), "{error}");
    assert_eq!(server.seen().len(), 4, "two logins, two refusals");
}

#[test]
fn a_delta_link_that_has_run_out_leads_to_the_list() {
    for status in ["410 Gone", "400 Bad Request", "404 Not Found"] {
        let own = Arc::new(Mutex::new(String::new()));
        let base = Arc::clone(&own);
        let graph = StandIn::serving(move |_, head| {
            let base = base.lock().unwrap().clone();
            if head.starts_with("POST /token") {
                return ok(&json!({"access_token": "TOKEN"}));
            }
            if head.contains("deltatoken=old") {
                let body = json!({"error": {"code": "syncStateNotFound", "message": "resync"}});
                return answer(status, "", &body.to_string());
            }
            ok(
                &json!({"value": [{"easDeviceId": "I1"}, {"easDeviceId": "I2"}],
                "@odata.deltaLink": format!("{base}/v1.0/d?$deltatoken=old")}),
            )
        });
        graph.url.clone_into(&mut own.lock().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("intune.state");
        let source = definition(&format!(
            "[[source]]\nname=\"intune\"\ntype=\"intune\"\nurl=\"{0}\"\ntoken_url=\"{0}/token\"\ndelta=true\n\
             client_id=\"app\"\nclient_secret=\"{1}\"\nrequests_per_second=1000\ntries=1\n",
            graph.url,
            secret(&folder, "client"),
        ));
        for _ in 0..2 {
            let (read, records) = pulled(&source, &state).unwrap();
            assert_eq!(
                (read.reading, records.len()),
                (Reading::Everything, 2),
                "{status}"
            );
            read.keep(&state).unwrap();
        }
        let asked = |part: &str| {
            graph
                .seen()
                .iter()
                .filter(|head| head.contains(part))
                .count()
        };
        assert_eq!(
            (asked("deltatoken=old"), asked("/delta ")),
            (1, 2),
            "{status}"
        );
    }
}

/// The changes of one tenant are none of another's, though both are asked at one address.
#[test]
fn another_definition_begins_anew() {
    let own = Arc::new(Mutex::new(String::new()));
    let base = Arc::clone(&own);
    let graph = StandIn::serving(move |_, head| {
        let base = base.lock().unwrap().clone();
        if head.starts_with("POST /token") {
            return ok(&json!({"access_token": "TOKEN"}));
        }
        ok(&json!({"value": [{"easDeviceId": "I1"}],
            "@odata.deltaLink": format!("{base}/v1.0/d?$deltatoken=1")}))
    });
    graph.url.clone_into(&mut own.lock().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("intune.state");
    let of = |client: &str| {
        definition(&format!(
            "[[source]]\nname=\"intune\"\ntype=\"intune\"\nurl=\"{0}\"\ntoken_url=\"{0}/token\"\ndelta=true\n\
             client_id=\"{client}\"\nclient_secret=\"{1}\"\nrequests_per_second=1000\n",
            graph.url,
            secret(&folder, "client"),
        ))
    };
    let reading = |client: &str| {
        let (read, _) = pulled(&of(client), &state).unwrap();
        read.keep(&state).unwrap();
        read.reading
    };
    assert_eq!(reading("one"), Reading::Everything);
    assert_eq!(reading("one"), Reading::Changes);
    assert_eq!(reading("two"), Reading::Everything);
    assert_eq!(reading("two"), Reading::Changes);
    std::fs::write(&state, "{\"link\":").unwrap();
    assert_eq!(reading("two"), Reading::Everything, "half a state is none");
}
